"""What a pair finder is: one function signature, and the checks that every finder's input passes first.

A finder takes the packed structures of a batch and gives the full list of ordered pairs (i, j, S) with
D = r_j - r_i + S @ cell and |D| < cutoff, strictly; atoms in one place are an error. Both directions are listed,
(i, j, S) and (j, i, -S); an atom pairs with its own images, never with itself. Whether a pair counts is decided once
per unordered pair, on its canonical half (i < j, or i = j and S lexicographically positive), in float64, from the
positions as given. So both directions always agree, and so do all finders, machines and batchings. The list is sorted
by (i, j, S).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.keys import is_flat

COINCIDENT = 1e-8
"""Å. Atoms closer than this lie in one place: what is between them is rounding, not a distance."""

LARGEST = 1e15
"""Å. Cutoffs, coordinates and cells beyond this are mistakes; the finders' float32, which picks, ends not far away."""

FARTHEST = float(2**29)
"""Cells. Atoms farther from the origin have no shifts of 32 bits."""

CONTRACT_VERSION = 1
"""Raised whenever the set of pairs of some structure, or their order, changes."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """A full list of pairs, sorted by (i, j, S).

    i, j: (P,) int64, atoms, as indices into the packed atom arrays. S: (P, 3) int32, lattice shift of j.
    """

    i: Ints
    j: Ints
    S: NDArray[np.int32]


class Finder(Protocol):
    """The signature of a pair finder."""

    def __call__(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> Pairs:
        """Find the pairs of a batch.

        Args:
            positions: (N, 3) Å, atoms of all systems one after another.
            cell: (S, 3, 3) Å, lattice vectors as rows; vectors of non-periodic directions are ignored.
            pbc: (S, 3).
            cutoff: Å.
            offsets: (S + 1,) where each system's atoms start.
        """
        ...


def check_cutoff(cutoff: Any) -> float:
    """A cutoff is a length above 0 Å, up to `LARGEST`; anything else is a ValueError."""
    try:
        length = math.nan if isinstance(cutoff, str | bytes) else float(cutoff)
    except (TypeError, ValueError, OverflowError):
        length = math.nan
    if not math.isfinite(length) or length <= 0:
        raise ValueError(f"The cutoff is {cutoff!r} Å, expected a length above 0 Å. Set pairs.cutoff.")
    if length > LARGEST:
        raise ValueError(f"The cutoff is {length} Å, expected at most {LARGEST:g} Å. Set pairs.cutoff.")
    return length


def check_structure(positions: Floats, cell: Floats, pbc: Bools, system: int) -> None:
    """Refuse one structure whose pairs are not defined: numbers not finite or beyond `LARGEST`, or a flat cell."""
    bad = ~np.isfinite(positions).all(axis=1)
    if bad.any():
        atom = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"System {system}, atom {atom}: its position is {positions[atom].tolist()}, expected finite numbers in Å. "
            "Repair or remove the structure."
        )
    bad = (np.abs(positions) > LARGEST).any(axis=1)
    if bad.any():
        atom = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"System {system}, atom {atom}: its position is {positions[atom].tolist()}, expected numbers in Å of at "
            f"most {LARGEST:g}. Repair or remove the structure."
        )
    vectors = cell[pbc]
    if len(vectors):
        if not np.isfinite(vectors).all():
            raise ValueError(f"System {system}: its cell is {cell.tolist()}, expected finite numbers in Å.")
        if np.abs(vectors).max() > LARGEST:
            raise ValueError(
                f"System {system}: its cell is {cell.tolist()}, expected numbers in Å of at most {LARGEST:g}. "
                "Repair or remove the structure."
            )
        if is_flat(cell, pbc):
            raise ValueError(
                f"System {system} is periodic but its periodic lattice vectors {vectors.tolist()} are zero or lie in "
                "one plane. Give a cell with volume, or set pbc to False for that direction."
            )


def far_from_home(position: Floats, system: int, atom: int) -> ValueError:
    """The error for an atom (3,) so many cells away that its shifts would not fit into 32 bits."""
    return ValueError(
        f"System {system}, atom {atom}: its position {position.tolist()} is more than 2^29 cells from the origin, and "
        "shifts are kept in 32 bits. Wrap the atoms into the cell."
    )


def check_shapes(positions: Floats, cell: Floats, pbc: Bools, offsets: Ints) -> None:
    """Refuse arrays that do not belong together; compiled code reads where it is told to."""
    if offsets.ndim != 1:
        raise ValueError(f"The offsets have the shape {offsets.shape}, expected (S + 1,) for S systems.")
    systems = len(offsets) - 1
    if positions.ndim != 2 or positions.shape[1] != 3 or cell.shape[1:] != (3, 3) or pbc.shape[1:] != (3,):
        raise ValueError(
            f"Positions, cell and pbc have the shapes {positions.shape}, {cell.shape} and {pbc.shape}, expected "
            "(N, 3), (S, 3, 3) and (S, 3)."
        )
    if systems < 0 or len(cell) < systems or len(pbc) < systems:
        raise ValueError(f"There are {len(cell)} cells and {len(pbc)} pbc for {systems} systems, expected one each.")
    if offsets[0] != 0 or offsets[-1] > len(positions) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(
            f"The offsets run from {offsets[0]} to {offsets[-1]} for {len(positions)} atoms, expected numbers that "
            "start at 0, never fall, and end within the atoms."
        )


def coincident(system: int, first: int, second: int) -> ValueError:
    """The error for two atoms, or an atom and an image, in one place."""
    return ValueError(
        f"System {system}: atoms {first} and {second} lie in one place (an image of the one on the other where it is "
        "periodic), where no distance and no force is defined. Repair or remove the structure."
    )
