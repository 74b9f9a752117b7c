"""Which candidates are near which atoms of a large structure: bins in space, and a list for the atoms of each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.native.candidates import middle
from forcefoundry.pairs.native.compiling import compiled
from forcefoundry.pairs.native.lanes import LANES, get, lowest, put
from forcefoundry.pairs.native.rows import close_off, decide, pick

PER_BIN = 24
"""Atoms a bin, about: many atoms share the work of listing what is near them, few leave much of the list too far."""


class Grid(NamedTuple):
    """Bins of a structure: `edges` (3,) Å, `shape` (3,), `reaches` (3,) bins that the cutoff can span.

    starts: (bins + 2,) where the candidates of a bin start in `members`; x, y, z: (m,) their coordinates, Å.
    """

    edges: Any
    shape: Any
    reaches: Any
    starts: Any
    members: Any
    x: Any
    y: Any
    z: Any


@compiled
def shape_of(n, m, bounds, within, edges, shape, reaches):
    """Choose edges (Å), number and reach (bins) of the bins along each axis for n atoms and m candidates."""
    volume = 1.0
    for a in range(3):
        volume *= max(bounds[1, a] - bounds[0, a], within * 0.1)
    edge = max((volume * PER_BIN / n) ** (1.0 / 3.0), within * 0.25)
    for a in range(3):
        span = bounds[1, a] - bounds[0, a]
        edges[a] = max(span / max(math.floor(min(span / edge, 2.0e6)), 1.0), edge)
    while True:
        bins = 1.0
        longest = 0
        for a in range(3):
            reaches[a] = math.ceil(within / edges[a] + 1e-6)
            shape[a] = math.floor((bounds[1, a] - bounds[0, a]) / edges[a]) + 1 + 2 * reaches[a]
            bins *= shape[a]
            longest = a if shape[a] > shape[longest] else longest
        if bins <= 8.0 * m + 512.0:
            return
        # Atoms far apart in an open system: bins grow until their number follows the atoms' again.
        edges[longest] *= 2.0


@compiled
def bin_along(at, half, edge, shape, reach):
    """The bin of a coordinate relative to the middle, along one axis."""
    return min(max(math.floor((at + half) / edge) + reach, 0), shape - 1)


@compiled
def fill(m, bounds, found, edges, shape, reaches):
    """Sort m candidates into bins, keeping their order within each."""
    half0 = 0.5 * (bounds[1, 0] - bounds[0, 0])
    half1 = 0.5 * (bounds[1, 1] - bounds[0, 1])
    half2 = 0.5 * (bounds[1, 2] - bounds[0, 2])
    n_bins = shape[0] * shape[1] * shape[2]
    starts, bin_of = np.zeros(n_bins + 2, np.int64), np.empty(m, np.int64)
    for k in range(m):
        at = bin_along(found.x[k], half0, edges[0], shape[0], reaches[0])
        at = at * shape[1] + bin_along(found.y[k], half1, edges[1], shape[1], reaches[1])
        at = at * shape[2] + bin_along(found.z[k], half2, edges[2], shape[2], reaches[2])
        put(bin_of, k, at)
        put(starts, at + 2, get(starts, at + 2) + 1)
    for at in range(n_bins + 1):
        starts[at + 1] += starts[at]
    # Bin b's place is kept in starts[b + 1], which ends up where bin b + 1 starts.
    members = np.empty(m, np.int64)
    x, y, z = np.empty(m, np.float32), np.empty(m, np.float32), np.empty(m, np.float32)
    for k in range(m):
        at = get(bin_of, k) + 1
        to = get(starts, at)
        put(starts, at, to + 1)
        put(members, to, k)
        put(x, to, get(found.x, k))
        put(y, to, get(found.y, k))
        put(z, to, get(found.z, k))
    return Grid(edges, shape, reaches, starts, members, x, y, z)


@compiled
def mark(grid, b0, b1, b2, box, within, words, summary):
    """Set the bits of all candidates that lie within `within` Å of a box (2, 3) in bin (b0, b1, b2)."""
    square = np.float32(within * within)
    x0, y0, z0 = middle(box, 0), middle(box, 1), middle(box, 2)
    mid0, mid1, mid2 = np.float32(x0), np.float32(y0), np.float32(z0)
    half0, half1, half2 = np.float32(box[1, 0] - x0), np.float32(box[1, 1] - y0), np.float32(box[1, 2] - z0)
    shape, reaches, starts = grid.shape, grid.reaches, grid.starts
    last2 = min(b2 + reaches[2] + 1, shape[2])
    first2 = max(b2 - reaches[2], 0)
    zero = np.float32(0.0)
    for c0 in range(max(b0 - reaches[0], 0), min(b0 + reaches[0] + 1, shape[0])):
        for c1 in range(max(b1 - reaches[1], 0), min(b1 + reaches[1] + 1, shape[1])):
            row = (c0 * shape[1] + c1) * shape[2]
            for to in range(starts[row + first2], starts[row + last2]):
                beyond0 = max(abs(get(grid.x, to) - mid0) - half0, zero)
                beyond1 = max(abs(get(grid.y, to) - mid1) - half1, zero)
                beyond2 = max(abs(get(grid.z, to) - mid2) - half2, zero)
                inside = np.uint64(beyond0 * beyond0 + beyond1 * beyond1 + beyond2 * beyond2 < square)
                k = get(grid.members, to)
                put(words, k >> 6, get(words, k >> 6) | inside << np.uint64(k & 63))
                put(summary, k >> 12, get(summary, k >> 12) | inside << np.uint64((k >> 6) & 63))


@compiled
def collect(words, summary, found, listed, x, y, z, place):
    """List the marked candidates in their order, with their coordinates, and clear the marks.

    place: (m,) where in the list each of them stands. Gives their number.
    """
    n = 0
    for block in range(len(summary)):
        blocks = summary[block]
        summary[block] = 0
        while blocks != 0:
            word = (block << 6) + np.int64(lowest(blocks))
            blocks &= blocks - np.uint64(1)
            bits = get(words, word)
            put(words, word, np.uint64(0))
            while bits != 0:
                k = (word << 6) + np.int64(lowest(bits))
                bits &= bits - np.uint64(1)
                put(listed, n, k)
                put(place, k, n)
                put(x, n, get(found.x, k))
                put(y, n, get(found.y, k))
                put(z, n, get(found.z, k))
                n += 1
    return n


@compiled
def by_bins(grid, n, home):
    """The atoms at home, sorted by bin, and where each bin's start."""
    n_bins = len(grid.starts) - 2
    starts = np.zeros(n_bins + 1, np.int64)
    atoms = np.empty(n, np.int64)
    atom_of = np.empty(len(grid.members), np.int64)
    for k in range(len(atom_of)):
        atom_of[k] = -1
    for i in range(n):
        atom_of[home.at[i]] = i
    n_atoms = 0
    for b in range(n_bins):
        for to in range(grid.starts[b], grid.starts[b + 1]):
            if atom_of[grid.members[to]] >= 0:
                atoms[n_atoms] = atom_of[grid.members[to]]
                n_atoms += 1
        starts[b + 1] = n_atoms
    return atoms, starts


