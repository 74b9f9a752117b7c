"""The pairs of a batch of structures, each once: the canonical half, packed, in the contract's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from forcefoundry.pairs.native import candidates as of
from forcefoundry.pairs.native.bins import rows_by_bins
from forcefoundry.pairs.native.compiling import compiled, inlined, kept
from forcefoundry.pairs.native.lanes import LANES, get, put
from forcefoundry.pairs.native.rows import close_off, decide, limits, pick

FINE, IN_ONE_PLACE, FAR_FROM_HOME, TOO_MANY = 0, 1, 2, 3
"""What can go wrong."""

BINS_FROM = 1600
"""Candidates from which on bins in space are worth their making."""


@inlined
def encode(hits, first, n, code, own, codes, at):
    """Write the codes of an atom's hits first ... first + n - 1 from codes[at] on.

    own: the cells that the atom was moved by, packed. Sums carry: it is added to all fields of a code at once.
    """
    for hit in range(n):
        put(codes, at + hit, get(code, get(hits, first + hit)) + own)


@compiled
def encode_wide(hits, first, n, i, home, found, codes, wide, used):
    """The same for a structure some of whose pairs fit no code: they get code 0 and are written to `wide`."""
    wraps = home.wraps
    for hit in range(n):
        k = hits[first + hit]
        j = np.int64(found.j[k])
        m0, m1, m2 = of.image_of(np.int64(found.image[k]))
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
    x, y, z, code, wraps, at = found.x, found.y, found.z, found.code, home.wraps, home.at
    codes_room, wide_room = len(codes), len(wide)
    while i < n:
        k = get(at, i)
        if used[0] + (m - k) > codes_room or (not narrow and used[1] + (m - k) > wide_room):
            return i, -1
        near, doubt = pick(x, y, z, k + 1, m, x[k], y[k], z[k], least, sure, most, hits)
        if doubt:
            near = decide(positions, i, start, home, cutoff, found, hits, near)
            if near < 0:
                return i, -1 - near
        counts[row0 + i] = near
        if narrow:
            own = np.uint32((wraps[i, 0] << 10) + (wraps[i, 1] << 5) + wraps[i, 2])
            encode(hits, np.int64(0), near, code, own, codes, used[0])
        else:
            encode_wide(hits, np.int64(0), near, i, home, found, codes, wide, used)
        used[0] += near
        i += 1
    return i, -1


@compiled
def encode_rows(i, n, home, found, raw, rows, narrow, counts, row0, codes, wide, used):
    """Encode rows that were found out of order, from atom i on, as long as there is room; the atom to go on with."""
    code, wraps = found.code, home.wraps
    while i < n:
        near = counts[row0 + i]
        if used[0] + near > len(codes) or (not narrow and used[1] + near > len(wide)):
            return i
        if narrow:
            own = np.uint32((wraps[i, 0] << 10) + (wraps[i, 1] << 5) + wraps[i, 2])
            encode(raw, rows[i], near, code, own, codes, used[0])
        else:
            encode_wide(raw, rows[i], near, i, home, found, codes, wide, used)
        used[0] += near
        i += 1
    return i


@compiled
def more_codes(codes, used, more):
    """The codes in an array with room for `more`."""
    larger = np.empty(2 * len(codes) + more, np.uint32)
    for at in range(used):
        larger[at] = codes[at]
    return larger


@compiled
def more_wide(wide, used, more):
    """The wide pairs in an array with room for `more`."""
    larger = np.empty((2 * len(wide) + more, 4), np.int32)
    for at in range(used):
        for c in range(4):
            larger[at, c] = wide[at, c]
    return larger


def _make_find_half(version: int) -> Callable[..., Any]:
    def find_half(positions, cell, pbc, cutoff, offsets, first, last):
        """The canonical half of the pairs of structures first ... last - 1.

        Gives counts (atoms,) int32 pairs of each atom; pair_ends and wide_ends (last - first + 1,) int64 where each
        structure's pairs and wide pairs end; codes (pairs,) uint32; wide (w, 4) int32; and what went wrong:
        (problem, structure, atom, other).
        """
        _ = version
        n_structures, atoms = last - first, offsets[last] - offsets[first]
        counts = np.zeros(atoms, np.int32)
        pair_ends, wide_ends = np.zeros(n_structures + 1, np.int64), np.zeros(n_structures + 1, np.int64)
        codes, wide, used = np.empty(32 * atoms + 1024, np.uint32), np.empty((16, 4), np.int32), np.zeros(2, np.int64)
        largest = 0
        for s in range(first, last):
            largest = max(largest, offsets[s + 1] - offsets[s])
        home, found = of.new_home(largest), of.new_candidates(8 * largest + 64)
        hits, raw, rows = np.empty(len(found.x) + LANES, np.uint32), np.empty(0, np.uint32), np.empty(0, np.int64)
        problem = (FINE, 0, 0, 0)
        for s in range(first, last):
            start, n, row0 = offsets[s], offsets[s + 1] - offsets[s], offsets[s] - offsets[first]
            if n > 0:
                expected, error, within = of.prepare(positions, start, n, cell, pbc, s, cutoff, home)
                if expected < 0.0:
                    problem = (FAR_FROM_HOME, s, int(-1.0 - expected), 0)
                    break
                if expected > 2.0**31 - 64.0:
                    problem = (TOO_MANY, s, 0, 0)
                    break
                if int(expected) + 1 > len(found.j):
                    found = of.new_candidates(int(1.25 * expected) + 64)
                    hits = np.empty(len(found.x) + LANES, np.uint32)
                is_open = not (pbc[s, 0] or pbc[s, 1] or pbc[s, 2])
                m = of.list_open(n, home, found) if is_open else of.list_images(n, within, home, found)
                narrow = of.is_narrow(n, pbc, s, home)
                least, sure, most = limits(cutoff, error)
                binned = m >= BINS_FROM
                i, near = 0, -1
                if binned:
                    i, near, raw, rows = rows_by_bins(
                        positions, start, n, cutoff, within, least, sure, most, home, found, m, hits, counts, row0
                    )
                    if near >= 0:
                        problem = (IN_ONE_PLACE, s, i, near)
                        break
                    i = 0
                else:
                    close_off(found.x, found.y, found.z, m)
                while i < n:
                    if binned:
                        i = encode_rows(i, n, home, found, raw, rows, narrow, counts, row0, codes, wide, used)
                        more = 0 if i == n else np.int64(counts[row0 + i])
                    else:
                        i, near = rows_of_all(
                            positions, start, i, n, cutoff, least, sure, most,
                            home, found, m, hits, narrow, counts, row0, codes, wide, used,
                        )  # fmt: skip
                        if near >= 0:
                            problem = (IN_ONE_PLACE, s, i, near)
                            break
                        more = m
                    if i < n:
                        if used[0] + more > len(codes):
                            codes = more_codes(codes, used[0], more)
                        if used[1] + more > len(wide):
                            wide = more_wide(wide, used[1], more)
                if near >= 0:
                    break
            pair_ends[s - first + 1], wide_ends[s - first + 1] = used[0], used[1]
        return counts, pair_ends, wide_ends, codes, wide, problem

    return find_half


def _make_suspicious(version: int) -> Callable[..., Any]:
    def suspicious(positions, cell, pbc, offsets):
        """Which structures hold a number that is not finite, or have a cell so flat that it must be looked into."""
        _ = version
        flags = np.zeros(len(offsets) - 1, np.bool_)
        vectors, inverse = np.empty((3, 3)), np.empty((3, 3))
        for s in range(len(flags)):
            total = 0.0
            for i in range(offsets[s], offsets[s + 1]):
                total += positions[i, 0] * 0.0 + positions[i, 1] * 0.0 + positions[i, 2] * 0.0
            flags[s] = total != 0.0
            if pbc[s, 0] or pbc[s, 1] or pbc[s, 2]:
                flags[s] |= not (of.measure(cell, pbc, s, vectors, inverse) > 1e-6)
        return flags

    return suspicious


find_half = kept(_make_find_half)
suspicious = kept(_make_suspicious)
