"""Which candidates are near which atoms of a large structure: a list for the atoms of each bin."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, inlined, making
from forcefoundry.pairs.native.grid import by_bins, crowd, fill, shape_of
from forcefoundry.pairs.native.home import middle
from forcefoundry.pairs.native.lanes import EIGHT, LANES, PLACES, first_lanes, get, lowest, put
from forcefoundry.pairs.native.near import beside, list_near
from forcefoundry.pairs.native.rows import close_off, decide, encode, more_codes, moves, pick, pick_codes

SWEPT = 8192
"""Candidates up to which all of them are asked whether they are near a bin."""


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
                raw = more_codes(raw, used[0], last + LANES)
    return 0, -1, raw, rows
