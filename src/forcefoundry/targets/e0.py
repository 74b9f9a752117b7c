"""E0: one energy a species by least squares, so that the network starts from the right zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forcefoundry.databases.database import Database
from forcefoundry.databases.mapped import pieces
from forcefoundry.targets.energy import EnergyReadout

_ATOMS_AT_ONCE = 1_000_000


def species_counts(database: Database, structures: NDArray[np.int64], species: Sequence[int]) -> NDArray[np.float64]:
    """How many atoms of each species each structure has, (structures, species); other elements are not counted."""
    structures = np.asarray(structures, dtype=np.int64)
    place = np.full(120, -1)  # atomic number -> column
    place[list(species)] = np.arange(len(species))
    counts: list[NDArray[Any]] = [np.zeros((0, len(species)))]
    for part in pieces(structures, database.n_atoms, _ATOMS_AT_ONCE):
        row_of_atom = np.repeat(np.arange(len(part)), database.n_atoms[part])
        column = place[database.columns.take("species", part)]
        known = column >= 0
        cells = row_of_atom[known] * len(species) + column[known]
        counts.append(np.bincount(cells, minlength=len(part) * len(species)).reshape(len(part), len(species)))
    return np.concatenate(counts).astype(np.float64)


def least_squares_e0(
    counts: NDArray[np.float64], energies: NDArray[np.float64], per_atom: bool = False
) -> NDArray[np.float64]:
    """Solve counts @ e0 ≈ energies in float64, without intercept.

    Args:
        counts: (structures, species) atoms of each species.
        energies: (structures,) total energies, eV; structures where it is NaN have no label and are left out.
        per_atom: divide both by the number of atoms first, so that large structures weigh no more than small ones.

    Returns:
        (species,) eV. Where the counts do not determine it (two species always in one ratio, or a species that no
        labelled structure has), the shortest solution.

    Raises:
        ValueError: when no energy is given, or they are not one for each row of counts.
    """
    counts, energies = np.asarray(counts, dtype=np.float64), np.asarray(energies, dtype=np.float64).ravel()
    if len(counts) != len(energies):
        raise ValueError(f"There are counts of {len(counts)} structures, but {len(energies)} energies; give one each.")
    labelled = ~np.isnan(energies)
    if not labelled.any():
        raise ValueError(f"None of {len(energies)} structures has an energy, so E0 cannot be fitted. Label some.")
    counts, energies = counts[labelled], energies[labelled]
    if per_atom:
        n_atoms = counts.sum(axis=1)
        counts, energies = counts / n_atoms[:, None], energies / n_atoms
    solution, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    return np.asarray(solution, dtype=np.float64)


def initialise_energy(readout: EnergyReadout, e0: NDArray[np.float64], decay_factor: float = 1e-2) -> None:
    """Set E0, and scale the readout of level n by decay_factor**n so that higher levels start out small.

    The origin documents the same factor but squares it from level to level; both agree for the first two.

    Args:
        readout: whose E0 is set; whether it is trained with the rest stays as it was made.
        e0: (species,) eV, in the order of the network's species.
        decay_factor: 1 leaves the readouts as they are.

    Raises:
        ValueError: for an energy without E0, or energies that are not one for each species.
    """
    if readout.e0 is None:
        raise ValueError("The energy starts at the first interacting level, so it has no E0 to set.")
    if e0.shape != tuple(readout.e0.shape):
        raise ValueError(f"E0 has shape {e0.shape}, expected one energy for each of {len(readout.e0)} species.")
    with torch.no_grad():
        readout.e0.copy_(torch.from_numpy(e0))
        for level, linear in enumerate(readout.readouts, start=1):
            assert isinstance(linear, torch.nn.Linear)
            linear.weight.mul_(decay_factor**level)
            linear.bias.mul_(decay_factor**level)
