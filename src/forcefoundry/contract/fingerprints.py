"""A few numbers of each structure that no rotation, numbering, wrapping or choice of origin changes.

They are sums over pairs of atoms of smooth functions of the distance, for each atom: what moves a little changes them
a little, so nearly equal structures lie within a small radius of each other. A mirror image has the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

REACH = 5.0
"""Å: pairs farther apart count nothing."""

WAVES, WEIGHED = 8, 4
LENGTH = WAVES + WEIGHED
"""Numbers a structure: eight that know no elements, and four of pairs weighed by their elements."""

_MOST_IMAGES = 100_000  # of a cell so thin that looking through them takes seconds: such a row has NaN


def fingerprints(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The fingerprints (n, 12) of packed columns: n_atoms, species, positions in Å, cell in Å, pbc.

    Rows that have none (numbers that are not finite, cells that are flat or thinner than their atoms) have NaN in all.
    Atoms in one place are no error.
    """
    n_atoms = np.asarray(columns["n_atoms"], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(n_atoms)]).astype(np.int64)
    found = np.full((len(n_atoms), LENGTH), np.nan)
    if len(n_atoms):
        cells, inverses, images = periodic_frames(columns["cell"], columns["pbc"], REACH)
        species = np.asarray(columns["species"], dtype=np.int64)
        weights = 2.0 * np.modf(species * 0.6180339887498949)[0] - 1.0
        positions = np.ascontiguousarray(columns["positions"], dtype=np.float64)
        _summed()(positions, weights, offsets, cells, inverses, images, found)
    return found.astype(np.float32)


def periodic_frames(
    cell: NDArray[Any], pbc: NDArray[Any], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Lattices for looking at the images within `reach` (Å) of an atom.

    Returns:
        (n, 3, 3) the cells, with vectors of directions that are not periodic set to unit ones across the others;
        (n, 3, 3) their inverses, zero for what is not periodic; and (n, 3) how many images in either direction can
        lie within reach once a difference is wrapped, -1 where a structure cannot be looked at.
    """
    pbc = np.asarray(pbc, dtype=bool)
    cells = np.where(pbc[:, :, None], np.asarray(cell, dtype=np.float64), 0.0)
    inverses = np.zeros_like(cells)
    images = np.zeros((len(cells), 3), dtype=np.int64)
    periodic = np.flatnonzero(pbc.any(axis=1))
    if not len(periodic):
        return cells, inverses, images
    fine = np.isfinite(cells[periodic]).all(axis=(1, 2))
    images[periodic[~fine]] = -1
    periodic = periodic[fine]
    # The pseudo-inverse of the periodic vectors alone: its columns' lengths are one over the heights of the cell.
    inverses[periodic] = np.linalg.pinv(cells[periodic], rcond=1e-10)
    steps = reach * np.linalg.norm(inverses[periodic], axis=1) + 0.5
    counts = np.floor(np.minimum(steps, 1e6)).astype(np.int64)
    counts[~pbc[periodic]] = 0
    counts[np.prod(2.0 * counts + 1.0, axis=1) > _MOST_IMAGES] = -1
    images[periodic] = counts
    return cells, inverses, images


@cache
def steepness() -> float:
    """How far a fingerprint moves, at most, for a pair's distance that changes by 1 Å, an atom: a length in (12,)."""
    distance = np.linspace(0.0, REACH, 20001)
    inside = (1.0 - (distance / REACH) ** 2) ** 2
    waves = np.stack([inside * np.cos(m * np.pi * distance / REACH) / max(m, 1) for m in range(WAVES)])
    slopes = np.gradient(waves, distance, axis=1) ** 2
    return float(np.sqrt((slopes.sum(axis=0) + slopes[:WEIGHED].sum(axis=0)).max()))


@cache
def _summed() -> Any:
    from forcefoundry.pairs.native.compiling import kept  # numba: a second, and not before it is needed

    return kept(_make)


def _make(sources: int) -> Any:
    reach, waves, weighed, number = REACH, WAVES, WEIGHED, sources

    def summed(
        positions: Any, weights: Any, offsets: Any, cells: Any, inverses: Any, images: Any, found: Any
    ) -> int:  # pragma: no cover - compiled
        square = reach * reach
        for row in range(len(found)):
            if images[row].min() < 0:
                continue
            start, stop = offsets[row], offsets[row + 1]
            na, nb, nc = images[row, 0], images[row, 1], images[row, 2]
            cell, inverse = cells[row], inverses[row]
            total = np.zeros(waves + weighed)
            for i in range(start, stop):
                for j in range(i, stop):
                    x = positions[j, 0] - positions[i, 0]
                    y = positions[j, 1] - positions[i, 1]
                    z = positions[j, 2] - positions[i, 2]
                    a = -np.rint(x * inverse[0, 0] + y * inverse[1, 0] + z * inverse[2, 0])
                    b = -np.rint(x * inverse[0, 1] + y * inverse[1, 1] + z * inverse[2, 1])
                    c = -np.rint(x * inverse[0, 2] + y * inverse[1, 2] + z * inverse[2, 2])
                    x += a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                    y += a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                    z += a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
                    weight = weights[i] * weights[j]
                    for u in range(-na, na + 1):
                        for v in range(-nb, nb + 1):
                            for w in range(-nc, nc + 1):
                                if i == j and (u < 0 or (u == 0 and (v < 0 or (v == 0 and w <= 0)))):
                                    continue  # an atom and its image: one of the two directions
                                p = x + u * cell[0, 0] + v * cell[1, 0] + w * cell[2, 0]
                                q = y + u * cell[0, 1] + v * cell[1, 1] + w * cell[2, 1]
                                s = z + u * cell[0, 2] + v * cell[1, 2] + w * cell[2, 2]
                                apart = p * p + q * q + s * s
                                if apart >= square:
                                    continue
                                inside = (1.0 - apart / square) ** 2
                                # cos(m t) from cos(t) alone: one cosine a pair
                                cosine = np.cos(np.pi * np.sqrt(apart) / reach)
                                before, now = cosine, 1.0
                                for m in range(waves):
                                    value = inside * now / max(m, 1)
                                    total[m] += value
                                    if m < weighed:
                                        total[waves + m] += weight * value
                                    before, now = now, 2.0 * cosine * now - before
            found[row] = total / (stop - start)
        return number

    return summed
