"""The two atoms of each structure that are closest for their elements, whatever the structure looks like.

No list of pairs is made: the search narrows as it finds closer ones, so what is absurdly dense is fast too, and atoms
in one place or cells far smaller than the reach are no errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REACH = 6.0
"""Å: atoms farther apart are nobody's neighbours here."""

FARTHEST = 1.8
"""Sums of covalent radii: the same. Solid argon's atoms are 1.77 apart."""

_UNKNOWN = 1.5
"""Å: the radius of elements that nobody has measured."""

_MOST_IMAGES = 1000.0  # along one lattice vector; a cell so skewed has no answer


@cache
def radii() -> Floats:
    """(119,) Å, covalent radii by atomic number (Cordero et al. 2008)."""
    from ase.data import covalent_radii, missing

    found = np.full(119, _UNKNOWN)
    known = np.asarray(covalent_radii[:119], dtype=np.float64)
    measured = np.isfinite(known) & (known != missing)
    found[: len(known)][measured] = known[measured]
    return found


def closest(columns: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats, Ints]:
    """The pair of atoms whose distance is smallest by the sum of their covalent radii; an atom and its image are one.

    Args:
        columns: packed n_atoms, species, positions, cell and pbc of n structures.

    Returns:
        (n,) the distance in Å, (n,) the same by the sum of the radii, both NaN where no two atoms are within reach, and
        (n, 2) the atoms, counted within the structure, -1 for none.
    """
    n_atoms = np.asarray(columns["n_atoms"], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(n_atoms)]).astype(np.int64)
    distance, nearness = np.full(len(n_atoms), np.nan), np.full(len(n_atoms), np.nan)
    atoms = np.full((len(n_atoms), 2), -1, dtype=np.int64)
    if len(n_atoms):
        pbc = np.asarray(columns["pbc"], dtype=bool)
        cells = np.where(pbc[:, :, None], np.asarray(columns["cell"], dtype=np.float64), 0.0)
        with np.errstate(all="ignore"):
            inverses = inverted(cells, pbc)
        sizes = radii()[np.clip(np.asarray(columns["species"], dtype=np.int64), 0, 118)]
        positions = np.ascontiguousarray(columns["positions"], dtype=np.float64)
        _search()(positions, sizes, offsets, cells, inverses, pbc, distance, nearness, atoms)
    return distance, nearness, atoms


def inverted(cells: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """(n, 3, 3) inverses of cells whose vectors of open directions are zero; columns of those are zero too.

    A column's length is one over the height of the cell. Cells that have none give numbers that are not finite.
    """
    found = np.zeros_like(cells)
    whole = pbc.all(axis=1)
    a, b, c = (cells[whole, axis] for axis in range(3))
    across = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=2)
    found[whole] = across / np.einsum("nk,nk->n", a, across[:, :, 0])[:, None, None]
    in_part = np.flatnonzero(pbc.any(axis=1) & ~whole)
    finite = np.isfinite(cells[in_part]).all(axis=(1, 2))
    found[in_part[~finite]] = np.nan
    found[in_part[finite]] = np.linalg.pinv(cells[in_part[finite]], rcond=1e-10)
    return found


@cache
def _search() -> Any:
    from forcefoundry.pairs.native.compiling import kept  # numba: a second, and not before it is needed

    return kept(_make)


