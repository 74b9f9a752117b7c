"""What a cell is: its periodic vectors, and the fractional coordinates that belong to them."""

from __future__ import annotations

import math

from forcefoundry.pairs.native.compiling import compiled


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
