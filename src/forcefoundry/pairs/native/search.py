"""The pairs of a batch of structures, each once: the canonical half, packed, in the contract's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from forcefoundry.pairs.contract import LARGEST
from forcefoundry.pairs.native import candidates as of
from forcefoundry.pairs.native.bins import rows_by_bins
from forcefoundry.pairs.native.cells import measure
from forcefoundry.pairs.native.compiling import compiled, inlined, kept, making
from forcefoundry.pairs.native.home import home_in, prepare
from forcefoundry.pairs.native.lanes import LANES, get, put
from forcefoundry.pairs.native.rows import close_off, decide, encode, limits, more_codes, moves, pick, pick_codes

FINE, IN_ONE_PLACE, FAR_FROM_HOME, TOO_MANY, TOO_SMALL, SUSPICIOUS = 0, 1, 2, 3, 4, 5
"""What can go wrong."""

MORE_CANDIDATES, MORE_PAIRS, BINS = 6, 7, 8
"""What can be missing: room for candidates, room for pairs, bins."""

BINS_FROM = 1600
"""Candidates from which on bins in space are worth their making."""


@compiled
def encode_wide(hits, first, n, i, home, found, codes, wide, used):
    """Write the codes of an atom's hits first ... first + n - 1; pairs that fit none get code 0 and go to `wide`."""
    wraps = home.wraps
    for hit in range(n):
        k = hits[first + hit]
        j, m0, m1, m2 = of.origin_of(found, k)
        S0, S1, S2 = m0 - wraps[j, 0] + wraps[i, 0], m1 - wraps[j, 1] + wraps[i, 1], m2 - wraps[j, 2] + wraps[i, 2]
        if j <= of.LARGEST_J and abs(S0) <= of.LARGEST_S and abs(S1) <= of.LARGEST_S and abs(S2) <= of.LARGEST_S:
            codes[used[0] + hit] = of.packed_shift(j, S0, S1, S2)
        else:
            codes[used[0] + hit] = 0
            w = used[1]
            wide[w, 0], wide[w, 1], wide[w, 2], wide[w, 3] = j, S0, S1, S2
            used[1] = w + 1


@inlined
def rows_of_all(
    positions, start, i, n, cutoff, least, sure, most, home, found, m, hits, narrow, counts, row0, codes, wide, used
):
    """Try atoms from i on against every candidate behind them, as long as there is room for their pairs.

    Gives the atom to go on with, and the atom in one place with the last that was tried, else -1.
    """
    x, y, z, code, at = found.x, found.y, found.z, found.code, home.at
    codes_room, wide_room = len(codes) - LANES, len(wide)
    while i < n:
        k = get(at, i)
        if used[0] + (m - k) > codes_room or (not narrow and used[1] + (m - k) > wide_room):
            return i, -1
        near, doubt, own = 0, True, moves(i, home)
        if narrow:
            near, doubt = pick_codes(
                x, y, z, code, k + 1, m, get(x, k), get(y, k), get(z, k), least, sure, most, own, codes, used[0]
            )
        if doubt:
            near, doubt = pick(x, y, z, k + 1, m, get(x, k), get(y, k), get(z, k), least, sure, most, hits)
            if doubt:
                near = decide(positions, i, start, home, cutoff, found, hits, near)
            if near < 0:
                return i, -1 - near
            if narrow:
                encode(hits, near, code, own, codes, used[0])
            else:
                encode_wide(hits, np.int64(0), near, i, home, found, codes, wide, used)
        put(counts, row0 + i, near)
        used[0] += near
        i += 1
    return i, -1


@compiled
def encode_rows(i, n, home, found, raw, rows, narrow, counts, row0, codes, wide, used):
    """Encode rows that were found out of order, from atom i on, as long as there is room; the atom to go on with."""
    while i < n:
        near = np.int64(counts[row0 + i])
        if used[0] + near > len(codes) or (not narrow and used[1] + near > len(wide)):
            return i
        if narrow:
            first = rows[i]
            for hit in range(near):
                put(codes, used[0] + hit, get(raw, first + hit))
        else:
            encode_wide(raw, rows[i], near, i, home, found, codes, wide, used)
        used[0] += near
        i += 1
    return i


@making
def more_wide(wide, used, more):
    """The wide pairs in an array with room for `more`."""
    larger = np.empty((2 * len(wide) + more, 4), np.int32)
    for at in range(used):
        for c in range(4):
            larger[at, c] = wide[at, c]
    return larger


@making
def more_room(codes, wide, used, more):
    """Codes and wide pairs in arrays with room for `more` than are used of them."""
    if used[0] + more > len(codes):
        codes = more_codes(codes, used[0], more)
    if used[1] + more > len(wide):
        wide = more_wide(wide, used[1], more)
    return codes, wide


