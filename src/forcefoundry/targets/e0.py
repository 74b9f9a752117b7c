"""E0: one energy a species by least squares, so that the network starts from the right zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from forcefoundry.databases.database import Database
from forcefoundry.targets.energy import EnergyReadout


def species_counts(database: Database, structures: NDArray[np.int64], species: Sequence[int]) -> NDArray[np.float64]:
    """How many atoms of each species each structure has, (structures, species)."""
    numbers = database.columns["species"]
    counts = [[np.count_nonzero(numbers[database.atoms(at)] == z) for z in species] for at in structures]
    return np.array(counts, dtype=np.float64).reshape(len(structures), len(species))


def least_squares_e0(
    counts: NDArray[np.float64], energies: NDArray[np.float64], per_atom: bool = False
) -> NDArray[np.float64]:
    """Solve counts @ e0 ≈ energies in float64, without intercept.

    Args:
        counts: (structures, species) atoms of each species.
        energies: (structures,) total energies, eV.
        per_atom: divide both by the number of atoms first, so that large structures weigh no more than small ones.

    Returns:
        (species,) eV. Where the counts do not determine it (two species always in one ratio), the shortest solution.
    """
    counts, energies = np.asarray(counts, dtype=np.float64), np.asarray(energies, dtype=np.float64).ravel()
    if per_atom:
        n_atoms = counts.sum(axis=1)
        counts, energies = counts / n_atoms[:, None], energies / n_atoms
    solution, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    return np.asarray(solution, dtype=np.float64)


def initialise_energy(readout: EnergyReadout, e0: NDArray[np.float64], decay_factor: float = 1e-2) -> None:
    """Set E0, and scale the readout of level n by decay_factor**n so that higher levels start out small."""
    with torch.no_grad():
        readout.e0.copy_(torch.from_numpy(e0))
        for level, linear in enumerate(readout.readouts, start=1):
            assert isinstance(linear, torch.nn.Linear)
            linear.weight.mul_(decay_factor**level)
            linear.bias.mul_(decay_factor**level)
