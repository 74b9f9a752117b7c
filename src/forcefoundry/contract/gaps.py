"""How much of a periodic cell is empty: its thickest layer without an atom tells slabs and molecules from bulk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.measures import Floats, Ints


def gaps(columns: Mapping[str, NDArray[Any]], rows: Ints) -> Floats:
    """(n,) Å, for some of n rows, the thickest layer parallel to a face of the cell that holds no atom's centre.

    NaN for rows that are not among `rows`, which must be periodic in all three directions and have a cell with volume.
    """
    counts = np.asarray(columns["n_atoms"], dtype=np.int64)
    found = np.full(len(counts), np.nan)
    if not len(rows):
        return found
    n_atoms, starts = counts[rows], np.cumsum(counts) - counts
    first = np.cumsum(n_atoms) - n_atoms
    last = first + n_atoms - 1
    row = np.repeat(np.arange(len(rows)), n_atoms)
    positions = columns["positions"][starts[rows][row] + np.arange(n_atoms.sum()) - first[row]]
    inverse = np.linalg.inv(np.asarray(columns["cell"][rows], dtype=np.float64))
    heights = 1.0 / np.linalg.norm(inverse, axis=1)
    inside = np.einsum("ik,ikl->il", positions, inverse[row])
    inside -= np.floor(inside)
    widest = np.zeros(len(rows))
    for axis in range(3):
        # One sort for all rows: each has the numbers from its own to the next to itself.
        places = np.sort(inside[:, axis] * 0.5 + row)
        apart = np.empty_like(places)
        apart[:-1] = np.diff(places)
        apart[last] = places[first] + 0.5 - places[last]
        widest = np.maximum(widest, np.maximum.reduceat(apart, first) * 2.0 * heights[:, axis])
    found[rows] = widest
    return found