@compiled
def without_bins(
    positions, cell, pbc, cutoff, offsets, s, i, last, counts, pair_ends, wide_ends,
    home, found, codes, wide, used,
):  # fmt: skip
    """Find the pairs of structures up to `last` - 1, from atom i of structure s on, until something is missing.

    Gives what that is, or what went wrong, else `FINE`; the structure and the atom; a number, which is how many
    candidates there can be or, for more pairs and bins, are, or another atom; and the error and range of `prepare`.
    """
    while s < last:
        start, n = offsets[s], offsets[s + 1] - offsets[s]
        if n > 0:
            expected, error, within = prepare(positions, start, n, cell, pbc, s, cutoff, home)
            if expected < 0.0:
                return FAR_FROM_HOME, s, np.int64(-1.0 - expected), 0, error, within
            if expected > 2.0**31 - 64.0:
                return TOO_SMALL if expected == np.inf else TOO_MANY, s, 0, 0, error, within
            m = np.int64(expected)
            if m + LANES > len(found.code) or m // n + LANES > len(found.codes):
                return MORE_CANDIDATES, s, i, m, error, within
            is_open = not (pbc[s, 0] or pbc[s, 1] or pbc[s, 2])
            m = of.list_open(n, home, found) if is_open else of.list_images(n, within, home, found)
            if m >= BINS_FROM:
                return BINS, s, i, m, error, within
            narrow = of.is_narrow(n, pbc, s, home)
            least, sure, most = limits(cutoff, error)
            close_off(found.x, found.y, found.z, m)
            i, near = rows_of_all(
                positions, start, i, n, cutoff, least, sure, most,
                home, found, m, found.near, narrow, counts, start, codes, wide, used,
            )  # fmt: skip
            if near >= 0:
                return IN_ONE_PLACE, s, i, near, error, within
            if i < n:
                return MORE_PAIRS, s, i, m, error, within
        s, i = s + 1, 0
        put(pair_ends, s, used[0])
        put(wide_ends, s, used[1])
    return FINE, s, 0, 0, 0.0, 0.0


@inlined
def is_suspicious(positions, cell, pbc, offsets, s, vectors, inverse):
    """Whether a structure has numbers that are not finite or too large, or a flat cell. The last two are scratch."""
    total = 0.0
    for i in range(offsets[s], offsets[s + 1]):
        total += abs(positions[i, 0]) + abs(positions[i, 1]) + abs(positions[i, 2])
    flag = not total <= LARGEST
    if pbc[s, 0] or pbc[s, 1] or pbc[s, 2]:
        flag |= not (measure(cell, pbc, s, vectors, inverse) > 1e-6)
        for a in range(3):
            flag |= not abs(vectors[a, 0]) + abs(vectors[a, 1]) + abs(vectors[a, 2]) <= LARGEST
    return flag


@compiled
def first_suspicious(positions, cell, pbc, offsets, first, last, vectors, inverse):
    """The first of structures first ... last - 1 that is suspicious, or `last`. The last two are scratch."""
    for s in range(first, last):
        if is_suspicious(positions, cell, pbc, offsets, s, vectors, inverse):
            return s
    return last


@making
def search(
    positions, cell, pbc, cutoff, offsets, first, last, careful, counts, pair_ends, wide_ends, used,
    home_floats, home_ints, found_floats, found_ints, codes, wide,
):  # fmt: skip
    """Find the canonical half of the pairs of structures first ... last - 1.

    Fills counts (N,) int32, the pairs of each atom. The other arrays are room to work in, of any size: codes, uint32,
    and wide (w, 4), int32, take what is found behind the `used[0]` and `used[1]` that they hold; where those of
    structure s end becomes pair_ends[s + 1] and wide_ends[s + 1]. careful: be SUSPICIOUS first of what `suspicious` is.
    Gives what went wrong, (problem, structure, atom, other), and the room, larger where it had to be.
    """
    if careful:
        s = first_suspicious(positions, cell, pbc, offsets, first, last, np.empty((3, 3)), np.empty((3, 3)))
        if s < last:
            return (SUSPICIOUS, s, 0, 0), home_floats, home_ints, found_floats, found_ints, codes, wide
    largest = 0
    for s in range(first, last):
        largest = max(largest, offsets[s + 1] - offsets[s])
    home, home_floats, home_ints = home_in(home_floats, home_ints, largest)
    found, found_floats, found_ints = of.candidates_in(found_floats, found_ints, 27 * largest, 64)
    s, i = first, 0
    while True:
        what, s, i, m, error, within = without_bins(
            positions, cell, pbc, cutoff, offsets, s, i, last, counts, pair_ends, wide_ends,
            home, found, codes, wide, used,
        )  # fmt: skip
        n = offsets[s + 1] - offsets[s] if s < last else 0
        if what == MORE_CANDIDATES:
            k, room = m // n, max(m + m // 4, 27 * largest)
            found, found_floats, found_ints = of.candidates_in(found_floats, found_ints, room, k + k // 4)
        elif what == MORE_PAIRS:
            codes, wide = more_room(codes, wide, used, m + LANES)
        elif what == BINS:
            start, narrow = offsets[s], of.is_narrow(n, pbc, s, home)
            least, sure, most = limits(cutoff, error)
            i, m, raw, rows = rows_by_bins(
                positions, start, n, cutoff, within, least, sure, most, home, found, m, narrow, counts
            )
            if m >= 0:
                what = IN_ONE_PLACE
                break
            while i < n:
                i = encode_rows(i, n, home, found, raw, rows, narrow, counts, start, codes, wide, used)
                if i < n:
                    codes, wide = more_room(codes, wide, used, np.int64(counts[start + i]))
            s, i = s + 1, 0
            pair_ends[s], wide_ends[s] = used[0], used[1]
        else:
            break
    return (what, s, i, m), home_floats, home_ints, found_floats, found_ints, codes, wide


def _make_suspicious(version: int) -> Callable[..., Any]:
    def suspicious(positions, cell, pbc, offsets):
        """Which structures must be looked into: for numbers that are not finite or too large, or a cell so flat."""
        _ = version
        flags = np.zeros(len(offsets) - 1, np.bool_)
        vectors, inverse = np.empty((3, 3)), np.empty((3, 3))
        for s in range(len(flags)):
            flags[s] = is_suspicious(positions, cell, pbc, offsets, s, vectors, inverse)
        return flags

    return suspicious


suspicious = kept(_make_suspicious)
