"""Each structure measured: its atoms moved home, the images that can be neighbours, and how finely space is divided.

Nothing here decides about a pair: it says, generously, which are tried. One program works on one structure.
"""

from __future__ import annotations

import triton
import triton.language as tl

from forcefoundry.pairs import contract

FAR_FROM_HOME, TOO_MANY, SUSPICIOUS = tl.constexpr(1), tl.constexpr(2), tl.constexpr(4)
"""Bits of a structure's flags: an atom too many cells away, too many images, numbers or a cell to be looked into."""

LARGEST = tl.constexpr(contract.LARGEST)
"""Å. Structures with larger numbers are looked into."""

NUMBERS, SHAPE = 24, 4
"""What is kept of a structure: lattice vectors (9), middle (3) and half extent (3) of its atoms, Å; squares (Å²) of how
far from them candidates are listed, and below, within and beyond which float32 decides; bins an Å (3), and the bins'
least coordinates (3) from the middle. And the number of bins along three axes, and of all."""


@triton.jit
def measure(
    positions, pbc, offsets, limits, duals, numbers, wraps, home, ranges, shape, flags,
    NUMBERS: tl.constexpr, SHAPE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Measure structure `program_id`.

    Takes positions (N, 3), pbc (S, 3) uint8, offsets (S + 1,), limits (3,): the cutoff, Å, and the squares below which
    atoms are near and in one place; duals (S, 10), and in numbers (S, NUMBERS) the lattice vectors, beside which it
    writes the rest. Gives wraps (N, 3) int32, home (N, 3) Å, ranges (N, 6) int32, the least and greatest image along
    each axis, shape (S, SHAPE) and flags (S,) int32.
    """
    s = tl.program_id(0).to(tl.int64)
    start, stop = tl.load(offsets + s), tl.load(offsets + s + 1)
    cutoff, touching = tl.load(limits), tl.load(limits + 2)
    zero = cutoff * 0.0
    periodic = (tl.load(pbc + 3 * s) | tl.load(pbc + 3 * s + 1) | tl.load(pbc + 3 * s + 2)) != 0
    v = numbers + NUMBERS * s
    ax, ay, az, bx, by, bz = tl.load(v), tl.load(v + 1), tl.load(v + 2), tl.load(v + 3), tl.load(v + 4), tl.load(v + 5)
    cx, cy, cz = tl.load(v + 6), tl.load(v + 7), tl.load(v + 8)
    v = duals + 10 * s
    ux, uy, uz, vx, vy, vz = tl.load(v), tl.load(v + 1), tl.load(v + 2), tl.load(v + 3), tl.load(v + 4), tl.load(v + 5)
    wx, wy, wz, ratio = tl.load(v + 6), tl.load(v + 7), tl.load(v + 8), tl.load(v + 9)

    lanes = tl.arange(0, LANES)
    none = tl.zeros([LANES], tl.float64)
    inf = none + float("inf")
    low0, low1, low2, high0, high1, high2 = inf, inf, inf, -inf, -inf, -inf
    least0, least1, least2, most0, most1, most2 = inf, inf, inf, -inf, -inf, -inf
    off0, off1, off2 = none, none, none
    lost, far = none != 0.0, none != 0.0
    for first in range(start, stop, LANES):
        at = first + lanes
        real = at < stop
        x = tl.load(positions + 3 * at, mask=real, other=0.0)
        y = tl.load(positions + 3 * at + 1, mask=real, other=0.0)
        z = tl.load(positions + 3 * at + 2, mask=real, other=0.0)
        lost = lost | ((tl.abs(x) + tl.abs(y) + tl.abs(z) <= LARGEST) == 0)
        f0, f1, f2 = x * ux + y * uy + z * uz, x * vx + y * vy + z * vz, x * wx + y * wy + z * wz
        w0, w1, w2 = tl.floor(f0), tl.floor(f1), tl.floor(f2)
        # 2^29 cells: farther, there is no room for shifts in 32 bits. A number that is none is far, too.
        fits = (tl.abs(w0) <= 536870912.0) & (tl.abs(w1) <= 536870912.0) & (tl.abs(w2) <= 536870912.0)
        far = far | (real & (fits == 0))
        w0, w1, w2 = tl.where(fits, w0, 0.0), tl.where(fits, w1, 0.0), tl.where(fits, w2, 0.0)
        x = x - (w0 * ax + w1 * bx + w2 * cx)
        y = y - (w0 * ay + w1 * by + w2 * cy)
        z = z - (w0 * az + w1 * bz + w2 * cz)
        tl.store(home + 3 * at, x, mask=real)
        tl.store(home + 3 * at + 1, y, mask=real)
        tl.store(home + 3 * at + 2, z, mask=real)
        tl.store(wraps + 3 * at, w0.to(tl.int32), mask=real)
        tl.store(wraps + 3 * at + 1, w1.to(tl.int32), mask=real)
        tl.store(wraps + 3 * at + 2, w2.to(tl.int32), mask=real)
        low0, high0 = tl.minimum(low0, tl.where(real, x, inf)), tl.maximum(high0, tl.where(real, x, -inf))
        low1, high1 = tl.minimum(low1, tl.where(real, y, inf)), tl.maximum(high1, tl.where(real, y, -inf))
        low2, high2 = tl.minimum(low2, tl.where(real, z, inf)), tl.maximum(high2, tl.where(real, z, -inf))
        f0, f1, f2 = f0 - w0, f1 - w1, f2 - w2
        least0, most0 = tl.minimum(least0, tl.where(real, f0, inf)), tl.maximum(most0, tl.where(real, f0, -inf))
        least1, most1 = tl.minimum(least1, tl.where(real, f1, inf)), tl.maximum(most1, tl.where(real, f1, -inf))
        least2, most2 = tl.minimum(least2, tl.where(real, f2, inf)), tl.maximum(most2, tl.where(real, f2, -inf))
        off0 = tl.maximum(off0, tl.where(real, tl.abs(w0), 0.0))
        off1 = tl.maximum(off1, tl.where(real, tl.abs(w1), 0.0))
        off2 = tl.maximum(off2, tl.where(real, tl.abs(w2), 0.0))
    empty = start == stop
    lo0, hi0 = tl.where(empty, zero, tl.min(low0, 0)), tl.where(empty, zero, tl.max(high0, 0))
    lo1, hi1 = tl.where(empty, zero, tl.min(low1, 0)), tl.where(empty, zero, tl.max(high1, 0))
    lo2, hi2 = tl.where(empty, zero, tl.min(low2, 0)), tl.where(empty, zero, tl.max(high2, 0))
    from0, from1, from2 = tl.min(least0, 0), tl.min(least1, 0), tl.min(least2, 0)
    to0, to1, to2 = tl.max(most0, 0), tl.max(most1, 0), tl.max(most2, 0)

    # `largest` is no less than any number that a distance is computed from, so `error` bounds what rounding does.
    largest = tl.maximum(tl.abs(lo0), tl.abs(hi0)) + tl.maximum(tl.abs(lo1), tl.abs(hi1))
    largest += tl.maximum(tl.abs(lo2), tl.abs(hi2))
    a, u = tl.abs(ax) + tl.abs(ay) + tl.abs(az), tl.abs(ux) + tl.abs(uy) + tl.abs(uz)
    b, v = tl.abs(bx) + tl.abs(by) + tl.abs(bz), tl.abs(vx) + tl.abs(vy) + tl.abs(vz)
    c, w = tl.abs(cx) + tl.abs(cy) + tl.abs(cz), tl.abs(wx) + tl.abs(wy) + tl.abs(wz)
    largest += (2.0 * tl.max(off0, 0) + 4.0 + cutoff * u) * a
    largest += (2.0 * tl.max(off1, 0) + 4.0 + cutoff * v) * b
    largest += (2.0 * tl.max(off2, 0) + 4.0 + cutoff * w) * c
    eps32, eps64 = 2.0**-23, 2.0**-52
    error = 64.0 * eps64 * (largest + cutoff)
    within = cutoff + cutoff * 1e-9 + 2.0 * error + 1e-9
    slack = 16.0 * eps64 * largest / ratio
    span0 = (within + slack) * tl.sqrt(ux * ux + uy * uy + uz * uz) + 1e-9
    span1 = (within + slack) * tl.sqrt(vx * vx + vy * vy + vz * vz) + 1e-9
    span2 = (within + slack) * tl.sqrt(wx * wx + wy * wy + wz * wz) + 1e-9
    # Candidates are listed and picked in float32, relative to the middle of the atoms: that is wrong by a little more.
    half0, half1, half2 = 0.5 * (hi0 - lo0), 0.5 * (hi1 - lo1), 0.5 * (hi2 - lo2)
    error += 4.0 * eps32 * (tl.maximum(half0, tl.maximum(half1, half2)) + 2.0 * within)
    within += 2.0 * error

    # Images: numbers along each axis are kept, and their products summed where nothing wraps around.
    sum_expected = none
    for first in range(start, stop, LANES):
        at = first + lanes
        real = at < stop
        x = tl.load(positions + 3 * at, mask=real, other=0.0)
        y = tl.load(positions + 3 * at + 1, mask=real, other=0.0)
        z = tl.load(positions + 3 * at + 2, mask=real, other=0.0)
        f0, f1, f2 = x * ux + y * uy + z * uz, x * vx + y * vy + z * vz, x * wx + y * wy + z * wz
        f0, f1, f2 = f0 - tl.floor(f0), f1 - tl.floor(f1), f2 - tl.floor(f2)
        first0, last0 = tl.ceil(from0 - span0 - f0), tl.floor(to0 + span0 - f0)
        first1, last1 = tl.ceil(from1 - span1 - f1), tl.floor(to1 + span1 - f1)
        first2, last2 = tl.ceil(from2 - span2 - f2), tl.floor(to2 + span2 - f2)
        here = (last0 - first0 + 1.0) * (last1 - first1 + 1.0) * (last2 - first2 + 1.0)
        sum_expected += tl.where(real, here, 0.0)
        tl.store(ranges + 6 * at, first0.to(tl.int32), mask=real)
        tl.store(ranges + 6 * at + 1, last0.to(tl.int32), mask=real)
        tl.store(ranges + 6 * at + 2, first1.to(tl.int32), mask=real)
        tl.store(ranges + 6 * at + 3, last1.to(tl.int32), mask=real)
        tl.store(ranges + 6 * at + 4, first2.to(tl.int32), mask=real)
        tl.store(ranges + 6 * at + 5, last2.to(tl.int32), mask=real)
    expected = tl.sum(sum_expected, 0)
    fine = (span0 <= 500.0) & (span1 <= 500.0) & (span2 <= 500.0) & (expected <= 2147483584.0)
    away = tl.max(far.to(tl.int32), 0)
    sound = (ratio > 1e-6) & (a + b + c <= LARGEST)
    odd = tl.max(lost.to(tl.int32), 0) | (periodic & (sound == 0)).to(tl.int32)
    flag = away * FAR_FROM_HOME + (fine == 0).to(tl.int32) * TOO_MANY + odd * SUSPICIOUS
    tl.store(flags + s, flag)

    # Bins are a little wider than candidates are far, and no more than there are candidates.
    pad = tl.where(periodic, within, zero)
    wide = within + within * 1e-6
    n0 = tl.maximum(tl.floor(2.0 * (half0 + pad) / wide), 1.0)
    n1 = tl.maximum(tl.floor(2.0 * (half1 + pad) / wide), 1.0)
    n2 = tl.maximum(tl.floor(2.0 * (half2 + pad) / wide), 1.0)
    limit = tl.maximum(expected, 1.0)
    for _ in range(3):
        # The longest axis gets fewer; three times, for the other axes where that was not enough.
        excess = tl.maximum(n0 * n1 * n2 / limit, 1.0)
        on_0 = (n0 >= n1) & (n0 >= n2)
        on_1 = (on_0 == 0) & (n1 >= n2)
        on_2 = (on_0 == 0) & (on_1 == 0)
        n0 = tl.where(on_0, tl.maximum(tl.floor(n0 / excess), 1.0), n0)
        n1 = tl.where(on_1, tl.maximum(tl.floor(n1 / excess), 1.0), n1)
        n2 = tl.where(on_2, tl.maximum(tl.floor(n2 / excess), 1.0), n2)
    broken = (flag & (FAR_FROM_HOME | TOO_MANY)) != 0
    n0, n1, n2 = tl.where(broken, 1.0, n0), tl.where(broken, 1.0, n1), tl.where(broken, 1.0, n2)
    bins = shape + SHAPE * s
    tl.store(bins, n0.to(tl.int64))
    tl.store(bins + 1, n1.to(tl.int64))
    tl.store(bins + 2, n2.to(tl.int64))
    tl.store(bins + 3, (n0 * n1 * n2).to(tl.int64))

    low, high = tl.maximum(cutoff - error, 0.0), cutoff + error
    least = (tl.sqrt(touching) + error) * (tl.sqrt(touching) + error)
    out = numbers + NUMBERS * s
    tl.store(out + 9, 0.5 * (lo0 + hi0))
    tl.store(out + 10, 0.5 * (lo1 + hi1))
    tl.store(out + 11, 0.5 * (lo2 + hi2))
    tl.store(out + 12, hi0 - 0.5 * (lo0 + hi0))
    tl.store(out + 13, hi1 - 0.5 * (lo1 + hi1))
    tl.store(out + 14, hi2 - 0.5 * (lo2 + hi2))
    tl.store(out + 15, within * within)
    tl.store(out + 16, least + least * 1e-5)
    tl.store(out + 17, low * low - low * low * 1e-6)
    tl.store(out + 18, high * high + high * high * 1e-6)
    # A bin is at least `wide`; where there are fewer than fit, it is wider.
    tl.store(out + 19, n0 / tl.maximum(2.0 * (half0 + pad), n0 * wide))
    tl.store(out + 20, n1 / tl.maximum(2.0 * (half1 + pad), n1 * wide))
    tl.store(out + 21, n2 / tl.maximum(2.0 * (half2 + pad), n2 * wide))
    tl.store(out + 22, pad)
    tl.store(out + 23, error)
