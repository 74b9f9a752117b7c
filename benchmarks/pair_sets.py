"""The sets of structures on which pair finders are timed: made up from seeds, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.build import bulk, molecule
from ase.io import read as read_structures


@dataclass(frozen=True)
class Batch:
    """A named set of structures, packed as finders take them, and a cutoff in Å."""

    name: str
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    cutoff: float
    offsets: np.ndarray

    def repeated(self, times: int) -> Batch:
        """The structures several times over."""
        offsets = np.concatenate([[0], np.cumsum(np.tile(np.diff(self.offsets), times))])
        positions, cell, pbc = (np.concatenate([one] * times) for one in (self.positions, self.cell, self.pbc))
        return Batch(self.name, positions, cell, pbc, self.cutoff, offsets)


def packed(name: str, structures: list[ase.Atoms], cutoff: float) -> Batch:
    """Structures as one batch."""
    offsets = np.concatenate([[0], np.cumsum([len(atoms) for atoms in structures])])
    positions = np.concatenate([atoms.positions for atoms in structures])
    cell = np.stack([atoms.cell.array for atoms in structures])
    return Batch(name, positions, cell, np.stack([atoms.pbc for atoms in structures]), cutoff, offsets)


def read(path: str, cutoff: float) -> Batch:
    """All structures of a file."""
    return packed(path.rsplit("/", 1)[-1], list(read_structures(path, ":")), cutoff)


def _crystals(name: str, repeats: int, number: int, rng: np.random.Generator) -> list[ase.Atoms]:
    made = []
    for _ in range(number):
        atoms = bulk(name, cubic=True) * repeats
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        made.append(atoms)
    return made


def _tiny(number: int, rng: np.random.Generator) -> list[ase.Atoms]:
    """Primitive and conventional cells of one to eight atoms."""
    kinds = [bulk("Al"), bulk("Al", cubic=True), bulk("Si"), bulk("Si", cubic=True), bulk("Fe"), bulk("Mg"), bulk("Cu")]
    made = []
    for at in range(number):
        atoms = kinds[at % len(kinds)].copy()
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.03, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        made.append(atoms)
    return made


def _molecules(number: int, rng: np.random.Generator) -> list[ase.Atoms]:
    """Molecules of 12 to 24 atoms: benzene, isobutane and others, and pairs of them side by side."""
    names = ["C6H6", "isobutane", "trans-butane", "C5H8", "C3H9N", "CH3CONH2", "butadiene", "C4H4NH"]
    made = []
    for at in range(number):
        atoms = molecule(names[at % len(names)])
        if at % 2:
            other = molecule(names[(at // 2) % len(names)])
            other.positions += [0.0, 0.0, 4.0]
            atoms += other
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        atoms.pbc = False
        made.append(atoms)
    return made


def _water(number: int, rng: np.random.Generator) -> list[ase.Atoms]:
    """32 molecules on a lattice at the density of water, turned at random."""
    made = []
    for _ in range(number):
        edge = (32 * 29.9) ** (1 / 3)
        places = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        places = places[places.sum(axis=1) % 2 == 0] * edge / 4
        whole = ase.Atoms(cell=np.eye(3) * edge, pbc=True)
        for place in places:
            one = molecule("H2O")
            one.euler_rotate(*rng.uniform(0.0, 360.0, 3))
            one.positions += place + rng.normal(0.0, 0.2, 3)
            whole += one
        made.append(whole)
    return made


def _mixed(number: int, rng: np.random.Generator) -> list[ase.Atoms]:
    """Random sizes and shapes, periodic, slabs and clusters, atoms unwrapped by some cells."""
    made = []
    for at in range(number):
        n_atoms = int(rng.integers(8, 200))
        lengths = (n_atoms / 0.065) ** (1 / 3) * np.exp(rng.normal(0.0, 0.25, 3))
        cell = (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))) * lengths[:, None]
        pbc = np.array([[True, True, True], [True, True, True], [True, True, False], [False, False, False]][at % 4])
        fractional = rng.uniform(0.0, 1.0, (n_atoms, 3)) + rng.integers(-2, 3, (n_atoms, 3)) * pbc
        made.append(ase.Atoms(f"X{n_atoms}", positions=fractional @ cell, cell=cell, pbc=pbc))
    return made


def made_up(scale: int) -> list[Batch]:
    """The sets of the documents, each of some 100 000 pairs times `scale` (the last one is a single structure)."""
    rng = np.random.default_rng(0)
    return [
        packed("Al 108 atoms", _crystals("Al", 3, 16 * scale, rng), 6.0),
        packed("Al 32", _crystals("Al", 2, 48 * scale, rng), 6.0),
        packed("Al 256", _crystals("Al", 4, 6 * scale, rng), 6.0),
        packed("Si 64, 5 A", _crystals("Si", 2, 32 * scale, rng), 5.0),
        packed("tiny cells 1-8 atoms", _tiny(700 * scale, rng), 6.0),
        packed("open molecules", _molecules(320 * scale, rng), 6.0),
        packed("water 96", _water(10 * scale, rng), 6.0),
        packed("mixed sizes and shapes", _mixed(24 * scale, rng), 6.0),
        packed("Al 500", _crystals("Al", 5, 4 * scale, rng), 6.0),
        packed("Al 2048", _crystals("Al", 8, scale, rng), 6.0),
        packed("Al 6912", _crystals("Al", 12, 1, rng), 6.0),
    ]
