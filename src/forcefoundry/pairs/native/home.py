"""The atoms of one structure, moved into the home cell, and how far their images must be looked for."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.contract import FARTHEST
from forcefoundry.pairs.native.cells import measure
from forcefoundry.pairs.native.compiling import compiled, inlined, making

MOST_CELLS = 500.0
"""How many cells away along one axis images can be: their numbers are kept in 10 bits, with their sign."""

EPS32, EPS64 = 2.0**-23, 2.0**-52
"""The relative spacing of float32 and float64."""


class Home(NamedTuple):
    """Scratch for the atoms of one structure, moved into the home cell.

    x, y, z: (n,) float64 Å. wraps: (n, 3) int64 cells that the atom was moved back by.
    images: (6,) int64, least and greatest image along each axis that can be a neighbour.
    at: (n,) index of the atom itself among the candidates.
    vectors: (3, 3) Å, 0 in open directions. inverse: (3, 3), fractional coordinate a is r @ inverse[a].
    bounds: (6, 3) least and greatest x, y, z; least and greatest fractional coordinate; least and greatest wrap.
    span: (3,) how far beyond the atoms' fractional range an image can be a neighbour.
    """

    x: Any
    y: Any
    z: Any
    wraps: Any
    images: Any
    at: Any
    vectors: Any
    inverse: Any
    bounds: Any
    span: Any


@making
def home_in(floats, ints, n):
    """The scratch for structures of up to n atoms, in flat arrays; larger ones where they are too small.

    Gives it, and the flat arrays.
    """
    if len(floats) < 3 * n + 39:
        floats = np.empty(4 * n + 64)
    if len(ints) < 4 * n + 6:
        ints = np.empty(5 * n + 64, np.int64)
    x, y, z = floats[:n], floats[n : 2 * n], floats[2 * n : 3 * n]
    wraps, at, images = ints[: 3 * n].reshape((n, 3)), ints[3 * n : 4 * n], ints[4 * n : 4 * n + 6]
    rest = floats[3 * n : 3 * n + 39]
    vectors, inverse = rest[:9].reshape((3, 3)), rest[9:18].reshape((3, 3))
    bounds, span = rest[18:36].reshape((6, 3)), rest[36:39]
    return Home(x, y, z, wraps, images, at, vectors, inverse, bounds, span), floats, ints


@inlined
def wrap_along(positions, start, n, a, home):
    """Count the cells that atoms lie off home along periodic axis a; gives -1, or the first that is too far away."""
    inverse0, inverse1, inverse2 = home.inverse[a, 0], home.inverse[a, 1], home.inverse[a, 2]
    least, most, first, last = np.inf, -np.inf, np.inf, -np.inf
    for i in range(n):
        at = start + i
        fraction = positions[at, 0] * inverse0 + positions[at, 1] * inverse1 + positions[at, 2] * inverse2
        wrap = math.floor(fraction)
        if not abs(wrap) <= FARTHEST:
            return i
        home.wraps[i, a] = int(wrap)
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
    # Candidates are listed and picked in float32, relative to the middle of the atoms: that is wrong by a little more,
    # by twice EPS32 / 2 of a coordinate for atoms as they are, and for images by as much of what they are the sum of.
    if pbc[s, 0] or pbc[s, 1] or pbc[s, 2]:
        error += 8.0 * EPS32 * (extent + within)
    else:
        error += 2.0 * EPS32 * (extent + 2.0 * within)
    return most_candidates(n, pbc, s, home), error, within + 2.0 * error


@inlined
def most_candidates(n, pbc, s, home):
    """A number of candidates that cannot be exceeded; counted in float64, where nothing wraps around.

    Infinite for images that are too many cells away along one axis.
    """
    bounds, span, images = home.bounds, home.span, home.images
    most = float(n)
    for a in range(3):
        images[2 * a], images[2 * a + 1] = 0, 0
        if pbc[s, a]:
            if not span[a] <= MOST_CELLS:
                return np.inf
            unlike = bounds[3, a] - bounds[2, a] + span[a]
            images[2 * a], images[2 * a + 1] = math.ceil(-unlike), math.floor(unlike)
            most *= images[2 * a + 1] - images[2 * a] + 1.0
    return most


@compiled
def middle(bounds, a):
    """Half way between the least and the greatest coordinate along an axis, Å."""
    return 0.5 * (bounds[0, a] + bounds[1, a])
