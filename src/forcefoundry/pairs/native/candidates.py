"""The atoms of one structure and those of their images that can be anyone's neighbour, in the order of (j, S)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, inlined, making
from forcefoundry.pairs.native.home import EPS32, middle
from forcefoundry.pairs.native.lanes import LANES, PLACES, get, put
from forcefoundry.pairs.native.near import list_beside, list_row

LARGEST_J, LARGEST_S = 2**17 - 1, 15
"""What fits the code of a pair, in 32 bits; a pair that does not has code 0 and is written out beside."""


class Candidates(NamedTuple):
    """Scratch for the candidates of one structure, atoms and images, sorted by (j, S), and for the images there are.

    x, y, z: (m + LANES,) float32 Å, relative to the middle of the atoms. origin: (m + LANES,) uint32, which image of
    which atom it is, as `origin_of` reads it. code: (m + LANES,) uint32, j and the shift packed, as seen from an atom
    that was not moved. near: (m + LANES,) uint32, room for those that are near an atom.
    dx, dy, dz: (k + LANES,) float32 Å, by how much each image of the cell is moved. steps: (k + LANES,) uint32, that in
    cells, 10 bits each. codes: (k + LANES,) uint32, the same added to a code. stride: (1,) int64, how many images there
    are.
    """

    x: Any
    y: Any
    z: Any
    origin: Any
    code: Any
    near: Any
    dx: Any
    dy: Any
    dz: Any
    steps: Any
    codes: Any
    stride: Any


@making
def candidates_in(floats, ints, m, k):
    """The scratch for up to m candidates and k images, in flat arrays; larger ones where they are too small.

    Gives it, and the flat arrays.
    """
    m, k = m + LANES, k + LANES
    if len(floats) < 3 * (m + k):
        floats = np.empty(4 * (m + k), np.float32)
    if len(ints) < 3 * m + 2 * k:
        ints = np.empty(4 * (m + k), np.uint32)
    x, y, z, shifts = floats[:m], floats[m : 2 * m], floats[2 * m : 3 * m], floats[3 * m : 3 * (m + k)]
    origin, code, near, rest = ints[:m], ints[m : 2 * m], ints[2 * m : 3 * m], ints[3 * m : 3 * m + 2 * k]
    dx, dy, dz, steps, codes = shifts[:k], shifts[k : 2 * k], shifts[2 * k :], rest[:k], rest[k:]
    found = Candidates(x, y, z, origin, code, near, dx, dy, dz, steps, codes, np.empty(1, np.int64))
    return found, floats, ints


@inlined
def origin_of(found, k):
    """Of which atom candidate k is the image, and the three counts of cells that it is moved by."""
    origin, stride = np.int64(found.origin[k]), found.stride[0]
    steps = np.int64(found.steps[origin % stride])
    return origin // stride, (steps >> 20) - 512, ((steps >> 10) & 1023) - 512, (steps & 1023) - 512


@compiled
def packed_steps(m0, m1, m2):
    """Three counts of cells in one number, 10 bits each."""
    return np.uint32(((m0 + 512) << 20) + ((m1 + 512) << 10) + m2 + 512)


@compiled
def packed_shift(j, S0, S1, S2):
    """j and S in 32 bits: 17 for j, and 5 for each shift plus 16; sums of such codes carry as sums of shifts do."""
    return np.uint32((j << 15) + ((S0 + 16) << 10) + ((S1 + 16) << 5) + (S2 + 16))


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
        put(found.origin, j, j)
        put(found.code, j, packed_shift(j, 0, 0, 0))
        put(home.at, j, j)
    found.stride[0], found.steps[0] = 1, packed_steps(0, 0, 0)
    return n


@inlined
def list_shifts(within, home, found):
    """List the images of the cell in which an atom can lie within `within` Å of the box around the atoms, in order.

    Gives which of them is the cell itself: as many come before it as after it, the same ones moved the other way.
    """
    bounds, images, v = home.bounds, home.images, home.vectors
    # Steps along a skewed cell's vectors are longer than what they add up to, and so is their rounding.
    reach = within
    for a in range(3):
        longest = max(-images[2 * a], images[2 * a + 1]) + LANES
        reach += 4.0 * EPS32 * longest * (abs(v[a, 0]) + abs(v[a, 1]) + abs(v[a, 2]))
    square = np.float32(reach * reach)
    # An atom and another one's image lie no farther apart than the image is moved, and no more than a box nearer.
    edge0, edge1, edge2 = bounds[1, 0] - bounds[0, 0], bounds[1, 1] - bounds[0, 1], bounds[1, 2] - bounds[0, 2]
    half0, half1, half2 = np.float32(edge0), np.float32(edge1), np.float32(edge2)
    first, n = images[4], 0
    for m0 in range(images[0], 1):
        for m1 in range(images[2], images[3] + 1 if m0 < 0 else 1):
            last = images[5] + 1 if m0 < 0 or m1 < 0 else 0
            x = m0 * v[0, 0] + m1 * v[1, 0] + first * v[2, 0]
            y = m0 * v[0, 1] + m1 * v[1, 1] + first * v[2, 1]
            z = m0 * v[0, 2] + m1 * v[1, 2] + first * v[2, 2]
            code = np.uint32((m0 << 10) + (m1 << 5) + first)
            n = list_row(
                x, y, z, v[2, 0], v[2, 1], v[2, 2], last - first, half0, half1, half2, square,
                PLACES, packed_steps(m0, m1, first), code, found.dx, found.dy, found.dz, found.steps, found.codes, n,
            )  # fmt: skip
    nowhere = packed_steps(0, 0, 0)
    found.dx[n], found.dy[n], found.dz[n], found.steps[n], found.codes[n] = 0.0, 0.0, 0.0, nowhere, 0
    for k in range(1, n + 1):
        put(found.dx, n + k, -get(found.dx, n - k))
        put(found.dy, n + k, -get(found.dy, n - k))
        put(found.dz, n + k, -get(found.dz, n - k))
        put(found.steps, n + k, np.uint32(nowhere + nowhere - get(found.steps, n - k)))
        put(found.codes, n + k, np.uint32(-get(found.codes, n - k)))
    found.stride[0] = 2 * n + 1
    return n


@inlined
def list_images(n, within, home, found):
    """List the atoms and those of their images that lie within `within` Å of the box around the atoms.

    The order is that of (j, S). Gives the number of candidates; `found` must have room for `most_candidates` of them.
    """
    own = list_shifts(within, home, found)
    n_images = 2 * own + 1
    bounds, wraps = home.bounds, home.wraps
    square = np.float32(within * within)
    x0, y0, z0 = middle(bounds, 0), middle(bounds, 1), middle(bounds, 2)
    half0, half1, half2 = np.float32(bounds[1, 0] - x0), np.float32(bounds[1, 1] - y0), np.float32(bounds[1, 2] - z0)
    m = 0
    for j in range(n):
        code = packed_shift(j, -get(wraps, 3 * j), -get(wraps, 3 * j + 1), -get(wraps, 3 * j + 2))
        x, y, z = np.float32(get(home.x, j) - x0), np.float32(get(home.y, j) - y0), np.float32(get(home.z, j) - z0)
        # Of the first atom only images behind it are looked at: the others belong to pairs of its own.
        for first, last in ((own if j == 0 else 0, own), (own, n_images)):
            put(home.at, j, m)
            m = list_beside(
                found.dx, found.dy, found.dz, found.codes, first, last, x, y, z, half0, half1, half2, square,
                PLACES, code, np.uint32(j * n_images), found.x, found.y, found.z, found.code, found.origin, m,
            )  # fmt: skip
    return m
