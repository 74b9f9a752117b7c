"""Which candidates are near which atoms of a large structure: bins in space, and a list for the atoms of each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, inlined, making
from forcefoundry.pairs.native.home import middle
from forcefoundry.pairs.native.lanes import EIGHT, LANES, PLACES, first_lanes, get, lowest, put
from forcefoundry.pairs.native.near import beside, list_near
from forcefoundry.pairs.native.rows import close_off, decide, encode, moves, pick, pick_codes

PER_BIN = 40
"""Atoms a bin, about: many atoms share the work of listing what is near them, few leave much of the list too far."""

LARGEST_EDGE = 4.0
"""Cutoffs. Bins are no wider, unless there would be too many of them."""

SWEPT = 8192
"""Candidates up to which all of them are asked whether they are near a bin."""

SAMPLE = 1024
"""Atoms that tell where most of them are, about."""


class Grid(NamedTuple):
    """Bins of a structure: `edges` (3,) Å, `shape` (3,), `reaches` (3,) bins that the cutoff can span.

    starts: (bins + 2,) where the candidates of a bin start in `members`; x, y, z: (m + LANES,) their coordinates, Å.
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
def best_edge(n, bounds, within):
    """The edge (Å) of cubic bins that would hold `PER_BIN` of n atoms each, if these fill their box evenly."""
    volume = 1.0
    for a in range(3):
        volume *= max(bounds[1, a] - bounds[0, a], within * 0.1)
    return max((volume * PER_BIN / n) ** (1.0 / 3.0), within * 0.25)


@making
def crowd(n, bounds, within, home):
    """The box (2, 3), Å, that is divided into bins: that around all atoms, or, where it is mostly empty, most of them.

    One atom far away would else have all others share a bin. What lies outside goes to the outermost bins.
    """
    box = bounds[:2].copy()
    if best_edge(n, bounds, within) <= LARGEST_EDGE * within:
        return box
    step = n // SAMPLE + 1
    for a in range(3):
        here = np.sort((home.x if a == 0 else (home.y if a == 1 else home.z))[:n:step])
        few = len(here) // 64
        low, high = here[few], here[len(here) - 1 - few]
        beside = 0.25 * (high - low) + within
        box[0, a], box[1, a] = max(box[0, a], low - beside), min(box[1, a], high + beside)
    return box


@compiled
def shape_of(n, m, bounds, within, edges, shape, reaches):
    """Choose edges (Å), number and reach (bins) of the bins along each axis of a box for n atoms and m candidates."""
    # Bins much wider than the cutoff help nobody: those between atoms far apart may as well be empty.
    edge = min(best_edge(n, bounds, within), LARGEST_EDGE * within)
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
def bin_along(at, low, upright, shape, reach):
    """The bin of a coordinate, along one axis whose bins start at `low`; the outermost hold all that lies beyond.

    upright: bins an Å.

    So the bins of two places lie no farther apart than those of the same places would if bins went on for ever.
    """
    return np.int64(min(max(np.floor((at - low) * upright) + reach, 0.0), shape - 1.0))


