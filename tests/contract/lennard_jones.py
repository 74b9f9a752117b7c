"""Structures whose energies, forces and stresses are known to belong together: Lennard-Jones, as ASE computes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from forcefoundry.contract.measures import Measures
from forcefoundry.contract.measuring import measure

SPACING = 3.615  # Å, about where the crystal is without pressure


def packed(frames: Sequence[Atoms], depth: float = 0.4) -> dict[str, NDArray[Any]]:
    """Columns with energy, forces and stress of a potential `depth` eV deep."""
    energies, forces, stresses = [], [], []
    for atoms in frames:
        held = atoms.copy()
        held.calc = LennardJones(sigma=2.3, epsilon=depth, rc=6.0, smooth=True)
        energies.append(held.get_potential_energy())
        forces.append(held.get_forces())
        volume = held.cell.rank == 3 and held.pbc.all()
        stresses.append(held.get_stress(voigt=False) if volume else np.full((3, 3), np.nan))
    return {
        "n_atoms": np.array([len(atoms) for atoms in frames]),
        "species": np.concatenate([atoms.numbers for atoms in frames]),
        "positions": np.concatenate([atoms.positions for atoms in frames]),
        "cell": np.array([np.asarray(atoms.cell) for atoms in frames]),
        "pbc": np.array([atoms.pbc for atoms in frames]),
        "energy": np.array(energies),
        "forces": np.concatenate(forces),
        "stress": np.array(stresses),
    }


def measured(columns: dict[str, NDArray[Any]]) -> Measures:
    """Rows of no kind and no split, measured."""
    n = len(columns["n_atoms"])
    return measure(columns, [None] * n, [None] * n)


@cache
def dynamics(periodic: bool, n: int = 24) -> tuple[Atoms, ...]:
    """n frames of a trajectory at some hundred K, 5 fs apart: a crystal of 32 atoms, or 8 of them in open space."""
    atoms = bulk("Cu", "fcc", a=SPACING, cubic=True) * ((2, 2, 2) if periodic else (2, 1, 1))
    atoms.pbc = periodic
    atoms.calc = LennardJones(sigma=2.3, epsilon=0.4, rc=6.0, smooth=True)
    size = np.sqrt(atoms.get_masses() * units.kB * 600.0)[:, None]
    momenta = size * np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    run, frames = VelocityVerlet(atoms, timestep=2.5 * units.fs), []
    for _ in range(n):
        run.run(2)
        frames.append(atoms.copy())
    return tuple(frames)


def strained(n: int, most: float = 0.04, shaken: float = 0.05, seed: int = 0, stretch: float = 1.0) -> list[Atoms]:
    """n crystals of 32 atoms, their edges longer or shorter by up to a share around a stretch, each atom shaken."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=SPACING, cubic=True) * (2, 2, 2)
        atoms.set_cell(atoms.cell * (stretch + rng.uniform(-most, most)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, shaken, atoms.positions.shape)
        frames.append(atoms)
    return frames


def slabs(vacuum: Iterable[float], seed: int = 0) -> list[Atoms]:
    """Slabs of 20 atoms, which differ in their vacuum, Å."""
    rng = np.random.default_rng(seed)
    frames = []
    for height in vacuum:
        atoms = fcc111("Cu", (2, 2, 5), a=SPACING, vacuum=height / 2)
        atoms.pbc = True
        atoms.positions += rng.normal(0.0, 0.03, atoms.positions.shape)
        frames.append(atoms)
    return frames


def boxed(edges: Iterable[float], seed: int = 0) -> list[Atoms]:
    """Two atoms a little too far apart in periodic cubes of these edges, Å."""
    rng = np.random.default_rng(seed)
    frames = []
    for edge in edges:
        pair = np.array([[0.0, 0.0, 0.0], [2.75, 0.0, 0.0]]) + rng.normal(0.0, 0.03, (2, 3))
        frames.append(Atoms("Cu2", pair, cell=[edge] * 3, pbc=True))
    return frames
