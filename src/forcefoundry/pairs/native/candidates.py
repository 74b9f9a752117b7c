"""The atoms of one structure and those of their images that can be anyone's neighbour, in the order of (j, S)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, inlined
from forcefoundry.pairs.native.lanes import LANES, get, put

FARTHEST = float(2**30)
"""Cells. An atom farther from home leaves no room for its shifts in 32 bits."""

EPS32, EPS64 = 2.0**-23, 2.0**-52
"""The relative spacing of float32 and float64."""

LARGEST_J, LARGEST_S = 2**17 - 1, 15
"""What fits the code of a pair, in 32 bits; a pair that does not has code 0 and is written out beside."""


@compiled
def measure(cell, pbc, s, vectors, inverse):
    """Fill `vectors` with the periodic lattice vectors (0 elsewhere) and `inverse` with fractional coordinates' rows.

    Vectors of open directions are completed at right angles. Fractional coordinate a is r @ inverse[a].
    Gives the volume of the completed cell over the product of its edges, 1 for right angles.
    """
    n_periodic = 0
    for a in range(3):
        periodic = pbc[s, a]
        n_periodic += periodic
        for c in range(3):
            vectors[a, c] = cell[s, a, c] if periodic else 0.0
            inverse[a, c] = vectors[a, c]
    if n_periodic < 3:
        _complete(pbc, s, n_periodic, inverse)
    a0, a1, a2 = inverse[0, 0], inverse[0, 1], inverse[0, 2]
    b0, b1, b2 = inverse[1, 0], inverse[1, 1], inverse[1, 2]
    c0, c1, c2 = inverse[2, 0], inverse[2, 1], inverse[2, 2]
    edges = math.sqrt(a0 * a0 + a1 * a1 + a2 * a2) * math.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
    edges *= math.sqrt(c0 * c0 + c1 * c1 + c2 * c2)
    x, y, z = b1 * c2 - b2 * c1, b2 * c0 - b0 * c2, b0 * c1 - b1 * c0
    volume = a0 * x + a1 * y + a2 * z
    if not (abs(volume) > 0.0):
        return 0.0
    inverse[0, 0], inverse[0, 1], inverse[0, 2] = x / volume, y / volume, z / volume
    x, y, z = c1 * a2 - c2 * a1, c2 * a0 - c0 * a2, c0 * a1 - c1 * a0
    inverse[1, 0], inverse[1, 1], inverse[1, 2] = x / volume, y / volume, z / volume
    x, y, z = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
    inverse[2, 0], inverse[2, 1], inverse[2, 2] = x / volume, y / volume, z / volume
    return abs(volume) / edges


@compiled
def _complete(pbc, s, n_periodic, basis):
    """Put unit vectors at right angles to the periodic vectors into the rows of the open directions."""
    if n_periodic == 0:
        for a in range(3):
            for c in range(3):
                basis[a, c] = 1.0 if a == c else 0.0
        return
    for a in range(3):
        first, second = (a + 1) % 3, (a + 2) % 3
        if pbc[s, a]:
            continue
        if pbc[s, first] and pbc[s, second]:
            _cross(basis, first, second, a)
        elif pbc[s, first]:
            # One periodic vector: the axis that it leans on least gives the first right angle.
            least = 0
            for c in range(1, 3):
                if abs(basis[first, c]) < abs(basis[first, least]):
                    least = c
            for c in range(3):
                basis[a, c] = 1.0 if c == least else 0.0
            _cross(basis, first, a, second)
            _cross(basis, second, first, a)
            return


@compiled
def _cross(basis, one, other, into):
    x = basis[one, 1] * basis[other, 2] - basis[one, 2] * basis[other, 1]
    y = basis[one, 2] * basis[other, 0] - basis[one, 0] * basis[other, 2]
    z = basis[one, 0] * basis[other, 1] - basis[one, 1] * basis[other, 0]
    length = math.sqrt(x * x + y * y + z * z)
    if length > 0.0:
        basis[into, 0], basis[into, 1], basis[into, 2] = x / length, y / length, z / length


class Home(NamedTuple):
    """Scratch for the atoms of one structure, moved into the home cell.

    x, y, z: (n,) float64 Å. fractional: (n, 3). wraps: (n, 3) int64 cells that the atom was moved back by.
    images: (n, 6) int64, least and greatest image along each axis that can be a neighbour.
    at: (n,) index of the atom itself among the candidates.
    vectors: (3, 3) Å, 0 in open directions. inverse: (3, 3), fractional coordinate a is r @ inverse[a].
    bounds: (6, 3) least and greatest x, y, z; least and greatest fractional coordinate; least and greatest wrap.
    span: (3,) how far beyond the atoms' fractional range an image can be a neighbour.
    """

    x: Any
    y: Any
    z: Any
    fractional: Any
    wraps: Any
    images: Any
    at: Any
    vectors: Any
    inverse: Any
    bounds: Any
    span: Any


class Candidates(NamedTuple):
    """Scratch for the candidates of one structure: atoms and images, sorted by (j, S).

    x, y, z: (m + LANES,) float32 Å, relative to the middle of the atoms. j: (m,) int32. image: (m,) int32, as
    `image_of` reads it.
    code: (m,) uint32, j and the shift packed, as seen from an atom that was not moved.
    """

    x: Any
    y: Any
    z: Any
    j: Any
    image: Any
    code: Any


@compiled
def new_home(n):
    """Scratch for structures of up to n atoms."""
    x, y, z, fractional, wraps = np.empty(n), np.empty(n), np.empty(n), np.empty((n, 3)), np.zeros((n, 3), np.int64)
    images, at = np.zeros((n, 6), np.int64), np.empty(n, np.int64)
    vectors, inverse, bounds, span = np.empty((3, 3)), np.empty((3, 3)), np.empty((6, 3)), np.empty(3)
    return Home(x, y, z, fractional, wraps, images, at, vectors, inverse, bounds, span)


@compiled
def new_candidates(m):
    """Scratch for up to m candidates."""
    x, y, z = np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32)
    return Candidates(x, y, z, np.empty(m, np.int32), np.empty(m, np.int32), np.empty(m, np.uint32))


@compiled
def image_of(image):
    """The three counts of cells that `list_images` packed into one number, 10 bits each."""
    return (image >> 20) - 512, ((image >> 10) & 1023) - 512, (image & 1023) - 512


@compiled
def packed_shift(j, S0, S1, S2):
    """j and S in 32 bits: 17 for j, and 5 for each shift plus 16; sums of such codes carry as sums of shifts do."""
    return np.uint32((j << 15) + ((S0 + 16) << 10) + ((S1 + 16) << 5) + (S2 + 16))


@inlined
def wrap_along(positions, start, n, a, home):
    """Count the cells that atoms lie off home along periodic axis a; gives -1, or the first that is too far away."""
    inverse0, inverse1, inverse2 = home.inverse[a, 0], home.inverse[a, 1], home.inverse[a, 2]
    least, most, first, last = np.inf, -np.inf, np.inf, -np.inf
    for i in range(n):
        at = start + i
        fraction = positions[at, 0] * inverse0 + positions[at, 1] * inverse1 + positions[at, 2] * inverse2
        wrap = math.floor(fraction)
        if not abs(wrap) < FARTHEST:
            return i
        home.wraps[i, a] = int(wrap)
        home.fractional[i, a] = fraction - wrap
        least, most = min(least, fraction - wrap), max(most, fraction - wrap)
        first, last = min(first, wrap), max(last, wrap)
    home.bounds[2, a], home.bounds[3, a], home.bounds[4, a], home.bounds[5, a] = least, most, first, last
    return -1


@inlined
def bring_home(positions, start, n, pbc, s, home):
    """Move the atoms of a structure into the home cell and fill `home.bounds`.

    Gives -1, or the first atom that lies too many cells away.
    """
    bounds, v = home.bounds, home.vectors
    for a in range(3):
        if pbc[s, a]:
            far = wrap_along(positions, start, n, a, home)
            if far >= 0:
                return far
        else:
            bounds[2, a], bounds[3, a], bounds[4, a], bounds[5, a] = 0.0, 0.0, 0.0, 0.0
            for i in range(n):
                home.wraps[i, a] = 0
    low0, low1, low2, high0, high1, high2 = np.inf, np.inf, np.inf, -np.inf, -np.inf, -np.inf
    for i in range(n):
        x, y, z = positions[start + i, 0], positions[start + i, 1], positions[start + i, 2]
        w0, w1, w2 = home.wraps[i, 0], home.wraps[i, 1], home.wraps[i, 2]
        if w0 != 0 or w1 != 0 or w2 != 0:
            x -= w0 * v[0, 0] + w1 * v[1, 0] + w2 * v[2, 0]
            y -= w0 * v[0, 1] + w1 * v[1, 1] + w2 * v[2, 1]
            z -= w0 * v[0, 2] + w1 * v[1, 2] + w2 * v[2, 2]
        home.x[i], home.y[i], home.z[i] = x, y, z
        low0, low1, low2 = min(low0, x), min(low1, y), min(low2, z)
        high0, high1, high2 = max(high0, x), max(high1, y), max(high2, z)
    bounds[0, 0], bounds[0, 1], bounds[0, 2] = low0, low1, low2
    bounds[1, 0], bounds[1, 1], bounds[1, 2] = high0, high1, high2
    return -1


@inlined
def prepare(positions, start, n, cell, pbc, s, cutoff, home):
    """Measure structure s and move its atoms home.

    Gives a number of candidates that cannot be exceeded (-1 - atom for one too far away), how wrong a distance can be
    by rounding (Å), and how far from the atoms candidates are to be listed (Å).
    """
    vectors, inverse, bounds, span = home.vectors, home.inverse, home.bounds, home.span
    ratio = measure(cell, pbc, s, vectors, inverse)
    far = bring_home(positions, start, n, pbc, s, home)
    if far >= 0:
        return -1.0 - far, 0.0, 0.0
    largest, extent = 0.0, 0.0
    for a in range(3):
        length = abs(vectors[a, 0]) + abs(vectors[a, 1]) + abs(vectors[a, 2])
        cells = 2.0 * max(abs(bounds[4, a]), abs(bounds[5, a])) + 4.0
        upright = abs(inverse[a, 0]) + abs(inverse[a, 1]) + abs(inverse[a, 2])
        largest += max(abs(bounds[0, a]), abs(bounds[1, a])) + (cells + cutoff * upright) * length
        extent = max(extent, 0.5 * (bounds[1, a] - bounds[0, a]))
    # `largest` is no less than any number that a distance is computed from, so `error` bounds what rounding does.
    error = 64.0 * EPS64 * (largest + cutoff)
    within = cutoff * (1.0 + 1e-9) + 2.0 * error + 1e-9
    for a in range(3):
        upright = math.sqrt(inverse[a, 0] ** 2 + inverse[a, 1] ** 2 + inverse[a, 2] ** 2)
        span[a] = within * upright + 1e-9 + 16.0 * EPS64 * largest * upright / ratio
    # Candidates are listed and picked in float32, relative to the middle of the atoms: that is wrong by a little more.
    error += 2.0 * EPS32 * (extent + 2.0 * within)
    return most_candidates(n, pbc, s, home), error, within + 2.0 * error


@inlined
def most_candidates(n, pbc, s, home):
    """A number of candidates that cannot be exceeded; counted in float64, where nothing wraps around."""
    bounds, span, images = home.bounds, home.span, home.images
    if not (pbc[s, 0] or pbc[s, 1] or pbc[s, 2]):
        return float(n)
    if span[0] + span[1] + span[2] > 500.0:
        return np.inf
    most = 0.0
    for i in range(n):
        here = 1.0
        for a in range(3):
            first, last = 0, 0
            if pbc[s, a]:
                at = home.fractional[i, a]
                first, last = math.ceil(bounds[2, a] - span[a] - at), math.floor(bounds[3, a] + span[a] - at)
            images[i, 2 * a], images[i, 2 * a + 1] = first, last
            here *= last - first + 1.0
        most += here
    return most


@inlined
def is_narrow(n, pbc, s, home):
    """Whether all shifts and atoms of a structure fit the code of a pair."""
    bounds = home.bounds
    if n > LARGEST_J + 1:
        return False
    for a in range(3):
        unlike = bounds[5, a] - bounds[4, a] + bounds[3, a] - bounds[2, a]
        if pbc[s, a] and unlike + home.span[a] > LARGEST_S:
            return False
    return True


@inlined
def list_open(n, home, found):
    """List the atoms of an open structure; gives their number."""
    bounds = home.bounds
    x0, y0, z0 = middle(bounds, 0), middle(bounds, 1), middle(bounds, 2)
    for j in range(n):
        put(found.x, j, np.float32(get(home.x, j) - x0))
        put(found.y, j, np.float32(get(home.y, j) - y0))
        put(found.z, j, np.float32(get(home.z, j) - z0))
        put(found.j, j, j)
        put(found.image, j, (512 << 20) + (512 << 10) + 512)
        put(found.code, j, packed_shift(j, 0, 0, 0))
        put(home.at, j, j)
    return n


@compiled
def middle(bounds, a):
    """Half way between the least and the greatest coordinate along an axis, Å."""
    return 0.5 * (bounds[0, a] + bounds[1, a])


@compiled
def list_images(n, within, home, found):
    """List the atoms and those of their images that lie within `within` Å of the box around the atoms.

    The order is that of (j, S). Gives the number of candidates; `found` must have room for `most_candidates` of them.
    """
    bounds, images, wraps, v = home.bounds, home.images, home.wraps, home.vectors
    square = within * within
    x0, y0, z0 = middle(bounds, 0), middle(bounds, 1), middle(bounds, 2)
    half0, half1, half2 = bounds[1, 0] - x0, bounds[1, 1] - y0, bounds[1, 2] - z0
    c0, c1, c2 = v[2, 0], v[2, 1], v[2, 2]
    m = 0
    for j in range(n):
        code_j = packed_shift(j, -wraps[j, 0], -wraps[j, 1], -wraps[j, 2])
        hx, hy, hz = home.x[j] - x0, home.y[j] - y0, home.z[j] - z0
        first2, last2 = images[j, 4], images[j, 5]
        for m0 in range(images[j, 0], images[j, 1] + 1):
            for m1 in range(images[j, 2], images[j, 3] + 1):
                x = hx + (m0 * v[0, 0] + m1 * v[1, 0] + first2 * c0)
                y = hy + (m0 * v[0, 1] + m1 * v[1, 1] + first2 * c1)
                z = hz + (m0 * v[0, 2] + m1 * v[1, 2] + first2 * c2)
                code = code_j + np.uint32((m0 << 10) + (m1 << 5) + first2)
                image = ((m0 + 512) << 20) + ((m1 + 512) << 10) + first2 + 512
                home_at = (512 << 20) + (512 << 10) + 512
                for _ in range(first2, last2 + 1):
                    beyond0 = max(abs(x) - half0, 0.0)
                    beyond1 = max(abs(y) - half1, 0.0)
                    beyond2 = max(abs(z) - half2, 0.0)
                    # Written always and kept by counting on: no branch that the processor would guess wrong.
                    put(found.x, m, np.float32(x))
                    put(found.y, m, np.float32(y))
                    put(found.z, m, np.float32(z))
                    put(found.j, m, j)
                    put(found.image, m, image)
                    put(found.code, m, code)
                    if image == home_at:
                        put(home.at, j, m)
                    m += beyond0 * beyond0 + beyond1 * beyond1 + beyond2 * beyond2 < square
                    x, y, z = x + c0, y + c1, z + c2
                    code += np.uint32(1)
                    image += 1
    return m
