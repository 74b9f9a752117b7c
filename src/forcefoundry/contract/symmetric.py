"""Whether the forces of a structure vanish by symmetry: those of any pair potential would vanish too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.cpu import CpuFinder

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CUTOFF = 5.0  # Å
_FALL = 1.5  # Å: over this distance the potential's forces fall by e
_AT_ONCE = 200  # structures


def polarity(columns: Mapping[str, NDArray[Any]], rows: Ints) -> Floats:
    """(m,) for each of the rows the largest force of a pair potential, by the largest sum of its parts' lengths.

    0 where every atom's surroundings pull it nowhere, as in a perfect crystal; 0.01 or more where they do. NaN for what
    the pair finder refuses, such as atoms in one place.
    """
    found = np.full(len(rows), np.nan)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, len(rows)))
        try:
            found[part] = _polarity(columns, rows[part])
        except ValueError:
            for at in range(part.start, part.stop):
                try:
                    found[at] = _polarity(columns, rows[at : at + 1])[0]
                except ValueError:
                    continue
    return found


def _polarity(columns: Mapping[str, NDArray[Any]], rows: Ints) -> Floats:
    counts = np.asarray(columns["n_atoms"], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    n_atoms = counts[rows]
    first = np.cumsum(n_atoms) - n_atoms
    atoms = np.repeat(starts[rows] - first, n_atoms) + np.arange(n_atoms.sum())
    positions, species = columns["positions"][atoms], columns["species"][atoms]
    cell, offsets = columns["cell"][rows], np.append(first, n_atoms.sum())
    pairs = CpuFinder()(positions, cell, columns["pbc"][rows], _CUTOFF, offsets)
    row = np.repeat(np.arange(len(rows)), n_atoms)
    apart = positions[pairs.j] - positions[pairs.i] + np.einsum("pk,pkl->pl", pairs.S, cell[row[pairs.i]])
    distance = np.linalg.norm(apart, axis=1)
    strength = 1.0 + np.modf(species * 0.6180339887498949)[0]  # of its element: others pull otherwise
    pull = strength[pairs.j] * np.exp(-distance / _FALL) * (1.0 - (distance / _CUTOFF) ** 2) ** 2
    parts = np.bincount(pairs.i, pull, len(atoms))
    sums = [np.bincount(pairs.i, pull * apart[:, axis] / distance, len(atoms)) for axis in range(3)]
    largest = np.maximum.reduceat(np.linalg.norm(sums, axis=0), first)
    whole = np.maximum.reduceat(parts, first)
    return np.divide(largest, whole, out=np.zeros(len(rows)), where=whole > 0)