@making
def fill(m, box, bounds, found, edges, shape, reaches):
    """Sort m candidates into the bins of a box, keeping their order within each."""
    low0, low1, low2 = box[0, 0] - middle(bounds, 0), box[0, 1] - middle(bounds, 1), box[0, 2] - middle(bounds, 2)
    upright0, upright1, upright2 = 1.0 / edges[0], 1.0 / edges[1], 1.0 / edges[2]
    shape0, shape1, shape2 = shape[0], shape[1], shape[2]
    reach0, reach1, reach2 = reaches[0], reaches[1], reaches[2]
    n_bins = shape0 * shape1 * shape2
    starts, bin_of = np.zeros(n_bins + 2, np.int64), np.empty(m, np.int64)
    for k in range(m):
        at = bin_along(get(found.x, k), low0, upright0, shape0, reach0)
        at = at * shape1 + bin_along(get(found.y, k), low1, upright1, shape1, reach1)
        at = at * shape2 + bin_along(get(found.z, k), low2, upright2, shape2, reach2)
        put(bin_of, k, at)
        put(starts, at + 2, get(starts, at + 2) + 1)
    for at in range(n_bins + 1):
        starts[at + 1] += starts[at]
    # Bin b's place is kept in starts[b + 1], which ends up where bin b + 1 starts.
    members = np.empty(m, np.int64)
    x, y, z = np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32)
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
def mark(grid, b0, b1, b2, box, within, words, touched):
    """Set the bits of all candidates that lie within `within` Å of a box (2, 3) in bin (b0, b1, b2).

    touched: a byte for each word, which becomes 1: to write it waits for nothing.
    """
    square = np.float32(within * within)
    x0, y0, z0 = middle(box, 0), middle(box, 1), middle(box, 2)
    mid0, mid1, mid2 = np.float32(-x0), np.float32(-y0), np.float32(-z0)
    half0, half1, half2 = np.float32(box[1, 0] - x0), np.float32(box[1, 1] - y0), np.float32(box[1, 2] - z0)
    shape, reaches, starts = grid.shape, grid.reaches, grid.starts
    last2 = min(b2 + reaches[2] + 1, shape[2])
    first2 = max(b2 - reaches[2], 0)
    for c0 in range(max(b0 - reaches[0], 0), min(b0 + reaches[0] + 1, shape[0])):
        for c1 in range(max(b1 - reaches[1], 0), min(b1 + reaches[1] + 1, shape[1])):
            row = (c0 * shape[1] + c1) * shape[2]
            last = starts[row + last2]
            for to in range(starts[row + first2], last, EIGHT):
                bits = beside(grid.x, grid.y, grid.z, to, mid0, mid1, mid2, half0, half1, half2, square)
                bits &= first_lanes(last - to)
                while bits != 0:
                    k = get(grid.members, to + np.int64(lowest(bits)))
                    bits &= bits - np.uint32(1)
                    put(words, k >> 6, get(words, k >> 6) | np.uint64(1) << np.uint64(k & 63))
                    put(touched, k >> 6, np.uint8(1))


class Near(NamedTuple):
    """Scratch for the candidates near a bin, in their order.

    listed: (m + LANES,) uint32, which they are; x, y, z: (m + LANES,) float32 Å and code: (m + LANES,) uint32, those of
    `Candidates`; place: (m,) where in the list a candidate stands.
    """

    listed: Any
    x: Any
    y: Any
    z: Any
    code: Any
    place: Any


@compiled
def collect(words, touched, found, near):
    """List the marked candidates, and clear the marks. touched: its bytes, eight in a number. Gives their number."""
    x, y, z, code, listed, place = near.x, near.y, near.z, near.code, near.listed, near.place
    n = 0
    for block in range(len(touched)):
        blocks = touched[block]
        touched[block] = 0
        while blocks != 0:
            word = (block << 3) + (np.int64(lowest(blocks)) >> 3)
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
                put(code, n, get(found.code, k))
                n += 1
    return n


@compiled
def sweep(found, m, box, within, near):
    """List those of m candidates that lie within `within` Å of a box (2, 3), asking all of them; gives their number."""
    x0, y0, z0 = middle(box, 0), middle(box, 1), middle(box, 2)
    half0, half1, half2 = np.float32(box[1, 0] - x0), np.float32(box[1, 1] - y0), np.float32(box[1, 2] - z0)
    n = list_near(
        found.x, found.y, found.z, found.code, m, np.float32(-x0), np.float32(-y0), np.float32(-z0),
        half0, half1, half2, np.float32(within * within), PLACES, near.x, near.y, near.z, near.code, near.listed,
    )  # fmt: skip
    for at in range(n):
        put(near.place, np.int64(get(near.listed, at)), at)
    return n


