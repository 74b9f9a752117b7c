"""Lattices of any periodicity: what gives fractional coordinates, and how flat a cell is. One structure a lane."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cross(ax, ay, az, bx, by, bz):
    """a × b."""
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def unit(x, y, z):
    """A vector of length 1 in that direction; NaN for none."""
    length = tl.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@triton.jit
def upright(x, y, z):
    """A unit vector at right angles to a vector: turned about the axis that the vector leans on least."""
    ax, ay, az = tl.abs(x), tl.abs(y), tl.abs(z)
    on_x = (ax <= ay) & (ax <= az)
    on_y = ay <= az
    zero = x * 0.0
    rx = tl.where(on_x, zero, tl.where(on_y, -z, y))
    ry = tl.where(on_x, z, tl.where(on_y, zero, -x))
    rz = tl.where(on_x, -y, tl.where(on_y, x, zero))
    return unit(rx, ry, rz)


@triton.jit
def chosen(which, ax, ay, az, bx, by, bz):
    """a where `which`, else b."""
    return tl.where(which, ax, bx), tl.where(which, ay, by), tl.where(which, az, bz)


@triton.jit
def completed(p0, p1, p2, ax, ay, az, bx, by, bz, cx, cy, cz):
    """Three vectors: those given where periodic, else unit vectors at right angles to them. Open ones come as 0."""
    one, zero = ax * 0.0 + 1.0, ax * 0.0
    fx, fy, fz = cross(bx, by, bz, cx, cy, cz)
    fx, fy, fz = unit(fx, fy, fz)
    gx, gy, gz = upright(bx + cx, by + cy, bz + cz)
    fx, fy, fz = chosen(p1 & p2, fx, fy, fz, gx, gy, gz)
    fx, fy, fz = chosen(p1 | p2, fx, fy, fz, one, zero, zero)
    ax, ay, az = chosen(p0, ax, ay, az, fx, fy, fz)
    fx, fy, fz = cross(cx, cy, cz, ax, ay, az)
    fx, fy, fz = unit(fx, fy, fz)
    gx, gy, gz = upright(ax, ay, az)
    fx, fy, fz = chosen(p2, fx, fy, fz, gx, gy, gz)
    bx, by, bz = chosen(p1, bx, by, bz, fx, fy, fz)
    fx, fy, fz = cross(ax, ay, az, bx, by, bz)
    fx, fy, fz = unit(fx, fy, fz)
    cx, cy, cz = chosen(p2, cx, cy, cz, fx, fy, fz)
    return ax, ay, az, bx, by, bz, cx, cy, cz


@triton.jit
def dual(open_axis, volume, ax, ay, az, bx, by, bz):
    """a × b over the volume: what gives a fractional coordinate. 0 along an open axis, where nothing is wrapped."""
    x, y, z = cross(ax, ay, az, bx, by, bz)
    return chosen(open_axis, 0.0, 0.0, 0.0, x / volume, y / volume, z / volume)


@triton.jit
def length_of(x, y, z):
    """The length of a vector."""
    return tl.sqrt(x * x + y * y + z * z)


@triton.jit
def keep(to, real, x, y, z):
    """Store a vector."""
    tl.store(to, x, mask=real)
    tl.store(to + 1, y, mask=real)
    tl.store(to + 2, z, mask=real)


@triton.jit(do_not_specialize=["n_systems"])
def lattices(cell, pbc, n_systems, vectors, duals, STRIDE: tl.constexpr, LANES: tl.constexpr):
    """The lattices of LANES structures.

    Takes cell (S, 3, 3) Å and pbc (S, 3) uint8. Gives vectors (S, STRIDE), of which the first 9 become the periodic
    lattice vectors, 0 along open axes; and duals (S, 10): three vectors u, fractional coordinate a is r @ u_a, and the
    volume of the completed cell over the product of its edges, 1 for right angles.
    """
    s = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    real = s < n_systems
    p = pbc + 3 * s
    p0 = tl.load(p, mask=real, other=0) != 0
    p1 = tl.load(p + 1, mask=real, other=0) != 0
    p2 = tl.load(p + 2, mask=real, other=0) != 0
    v = cell + 9 * s
    # Where an axis is open nothing is loaded: what stands there may be no number.
    ax, ay, az = tl.load(v, mask=p0, other=0.0), tl.load(v + 1, mask=p0, other=0.0), tl.load(v + 2, mask=p0, other=0.0)
    v += 3
    bx, by, bz = tl.load(v, mask=p1, other=0.0), tl.load(v + 1, mask=p1, other=0.0), tl.load(v + 2, mask=p1, other=0.0)
    v += 3
    cx, cy, cz = tl.load(v, mask=p2, other=0.0), tl.load(v + 1, mask=p2, other=0.0), tl.load(v + 2, mask=p2, other=0.0)
    to = vectors + STRIDE * s
    keep(to, real, ax, ay, az)
    keep(to + 3, real, bx, by, bz)
    keep(to + 6, real, cx, cy, cz)
    ax, ay, az, bx, by, bz, cx, cy, cz = completed(p0, p1, p2, ax, ay, az, bx, by, bz, cx, cy, cz)
    x, y, z = cross(bx, by, bz, cx, cy, cz)
    volume = ax * x + ay * y + az * z
    ratio = tl.abs(volume) / (length_of(ax, ay, az) * length_of(bx, by, bz) * length_of(cx, cy, cz))
    to = duals + 10 * s
    ux, uy, uz = dual(p0 == 0, volume, bx, by, bz, cx, cy, cz)
    keep(to, real, ux, uy, uz)
    ux, uy, uz = dual(p1 == 0, volume, cx, cy, cz, ax, ay, az)
    keep(to + 3, real, ux, uy, uz)
    ux, uy, uz = dual(p2 == 0, volume, ax, ay, az, bx, by, bz)
    keep(to + 6, real, ux, uy, uz)
    tl.store(to + 9, ratio, mask=real)