@compiled
def around(atoms, first, last, home, found, box):
    """The box (2, 3) around atoms first ... last - 1 of a list."""
    for a in range(3):
        along = found.x if a == 0 else (found.y if a == 1 else found.z)
        low, high = np.inf, -np.inf
        for at in range(first, last):
            here = np.float64(along[home.at[atoms[at]]])
            low, high = min(low, here), max(high, here)
        box[0, a], box[1, a] = low, high


@compiled
def rows_by_bins(positions, start, n, cutoff, within, least, sure, most, home, found, m, hits, counts, row0):
    """Try the atoms of each bin against the candidates near the bin.

    Gives (atom, other) in one place, else other = -1; the candidates near each atom, and where each atom's start.
    """
    edges, shape, reaches = np.empty(3), np.empty(3, np.int64), np.empty(3, np.int64)
    shape_of(n, m, home.bounds, within, edges, shape, reaches)
    grid = fill(m, home.bounds, found, edges, shape, reaches)
    atoms, starts = by_bins(grid, n, home)
    words, summary = np.zeros((m >> 6) + 1, np.uint64), np.zeros((m >> 12) + 1, np.uint64)
    listed, place = np.empty(m, np.uint32), np.empty(m, np.int64)
    x, y, z = np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32)
    box = np.empty((2, 3))
    raw, rows = np.empty(32 * n + 64, np.uint32), np.empty(n, np.int64)
    used = 0
    for b in range(len(starts) - 1):
        if starts[b] == starts[b + 1]:
            continue
        around(atoms, starts[b], starts[b + 1], home, found, box)
        b0, b1, b2 = b // (shape[2] * shape[1]), (b // shape[2]) % shape[1], b % shape[2]
        mark(grid, b0, b1, b2, box, within, words, summary)
        last = collect(words, summary, found, listed, x, y, z, place)
        close_off(x, y, z, last)
        room = used + last * (starts[b + 1] - starts[b])
        if room > len(raw):
            larger = np.empty(len(raw) + room, np.uint32)
            for at in range(used):
                larger[at] = raw[at]
            raw = larger
        for at in range(starts[b], starts[b + 1]):
            i = atoms[at]
            k = place[home.at[i]]
            near, doubt = pick(x, y, z, k + 1, last, x[k], y[k], z[k], least, sure, most, hits)
            for hit in range(near):
                put(hits, hit, get(listed, get(hits, hit)))
            if doubt:
                near = decide(positions, i, start, home, cutoff, found, hits, near)
                if near < 0:
                    return i, -1 - near, raw, rows
            for hit in range(near):
                put(raw, used + hit, get(hits, hit))
            counts[row0 + i], rows[i] = near, used
            used += near
    return 0, -1, raw, rows