@making
def by_bins(n, box, bounds, home, found, edges, shape, reaches):
    """The atoms at home, sorted by bin, and where each bin's start."""
    low0, low1, low2 = box[0, 0] - middle(bounds, 0), box[0, 1] - middle(bounds, 1), box[0, 2] - middle(bounds, 2)
    n_bins = shape[0] * shape[1] * shape[2]
    starts, bin_of, atoms = np.zeros(n_bins + 2, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        k = get(home.at, i)
        b = bin_along(get(found.x, k), low0, 1.0 / edges[0], shape[0], reaches[0])
        b = b * shape[1] + bin_along(get(found.y, k), low1, 1.0 / edges[1], shape[1], reaches[1])
        b = b * shape[2] + bin_along(get(found.z, k), low2, 1.0 / edges[2], shape[2], reaches[2])
        put(bin_of, i, b)
        put(starts, b + 2, get(starts, b + 2) + 1)
    for b in range(n_bins):
        starts[b + 2] += starts[b + 1]
    for i in range(n):
        b = get(bin_of, i) + 1
        put(atoms, get(starts, b), i)
        put(starts, b, get(starts, b) + 1)
    return atoms, starts[: n_bins + 1]


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


@making
def more_room(raw, used, more):
    """The first `used` numbers in an array with room for `more`, and for as many again as there were."""
    larger = np.empty(2 * len(raw) + more, np.uint32)
    for at in range(used):
        larger[at] = raw[at]
    return larger


@inlined
def rows_of_bin(
    positions,
    start,
    cutoff,
    least,
    sure,
    most,
    home,
    found,
    near,
    last,
    atoms,
    at,
    end,
    narrow,
    counts,
    raw,
    rows,
    used,
):
    """Try atoms number at ... end - 1 of a list against what is near their bin, as long as there is room for the pairs.

    Gives the number to go on with, and the atom in one place with the last that was tried, else -1.
    """
    x, y, z = near.x, near.y, near.z
    while at < end:
        i = get(atoms, at)
        k = get(near.place, get(home.at, i))
        to = used[0]
        if to + (last - k) + LANES > len(raw):
            return at, -1
        n, doubt, own = 0, True, moves(i, home)
        if narrow:
            n, doubt = pick_codes(x, y, z, near.code, k + 1, last, x[k], y[k], z[k], least, sure, most, own, raw, to)
        if doubt:
            hits = found.near
            n, doubt = pick(x, y, z, k + 1, last, x[k], y[k], z[k], least, sure, most, hits)
            for hit in range(n):
                put(hits, hit, get(near.listed, get(hits, hit)))
            if doubt:
                n = decide(positions, i, start, home, cutoff, found, hits, n)
            if n < 0:
                return at, -1 - n
            if narrow:
                encode(hits, n, found.code, own, raw, to)
            else:
                for hit in range(n):
                    put(raw, to + hit, get(hits, hit))
        put(counts, start + i, n)
        put(rows, i, to)
        used[0] = to + n
        at += 1
    return at, -1


@making
def rows_by_bins(positions, start, n, cutoff, within, least, sure, most, home, found, m, narrow, counts):
    """Try the atoms of each bin against the candidates near the bin.

    Gives (atom, other) in one place, else other = -1; the codes of what is near each atom, or, unless all are `narrow`,
    which candidates these are; and where each atom's start.
    """
    edges, shape, reaches = np.empty(3), np.empty(3, np.int64), np.empty(3, np.int64)
    core = crowd(n, home.bounds, within, home)
    shape_of(n, m, core, within, edges, shape, reaches)
    atoms, starts = by_bins(n, core, home.bounds, home, found, edges, shape, reaches)
    # Of so few candidates it takes longer to tell which bins they are in than to ask each of them.
    few = m <= SWEPT
    grid = fill(0 if few else m, core, home.bounds, found, edges, shape, reaches)
    words, touched = np.zeros((m >> 6) + 1, np.uint64), np.zeros(8 * ((m >> 9) + 1), np.uint8)
    eights = touched.view(np.uint64)
    listed, place, code = np.empty(m + LANES, np.uint32), np.empty(m, np.int64), np.empty(m + LANES, np.uint32)
    x, y, z = np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32)
    box = np.empty((2, 3))
    raw, rows, used = np.empty(32 * n + 64, np.uint32), np.empty(n, np.int64), np.zeros(1, np.int64)
    near = Near(listed, x, y, z, code, place)
    for b in range(len(starts) - 1):
        if starts[b] == starts[b + 1]:
            continue
        around(atoms, starts[b], starts[b + 1], home, found, box)
        if few:
            last = sweep(found, m, box, within, near)
        else:
            b0, b1, b2 = b // (shape[2] * shape[1]), (b // shape[2]) % shape[1], b % shape[2]
            mark(grid, b0, b1, b2, box, within, words, touched)
            last = collect(words, eights, found, near)
        close_off(x, y, z, last)
        at, end = starts[b], starts[b + 1]
        while at < end:
            at, other = rows_of_bin(
                positions, start, cutoff, least, sure, most,
                home, found, near, last, atoms, at, end, narrow, counts, raw, rows, used,
            )  # fmt: skip
            if other >= 0:
                return atoms[at], other, raw, rows
            if at < end:
                raw = more_room(raw, used[0], last + LANES)
    return 0, -1, raw, rows
