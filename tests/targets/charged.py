"""Charged structures, and graphs that run over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from forcefoundry.batches import Packer
from forcefoundry.databases import Database
from forcefoundry.graph import GraphModule, InputNode, Node, input_nodes
from forcefoundry.inputs import Inputs
from forcefoundry.targets.forces import ForcesNode
from tests.builders import apart


@dataclass(frozen=True)
class Charged:
    """Charges (n,), e, at positions (n, 3), Å; open where there is no cell."""

    charges: np.ndarray
    positions: np.ndarray
    cell: np.ndarray | None = None

    def under(self, strain: np.ndarray) -> Charged:
        """The same under a strain (3, 3)."""
        cell = None if self.cell is None else self.cell + self.cell @ strain
        return replace(self, positions=self.positions + self.positions @ strain, cell=cell)


def drawn(seed: int, n_atoms: int, periodic: bool, neutral: bool = False) -> Charged:
    """Random charges at random places, in a random cell with volume where periodic."""
    rng = np.random.default_rng(seed)
    charges = rng.normal(0.0, 1.0, n_atoms)
    cell = np.eye(3) * 4.5 + rng.normal(0.0, 0.5, (3, 3)) if periodic else None
    return Charged(charges - charges.mean() * neutral, apart(rng, n_atoms, 3.5, 1.0), cell)


def packed(systems: Sequence[Charged]) -> Database:
    """The systems as a database of hydrogen."""
    counts = np.array([len(system.charges) for system in systems])
    return Database(
        {
            "n_atoms": counts,
            "species": np.ones(counts.sum(), dtype=np.int64),
            "positions": np.concatenate([system.positions for system in systems]),
            "cell": np.array([np.zeros((3, 3)) if system.cell is None else system.cell for system in systems]),
            "pbc": np.array([[system.cell is not None] * 3 for system in systems]),
            "charges": np.concatenate([system.charges for system in systems]),
        }
    )


def graph(make: type, cutoff: float = 4.0, **options: object) -> tuple[Node, Node]:
    """The nodes of an energy of charges out of the database, and of its forces."""
    energy = make(InputNode("charges"), cutoff, inputs=Inputs.new(), **options)
    return energy, ForcesNode(energy)


def run(nodes: Sequence[Node], base: Database) -> list[np.ndarray]:
    """The values of nodes for the whole database."""
    inputs = input_nodes(nodes)
    batch = Packer(base, [str(node.db_name) for node in inputs]).pack(np.arange(len(base)))
    module = GraphModule(inputs, list(nodes)).eval()
    return [value.numpy() for value in module(*batch.values())]


def numeric_forces(energy: Node, system: Charged, step: float = 1e-3) -> np.ndarray:
    """Forces on a system's atoms by central differences of fourth order, all displacements in one batch."""
    shifts = np.array([-2, -1, 1, 2]) * step
    moves = np.eye(system.positions.size).reshape(-1, 1, *system.positions.shape) * shifts[:, None, None]
    moved = [replace(system, positions=system.positions + move) for move in moves.reshape(-1, *system.positions.shape)]
    values = run([energy], packed(moved))[0].reshape(-1, 4)
    return -derivative(values, step).reshape(system.positions.shape)


def numeric_stress(energy: Node, system: Charged, step: float = 1e-4) -> np.ndarray:
    """(1/V) dE/dε by central differences of fourth order, ε one component after another."""
    assert system.cell is not None
    shifts = np.array([-2, -1, 1, 2]) * step
    strains = (np.eye(9).reshape(9, 1, 3, 3) * shifts[:, None, None]).reshape(-1, 3, 3)
    values = run([energy], packed([system.under(strain) for strain in strains]))[0].reshape(-1, 4)
    return derivative(values, step).reshape(3, 3) / abs(np.linalg.det(system.cell))


def derivative(values: np.ndarray, step: float) -> np.ndarray:
    """From values (.., 4) at -2, -1, 1 and 2 steps."""
    return np.asarray(values @ np.array([1.0, -8.0, 8.0, -1.0]) / (12.0 * step))


def tensors(base: Database, names: Sequence[str]) -> list[torch.Tensor]:
    """Columns of the whole database as tensors."""
    return list(Packer(base, names).pack(np.arange(len(base))).values())
