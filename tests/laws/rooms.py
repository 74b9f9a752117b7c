"""What stands in conf/ and in the rooms: the laws hold for whatever is found here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from forcefoundry.batches import Batch, Packer
from forcefoundry.build import build, seeded
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import TrainingModules, assemble_for_training
from forcefoundry.graph import ordered_ancestors
from forcefoundry.networks.base import NetworkNode
from forcefoundry.objectives import Objective, energy_and_forces
from tests.builders import apart
from tests.outside import ROOT

SPECIES = [1, 6, 7, 8]
CUTOFF = 5.0


def options(group: str) -> list[Path]:
    """The option files of a configuration group."""
    found = sorted((ROOT / "conf" / group).glob("*.yaml"))
    assert found, f"conf/{group} holds no option"
    return found


def plain(path: Path) -> dict[str, Any]:
    """An option with what other groups would fill in: the species of the data and the one cutoff."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: _filled(value) for key, value in values.items()}


def _filled(value: Any) -> Any:
    known = {"${pairs.cutoff}": CUTOFF}
    if isinstance(value, str) and value.startswith("${"):
        assert value in known, f"{value} stands in conf/, and this law does not know what to put there"
        return known[value]
    return value


def objective(path: Path, seed: int = 0) -> Objective:
    """The usual objective over the network of an option, in float64, with weights in which every level takes part."""
    with seeded(seed):
        network = build(plain(path), species=SPECIES)
        made = energy_and_forces(network)
        with torch.no_grad():
            made.readout.e0.copy_(torch.tensor([-13.0, -1030.0, -1480.0, -2040.0], dtype=torch.float64))
    return made


def structures(n: int = 6, seed: int = 0, sizes: tuple[int, int] = (3, 9)) -> Database:
    """Open, periodic and mixed structures of several sizes."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(*sizes, n)
    pbc = np.array([[False] * 3, [True] * 3, [True, True, False]])[np.arange(n) % 3]
    cells = np.where(pbc[:, :, None], np.eye(3) * 5.2 + rng.normal(0, 0.4, (n, 3, 3)), 0.0)
    return columns(counts, np.concatenate([apart(rng, int(c), 4.0, 0.9) for c in counts]), cells, pbc, rng)


def columns(
    counts: np.ndarray, positions: np.ndarray, cells: np.ndarray, pbc: np.ndarray, rng: np.random.Generator
) -> Database:
    """A database of random species and labels."""
    return Database(
        {
            "n_atoms": counts,
            "species": rng.choice(np.array(SPECIES), counts.sum()),
            "positions": positions,
            "cell": cells,
            "pbc": pbc,
            "energy": rng.normal(0, 1, len(counts)),
            "forces": rng.normal(0, 1, (counts.sum(), 3)),
        },
        {"train": np.arange(len(counts))},
    )


def changed(base: Database, **columns: np.ndarray) -> Database:
    """The database with some columns replaced."""
    return Database({**base.columns, **columns}, base.splits)


class Potential:
    """An assembled network that gives energies (S,), eV, and forces (N, 3), eV/Å, of databases."""

    def __init__(self, made: Objective):
        self.objective = made
        self.modules: TrainingModules
        self.modules, info = assemble_for_training(made.train_loss, made.validation_losses)
        self.inputs, self.targets = info["inputs"], info["targets"]

    def batch(self, base: Database, rows: Any = None) -> Batch:
        """A packed batch."""
        return Packer(base, [*self.inputs, *self.targets]).pack(np.arange(len(base)) if rows is None else rows)

    def __call__(self, base: Database, rows: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Energies and forces."""
        packed = self.batch(base, rows)
        energy, forces = self.modules.model.eval()(*(packed[name] for name in self.inputs))
        return energy.numpy(), forces.numpy()

    def network_node(self) -> NetworkNode:
        """The network in the graph."""
        (node,) = (n for n in ordered_ancestors([self.objective.outputs["energy"]]) if isinstance(n, NetworkNode))
        return node
