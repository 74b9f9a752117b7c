"""From the canonical half to the full list, sorted by (i, j, S), in one pass: no sorting of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, inlined, kept, making
from forcefoundry.pairs.native.lanes import EIGHT, LANES, get, put
from forcefoundry.pairs.native.runs import HOME, MIRROR, RUNS, has_long_runs, mirror_runs
from forcefoundry.pairs.native.writing import put_eight, put_shift, put_shifts


@compiled
def full_rows(n, base, counts, row0, codes, first, last, wide, w, starts, filled):
    """Where the rows of the full list start: `starts` (n + 1,), from `base` on; `filled` (n,) the same."""
    for r in range(n):
        put(filled, r, 0)
    for p in range(first, last):
        code = get(codes, p)
        j = np.int64(code >> np.uint32(15))
        if code == 0:
            j = np.int64(wide[w, 0])
            w += 1
        put(filled, j, get(filled, j) + 1)
    at = base
    for r in range(n):
        put(starts, r, at)
        at += get(filled, r) + np.int64(get(counts, row0 + r))
        put(filled, r, get(starts, r))
    put(starts, n, at)


@compiled
def mirror_codes(n, base, counts, row0, codes, p, starts, filled, full):
    """Write the codes of the full list of one structure, all of whose pairs have codes, from code p on.

    An atom's row holds first the mirrored pairs, of lower atoms, then its own. Rows are gone through from the lowest
    atom on, so mirrored pairs arrive sorted by atom; and each row from its end, so that those of one atom arrive
    sorted by -S. Codes are small: what is written here and there stays in the fastest memory.
    """
    for i in range(n):
        near = np.int64(get(counts, row0 + i))
        own = get(starts, i + 1) - near - base
        mirrored = np.uint32((i << 15) + MIRROR)
        for q in range(near - 1, -1, -1):
            code = get(codes, p + q)
            put(full, own + q, code)
            j = np.int64(code >> np.uint32(15))
            at = get(filled, j)
            put(filled, j, at + 1)
            put(full, at - base, mirrored - (code & np.uint32(32767)))
        p += near


@compiled
def write_rows(n, base, first_atom, starts, full, i_out, j_out, S_out):
    """Write out the full list of one structure from its codes."""
    end = get(starts, n)
    p = base
    for i in range(n):
        last = get(starts, i + 1)
        # Eight at once, over the end of the row: the next one's are written behind it. What comes behind the last row
        # belongs to another structure, and maybe to another thread.
        while p < last and p + EIGHT <= end:
            put_eight(i_out, p, first_atom + i)
            p += EIGHT
        while p < last:
            put(i_out, p, first_atom + i)
            p += 1
        p = last
    moved = np.uint32(0)
    for q in range(end - base):
        code = get(full, q)
        moved |= code ^ np.uint32(HOME)
        put(j_out, base + q, first_atom + np.int64(code >> np.uint32(15)))
    if moved & np.uint32(32767) == 0:
        for q in range(3 * base, 3 * end):
            put(S_out, q, 0)
    elif end > base:
        q = base
        while q + LANES <= end:
            put_shifts(S_out, 3 * q, full, q - base)
            q += LANES
        while q < end - 1:
            put_shift(S_out, 3 * q, get(full, q - base))
            q += 1
        code = np.int64(get(full, end - 1 - base))
        put(S_out, 3 * end - 3, ((code >> 10) & 31) - 16)
        put(S_out, 3 * end - 2, ((code >> 5) & 31) - 16)
        put(S_out, 3 * end - 1, (code & 31) - 16)


@compiled
def write_pair(at, i, j, S0, S1, S2, i_out, j_out, S_out):
    """Write (i, j, S) at row `at` of the full list."""
    i_out[at], j_out[at] = i, j
    S_out[3 * at], S_out[3 * at + 1], S_out[3 * at + 2] = S0, S1, S2


@compiled
def write_wide_rows(n, first_atom, counts, row0, codes, p, wide, w, starts, filled, i_out, j_out, S_out):
    """Write the full list of a structure some of whose pairs have code 0: these are wide, from wide pair w on."""
    for i in range(n):
        near = np.int64(counts[row0 + i])
        own = starts[i + 1]
        for q in range(p, p + near):
            w += codes[q] == 0
        beside = w
        for q in range(p + near - 1, p - 1, -1):
            own -= 1
            code = np.int64(codes[q])
            j = code >> 15
            S0, S1, S2 = ((code >> 10) & 31) - 16, ((code >> 5) & 31) - 16, (code & 31) - 16
            if code == 0:
                beside -= 1
                j, S0 = np.int64(wide[beside, 0]), np.int64(wide[beside, 1])
                S1, S2 = np.int64(wide[beside, 2]), np.int64(wide[beside, 3])
            other = filled[j]
            filled[j] = other + 1
            write_pair(own, first_atom + i, first_atom + j, S0, S1, S2, i_out, j_out, S_out)
            write_pair(other, first_atom + j, first_atom + i, -S0, -S1, -S2, i_out, j_out, S_out)
        p += near


@inlined
def mirror_structure(
    n, base, first_atom, counts, row0, codes, p, m, wide, w, n_wide, starts, filled, full, i_out, j_out, S_out
):
    """Write the full list of one structure of n atoms and m codes, n_wide of them 0, from row `base` on.

    starts: room for n + 1, filled: for n + 1 and at least RUNS, full: for 2 m + 2 LANES. Gives whether its codes are in
    order, as far as that is seen on the way; where they are not, not all rows are written.
    """
    if n_wide == 0 and has_long_runs(n, m) and p >= LANES and p + m + LANES <= len(codes):
        if mirror_runs(n, base, counts, row0, codes, p, starts, filled, full) != 2 * m:
            return False
        write_rows(n, base, first_atom, starts, full, i_out, j_out, S_out)
        return True
    full_rows(n, base, counts, row0, codes, p, p + m, wide, w, starts, filled)
    if n_wide == 0:
        mirror_codes(n, base, counts, row0, codes, p, starts, filled, full)
        write_rows(n, base, first_atom, starts, full, i_out, j_out, S_out)
    else:
        write_wide_rows(n, first_atom, counts, row0, codes, p, wide, w, starts, filled, i_out, j_out, S_out)
    return True


@compiled
def mirror_all(
    offsets, counts, pair_ends, codes, p, wide_ends, wide, w, first, last, starts, filled, full, base,
    i_out, j_out, S_out,
):  # fmt: skip
    """Write the full list of structures first ... last - 1, from row `base` on; their codes start at number p.

    Their wide pairs start at number w. starts, filled and full are room for the largest of them. Gives -1, or the first
    structure whose codes are not in order; then its rows are not all written.
    """
    wrong = -1
    for s in range(first, last):
        start, n, end, last_wide = offsets[s], offsets[s + 1] - offsets[s], pair_ends[s + 1], wide_ends[s + 1]
        if not mirror_structure(
            n, base, start, counts, start, codes, p, end - p, wide, w, last_wide - w, starts, filled, full,
            i_out, j_out, S_out,
        ) and wrong < 0:  # fmt: skip
            wrong = s
        base += 2 * (end - p)
        p, w = end, last_wide
    return wrong


@compiled
def largest_of(offsets, pair_ends, begin, first, last):
    """The most atoms, and the most codes, of a structure; the codes of structure `first` start at number `begin`."""
    atoms, pairs = 0, 0
    for s in range(first, last):
        atoms, pairs = max(atoms, offsets[s + 1] - offsets[s]), max(pairs, pair_ends[s + 1] - begin)
        begin = pair_ends[s + 1]
    return atoms, pairs


@making
def scratch(atoms, pairs):
    """What a structure of at most so many atoms and codes is mirrored in: starts, filled and full."""
    return (
        np.empty(atoms + 1, np.int64),
        np.empty(max(atoms + 1, RUNS), np.int64),
        np.empty(2 * (pairs + LANES), np.uint32),
    )


def _make_mirror(version: int) -> Callable[..., Any]:
    def mirror(offsets, counts, pair_ends, codes, wide_ends, wide, i_out, j_out, S_out):
        """Write the full list of a half; S_out is flat. Gives -1, or the first structure whose codes have no order."""
        _ = version
        atoms, pairs = largest_of(offsets, pair_ends, 0, 0, len(offsets) - 1)
        starts, filled, full = scratch(atoms, pairs)
        return mirror_all(
            offsets, counts, pair_ends, codes, 0, wide_ends, wide, 0, 0, len(offsets) - 1,
            starts, filled, full, 0, i_out, j_out, S_out,
        )  # fmt: skip

    return mirror


mirror = kept(_make_mirror)
