"""Candidates: the atoms and those of their images that can be anyone's neighbour, counted, then listed, then binned.

The list is sorted by (j, S): atom by atom, and of each atom's images by their cells.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def bin_along(x, half, pad, per_length, n):
    """The bin of a coordinate relative to the middle, within 0 ... n - 1."""
    place = tl.floor((x + half + pad) * per_length)
    return tl.minimum(tl.maximum(place, 0.0), n.to(tl.float64) - 1.0).to(tl.int64)


@triton.jit(do_not_specialize=["n_atoms"])
def list_images(
    home, ranges, numbers, shape, flags, system_of_atom, n_atoms, starts, bins_before,
    counts, x_of, y_of, z_of, atom_of, image_of, at_home, bin_of, bin_counts,
    WRITE: tl.constexpr, NUMBERS: tl.constexpr, SHAPE: tl.constexpr, ATOMS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Count the candidates that ATOMS atoms make, or write them from starts[i] on and count them in bins.

    counts: (N,) int64. x_of, y_of, z_of: (M,) float32 Å, relative to the middle of the structure's atoms. atom_of and
    image_of: (M,) int32, which atom, and by how many cells it was moved, 10 bits an axis. at_home: (N,) int32, which
    candidate the atom itself is. bin_of: (M,) int32. bin_counts: (B,) int32.
    """
    i = tl.program_id(0).to(tl.int64) * ATOMS + tl.arange(0, ATOMS)
    real = i < n_atoms
    s = tl.load(system_of_atom + i, mask=real, other=0)
    p = numbers + NUMBERS * s
    ax, ay, az = tl.load(p)[:, None], tl.load(p + 1)[:, None], tl.load(p + 2)[:, None]
    bx, by, bz = tl.load(p + 3)[:, None], tl.load(p + 4)[:, None], tl.load(p + 5)[:, None]
    cx, cy, cz = tl.load(p + 6)[:, None], tl.load(p + 7)[:, None], tl.load(p + 8)[:, None]
    x = (tl.load(home + 3 * i, mask=real, other=0.0) - tl.load(p + 9))[:, None]
    y = (tl.load(home + 3 * i + 1, mask=real, other=0.0) - tl.load(p + 10))[:, None]
    z = (tl.load(home + 3 * i + 2, mask=real, other=0.0) - tl.load(p + 11))[:, None]
    half0, half1, half2 = tl.load(p + 12)[:, None], tl.load(p + 13)[:, None], tl.load(p + 14)[:, None]
    within = tl.load(p + 15)[:, None]
    first0 = tl.load(ranges + 6 * i, mask=real, other=0)
    first1 = tl.load(ranges + 6 * i + 2, mask=real, other=0)
    first2 = tl.load(ranges + 6 * i + 4, mask=real, other=0)
    fine = real & ((tl.load(flags + s) & 3) == 0)
    n0 = tl.where(fine, tl.load(ranges + 6 * i + 1, mask=real, other=0) - first0 + 1, 0)
    n1 = tl.where(fine, tl.load(ranges + 6 * i + 3, mask=real, other=0) - first1 + 1, 1)
    n2 = tl.where(fine, tl.load(ranges + 6 * i + 5, mask=real, other=0) - first2 + 1, 1)
    total = n0 * n1 * n2
    found = tl.zeros([ATOMS], tl.int32)
    if WRITE:
        start = tl.load(starts + i, mask=real, other=0)[:, None]
        before = tl.load(bins_before + s)[:, None]
        q = shape + SHAPE * s
        bins0, bins1, bins2 = tl.load(q)[:, None], tl.load(q + 1)[:, None], tl.load(q + 2)[:, None]
        per0, per1, per2 = tl.load(p + 19)[:, None], tl.load(p + 20)[:, None], tl.load(p + 21)[:, None]
        pad = tl.load(p + 22)[:, None]
    for done in range(0, tl.max(total, 0), WIDE):
        number = done + tl.arange(0, WIDE)[None, :] + tl.zeros([ATOMS, WIDE], tl.int32)
        listed = number < total[:, None]
        rest = number // n2[:, None]
        m2 = first2[:, None] + number - rest * n2[:, None]
        m0 = first0[:, None] + rest // n1[:, None]
        m1 = first1[:, None] + rest % n1[:, None]
        k0, k1, k2 = m0.to(tl.float64), m1.to(tl.float64), m2.to(tl.float64)
        there0 = x + (k0 * ax + k1 * bx + k2 * cx)
        there1 = y + (k0 * ay + k1 * by + k2 * cy)
        there2 = z + (k0 * az + k1 * bz + k2 * cz)
        beyond0 = tl.maximum(tl.abs(there0) - half0, 0.0)
        beyond1 = tl.maximum(tl.abs(there1) - half1, 0.0)
        beyond2 = tl.maximum(tl.abs(there2) - half2, 0.0)
        itself = (m0 == 0) & (m1 == 0) & (m2 == 0)
        kept = listed & (itself | (beyond0 * beyond0 + beyond1 * beyond1 + beyond2 * beyond2 < within))
        if WRITE:
            at = start + found[:, None] + tl.cumsum(kept.to(tl.int32), 1) - 1
            tl.store(x_of + at, there0.to(tl.float32), mask=kept)
            tl.store(y_of + at, there1.to(tl.float32), mask=kept)
            tl.store(z_of + at, there2.to(tl.float32), mask=kept)
            tl.store(atom_of + at, (i[:, None] + number * 0).to(tl.int32), mask=kept)
            tl.store(image_of + at, ((m0 + 512) << 20) + ((m1 + 512) << 10) + m2 + 512, mask=kept)
            tl.store(at_home + (i[:, None] + number * 0), at.to(tl.int32), mask=kept & itself)
            b0 = bin_along(there0, half0, pad, per0, bins0)
            b1 = bin_along(there1, half1, pad, per1, bins1)
            b2 = bin_along(there2, half2, pad, per2, bins2)
            place = before + (b0 * bins1 + b1) * bins2 + b2
            tl.store(bin_of + at, place.to(tl.int32), mask=kept)
            tl.atomic_add(bin_counts + place, 1, mask=kept, sem="relaxed")
        found += tl.sum(kept.to(tl.int32), 1)
    if not WRITE:
        tl.store(counts + i, found.to(tl.int64), mask=real)


@triton.jit(do_not_specialize=["n"])
def fill_bins(bin_of, room, x_of, y_of, z_of, n, x_in, y_in, z_in, k_in, WIDE: tl.constexpr):
    """Write n candidates bin by bin, in any order within one. room: (B,) int32, where each bin's next is to go."""
    k = tl.program_id(0).to(tl.int64) * WIDE + tl.arange(0, WIDE)
    real = k < n
    place = tl.load(bin_of + k, mask=real, other=0)
    at = tl.atomic_add(room + place, 1, mask=real, sem="relaxed")
    tl.store(x_in + at, tl.load(x_of + k, mask=real, other=0.0), mask=real)
    tl.store(y_in + at, tl.load(y_of + k, mask=real, other=0.0), mask=real)
    tl.store(z_in + at, tl.load(z_of + k, mask=real, other=0.0), mask=real)
    tl.store(k_in + at, k.to(tl.int32), mask=real)