def _make(sources: int) -> Any:
    reach, farthest, most, number = REACH, FARTHEST, _MOST_IMAGES, sources

    def search(
        positions: Any,
        sizes: Any,
        offsets: Any,
        cells: Any,
        inverses: Any,
        pbc: Any,
        distance: Any,
        nearness: Any,
        atoms: Any,
    ) -> int:  # pragma: no cover - compiled
        heights, normal = np.empty(3), np.empty(3)
        low, high = np.zeros(3, np.int64), np.zeros(3, np.int64)
        for row in range(len(offsets) - 1):
            start, n = offsets[row], offsets[row + 1] - offsets[row]
            cell, inverse = cells[row], inverses[row]
            largest = start
            for at in range(start, start + n):
                if sizes[at] > sizes[largest]:
                    largest = at
            widest = sizes[largest]
            # An atom and its image: the nearest of all is that of the largest atom, and bounds how far to look.
            best, first, second, apart = farthest, -1, -1, np.nan
            shortest, fine = np.inf, True
            for k in range(3):
                heights[k] = np.inf
                if pbc[row, k]:
                    height = 1.0 / np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
                    fine = fine and height > 0.0
                    heights[k] = height
                    length = np.sqrt(cell[k, 0] ** 2 + cell[k, 1] ** 2 + cell[k, 2] ** 2)
                    shortest = min(shortest, length)
            for k in range(3):
                fine = fine and not (pbc[row, k] and min(shortest, reach) > most * heights[k])
            if not fine:
                continue
            if shortest <= reach and shortest / (2.0 * widest) < best:
                best, first, second, apart = shortest / (2.0 * widest), largest - start, largest - start, shortest
            # Atoms in the order of where they lie along a direction: those behind a gap need not be tried.
            along = -1
            for k in range(3):
                if pbc[row, k] and (along < 0 or heights[k] > heights[along]):
                    along = k
            normal[:] = 0.0
            period = np.inf
            if along >= 0:
                period = heights[along]
                for x in range(3):
                    normal[x] = inverse[x, along] * period
            else:
                extent = -1.0
                for x in range(3):
                    spread = positions[start : start + n, x].max() - positions[start : start + n, x].min()
                    if spread > extent:
                        extent, along = spread, x
                normal[along] = 1.0
            place = np.empty(n)
            for at in range(n):
                p = positions[start + at]
                place[at] = p[0] * normal[0] + p[1] * normal[1] + p[2] * normal[2]
                if period < np.inf:
                    place[at] -= np.floor(place[at] / period) * period
            order = np.argsort(place)
            for rank in range(n):
                i = start + order[rank]
                for step in range(n):  # 0: its own images
                    other = rank + step
                    if other >= n and period == np.inf:
                        break
                    j = start + order[other % n]
                    gap = place[j - start] - place[i - start]
                    if other >= n:
                        gap += period
                    if gap > min(best * (sizes[i] + widest), reach):
                        break
                    if step == 0 and (shortest == np.inf or i != largest):
                        continue
                    sizes_of_both = sizes[i] + sizes[j]
                    limit = min(best * sizes_of_both, reach)
                    x = positions[j, 0] - positions[i, 0]
                    y = positions[j, 1] - positions[i, 1]
                    z = positions[j, 2] - positions[i, 2]
                    if shortest < np.inf:
                        for k in range(3):
                            if pbc[row, k]:
                                f = x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]
                                w = np.rint(f)
                                # Wrapped first, so that whole numbers stay small however far apart the atoms are.
                                x, y, z = x - w * cell[k, 0], y - w * cell[k, 1], z - w * cell[k, 2]
                        for k in range(3):
                            low[k], high[k] = 0, 0
                            if pbc[row, k]:
                                f = x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]
                                room = limit / heights[k] + 1e-9
                                low[k], high[k] = 1, 0  # none, of numbers too large to be wrapped
                                if abs(f) < most:
                                    low[k], high[k] = np.int64(np.ceil(-room - f)), np.int64(np.floor(room - f))
                    else:
                        low[:], high[:] = 0, 0
                    for u in range(low[0], high[0] + 1):
                        for v in range(low[1], high[1] + 1):
                            for t in range(low[2], high[2] + 1):
                                if step == 0 and u == 0 and v == 0 and t == 0:
                                    continue
                                p = x + u * cell[0, 0] + v * cell[1, 0] + t * cell[2, 0]
                                q = y + u * cell[0, 1] + v * cell[1, 1] + t * cell[2, 1]
                                s = z + u * cell[0, 2] + v * cell[1, 2] + t * cell[2, 2]
                                found = np.sqrt(p * p + q * q + s * s)
                                if found <= reach and found < best * sizes_of_both:
                                    best, apart = found / sizes_of_both, found
                                    first, second = i - start, j - start
            if first >= 0:
                distance[row], nearness[row] = apart, best
                atoms[row, 0], atoms[row, 1] = min(first, second), max(first, second)
        return number

    return search
