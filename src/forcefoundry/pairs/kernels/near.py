"""Neighbours: counted, then written, then put in order.

An atom tries the candidates of its bin and those around it, in float32 with room for its errors. What float32 cannot
decide is decided in float64 by the contract's arithmetic, operation by operation. Rounding is the same for a number and
its negative, so a pair and its reverse are decided alike.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def shift_of(image_of, wraps, k, i, j, asked):
    """S (three, int64) of candidate k, an image of atom j, as seen from atom i: cells between positions as given."""
    image = tl.load(image_of + k, mask=asked, other=0)
    m0, m1, m2 = (image >> 20) - 512, ((image >> 10) & 1023) - 512, (image & 1023) - 512
    here, there = wraps + 3 * i, wraps + 3 * j
    S0 = m0.to(tl.int64) - tl.load(there, mask=asked, other=0) + tl.load(here, mask=asked, other=0)
    S1 = m1.to(tl.int64) - tl.load(there + 1, mask=asked, other=0) + tl.load(here + 1, mask=asked, other=0)
    S2 = m2.to(tl.int64) - tl.load(there + 2, mask=asked, other=0) + tl.load(here + 2, mask=asked, other=0)
    return S0, S1, S2


@triton.jit
def square_of(positions, wraps, atom_of, image_of, p, k, i, asked):
    """The squared distance (Å²) of candidates k from atoms i, by the contract's arithmetic in float64.

    D = (r_j - r_i) + ((S0 a + S1 b) + S2 c), squares summed in the order of x, y, z. p: pointers to the vectors.
    """
    j = tl.load(atom_of + k, mask=asked, other=0).to(tl.int64)
    S0, S1, S2 = shift_of(image_of, wraps, k, i, j, asked)
    S0, S1, S2 = S0.to(tl.float64), S1.to(tl.float64), S2.to(tl.float64)
    here, there = positions + 3 * i, positions + 3 * j
    x = tl.load(there, mask=asked, other=0.0) - tl.load(here, mask=asked, other=0.0)
    y = tl.load(there + 1, mask=asked, other=0.0) - tl.load(here + 1, mask=asked, other=0.0)
    z = tl.load(there + 2, mask=asked, other=0.0) - tl.load(here + 2, mask=asked, other=0.0)
    x = x + ((S0 * tl.load(p) + S1 * tl.load(p + 3)) + S2 * tl.load(p + 6))
    y = y + ((S0 * tl.load(p + 1) + S1 * tl.load(p + 4)) + S2 * tl.load(p + 7))
    z = z + ((S0 * tl.load(p + 2) + S1 * tl.load(p + 5)) + S2 * tl.load(p + 8))
    return (x * x + y * y) + z * z


@triton.jit(do_not_specialize=["n_atoms"])
def find_near(
    positions, wraps, numbers, shape, limits, system_of_atom, n_atoms, bins_before, bin_starts,
    x_in, y_in, z_in, k_in, x_of, y_of, z_of, atom_of, image_of, at_home, bin_of, row_starts,
    counts, rows, in_one_place,
    HALF: tl.constexpr, WRITE: tl.constexpr, NUMBERS: tl.constexpr, SHAPE: tl.constexpr,
    ATOMS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Count the neighbours of ATOMS atoms in counts (N,) int64, or write them to rows (P,) int32 from row_starts[i] on.

    A neighbour is written as its candidate, in any order. HALF: only those behind the atom itself in the candidates'
    order, which is the canonical half. in_one_place (S,) int32 becomes 1 for a structure with coincident atoms.
    """
    i = tl.program_id(0).to(tl.int64) * ATOMS + tl.arange(0, ATOMS)
    real = i < n_atoms
    s = tl.load(system_of_atom + i, mask=real, other=0)
    p = numbers + NUMBERS * s
    q = shape + SHAPE * s
    own = tl.load(at_home + i, mask=real, other=0)
    x, y, z = tl.load(x_of + own)[:, None], tl.load(y_of + own)[:, None], tl.load(z_of + own)[:, None]
    least = tl.load(p + 16).to(tl.float32)[:, None]
    sure = tl.load(p + 17).to(tl.float32)[:, None]
    most = tl.load(p + 18).to(tl.float32)[:, None]
    near_square, touching = tl.load(limits + 1), tl.load(limits + 2)
    bins0, bins1, bins2 = tl.load(q), tl.load(q + 1), tl.load(q + 2)
    before = tl.load(bins_before + s)
    place = tl.load(bin_of + own).to(tl.int64) - before
    b2 = place % bins2
    b1 = (place // bins2) % bins1
    b0 = place // (bins2 * bins1)
    left, right = tl.maximum(b2 - 1, 0), tl.minimum(b2 + 1, bins2 - 1) + 1
    found = tl.zeros([ATOMS], tl.int64)
    if WRITE:
        start = tl.load(row_starts + i, mask=real, other=0)[:, None]
    for run in range(9):
        at0, at1 = b0 + run // 3 - 1, b1 + run % 3 - 1
        there = real & (at0 >= 0) & (at0 < bins0) & (at1 >= 0) & (at1 < bins1)
        row = before + (at0 * bins1 + at1) * bins2
        begin = tl.load(bin_starts + row + left, mask=there, other=0)
        end = tl.load(bin_starts + row + right, mask=there, other=0)
        for done in range(0, tl.max(end - begin, 0), WIDE):
            at = begin[:, None] + done + tl.arange(0, WIDE)[None, :]
            tried = at < end[:, None]
            k = tl.load(k_in + at, mask=tried, other=0)
            if HALF:
                tried = tried & (k > own[:, None])
            else:
                tried = tried & (k != own[:, None])
            dx = tl.load(x_in + at, mask=tried, other=0.0) - x
            dy = tl.load(y_in + at, mask=tried, other=0.0) - y
            dz = tl.load(z_in + at, mask=tried, other=0.0) - z
            square = dx * dx + dy * dy + dz * dz
            kept = tried & (square >= least) & (square < sure)
            # Not "square < most": what is no number in float32 is decided in float64, too.
            doubt = tried & (kept == 0) & ((square >= most) == 0)
            if tl.max(doubt.to(tl.int32)) > 0:
                whose, which = i[:, None] + k * 0, s[:, None] + k * 0
                exact = square_of(positions, wraps, atom_of, image_of, p[:, None], k, whose, doubt)
                kept = kept | (doubt & (exact < near_square))
                tl.store(in_one_place + which, 1, mask=doubt & (exact < touching))
            if WRITE:
                to = start + found[:, None] + tl.cumsum(kept.to(tl.int32), 1) - 1
                tl.store(rows + to, k, mask=kept)
            found += tl.sum(kept.to(tl.int32), 1)
    if not WRITE:
        tl.store(counts + i, found, mask=real)


@triton.jit(do_not_specialize=["n_atoms"])
def write_pairs(
    row_starts, rows, n_atoms, system_of_atom, offsets, atom_of, image_of, wraps, i_out, j_out, S_out, codes,
    PACKED: tl.constexpr, ATOMS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write the neighbours of ATOMS atoms in the order of (j, S): that of their candidates.

    A neighbour's place is the number of its row's that come before it. Gives i and j (P,) int64 and S (P, 3) int32;
    or, where PACKED, codes (P,) int32, the bits of the codes of a half list, 0 for those that fit none.
    """
    i = tl.program_id(0).to(tl.int64) * ATOMS + tl.arange(0, ATOMS)
    real = i < n_atoms
    start = tl.load(row_starts + i, mask=real, other=0)[:, None]
    length = tl.load(row_starts + i + 1, mask=real, other=0)[:, None] - start
    whose = i[:, None] + tl.zeros([ATOMS, WIDE], tl.int64)
    if PACKED:
        first = tl.load(offsets + tl.load(system_of_atom + i, mask=real, other=0))[:, None]
    longest = tl.max(length)
    for mine in range(0, longest, WIDE):
        at = mine + tl.arange(0, WIDE)[None, :]
        there = real[:, None] & (at < length)
        k = tl.load(rows + start + at, mask=there, other=0)
        rank = tl.zeros([ATOMS, WIDE], tl.int32)
        for theirs in range(0, longest, WIDE):
            beside = theirs + tl.arange(0, WIDE)[None, :]
            other = tl.load(rows + start + beside, mask=real[:, None] & (beside < length), other=2147483647)
            rank += tl.sum((other[:, None, :] < k[:, :, None]).to(tl.int32), 2)
        to = start + rank
        j = tl.load(atom_of + k, mask=there, other=0).to(tl.int64)
        S0, S1, S2 = shift_of(image_of, wraps, k, whose, j, there)
        if PACKED:
            j = j - first
            fits = (j < 131072) & (tl.abs(S0) <= 15) & (tl.abs(S1) <= 15) & (tl.abs(S2) <= 15)
            code = (j << 15) + ((S0 + 16) << 10) + ((S1 + 16) << 5) + S2 + 16
            tl.store(codes + to, tl.where(fits, code, 0).to(tl.int32), mask=there)
        else:
            tl.store(i_out + to, whose, mask=there)
            tl.store(j_out + to, j, mask=there)
            tl.store(S_out + 3 * to, S0.to(tl.int32), mask=there)
            tl.store(S_out + 3 * to + 1, S1.to(tl.int32), mask=there)
            tl.store(S_out + 3 * to + 2, S2.to(tl.int32), mask=there)
