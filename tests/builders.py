"""Small databases, networks and graphs for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forcefoundry.batches import Batch, Packer
from forcefoundry.build import seeded
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import TrainingModules, assemble_for_training
from forcefoundry.networks.hipnn import HIPNN
from forcefoundry.objectives import Objective, energy_and_forces

SPECIES = (1, 6, 8)


def apart(rng: np.random.Generator, n_atoms: int, size: float, least: float = 0.7) -> np.ndarray:
    """Random positions (n_atoms, 3) in a box, Å, no two nearer than `least`."""
    positions = np.zeros((0, 3))
    while len(positions) < n_atoms:
        new = rng.uniform(0.0, size, (1, 3))
        if not len(positions) or np.linalg.norm(positions - new, axis=1).min() > least:
            positions = np.concatenate([positions, new])
    return positions


def database(
    n: int = 12,
    seed: int = 0,
    periodic: bool | None = None,
    splits: dict[str, Sequence[int]] | None = None,
    species: Sequence[int] = SPECIES,
) -> Database:
    """Structures of 2 to 6 atoms, every other one periodic unless said, with made-up energies and forces."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 7, n)
    pbc = np.array([(at % 2 == 1) if periodic is None else periodic for at in range(n)])
    cells = np.array([np.eye(3) * 4.5 + rng.normal(0, 0.3, (3, 3)) if one else np.zeros((3, 3)) for one in pbc])
    columns = {
        "n_atoms": counts,
        "species": rng.choice(np.array(species), counts.sum()),
        "positions": np.concatenate([apart(rng, int(count), 3.0) for count in counts]),
        "cell": cells,
        "pbc": np.repeat(pbc[:, None], 3, axis=1),
        "energy": rng.normal(-10.0, 1.0, n) * counts,
        "forces": rng.normal(0.0, 1.0, (counts.sum(), 3)),
    }
    if splits is None:
        last = max(1, n // 4)
        splits = {"train": range(n - last), "valid": range(n - last, n)}
    return Database(columns, {name: np.array(list(rows), dtype=np.int64) for name, rows in splits.items()})


def subset(base: Database, structures: Sequence[int]) -> Database:
    """Some structures of a database, all in one split."""
    atoms = np.concatenate([np.arange(base.offsets[at], base.offsets[at + 1]) for at in structures])
    columns = {
        name: values[atoms]
        if len(values) == base.offsets[-1] and name in ("species", "positions", "forces")
        else values[list(structures)]
        for name, values in base.columns.items()
    }
    return Database(columns, {"train": np.arange(len(structures))})


def network(seed: int = 0, species: Sequence[int] = SPECIES, **changes: Any) -> HIPNN:
    """A small network in float64."""
    settings: dict[str, Any] = {
        "n_features": 5,
        "n_sensitivities": 6,
        "soft_min": 0.8,
        "soft_max": 2.8,
        "cutoff": 3.2,
        "n_interactions": 2,
        "n_atom_layers": 1,
    }
    with seeded(seed):
        return HIPNN(list(species), **settings | changes)


def objective(seed: int = 0, species: Sequence[int] = SPECIES, **changes: Any) -> Objective:
    """The usual objective over a small network in float64; `changes` go to the objective."""
    with seeded(seed):
        return energy_and_forces(network(seed, species), **changes)


def assembled(what: Objective, base: Database) -> TrainingModules:
    """Assemble, and set the database's inputs and targets."""
    modules, info = assemble_for_training(what.train_loss, what.validation_losses)
    base.inputs, base.targets = info["inputs"], info["targets"]
    return modules


def batch(base: Database, structures: Sequence[int] | None = None, names: Sequence[str] | None = None) -> Batch:
    """One packed batch, of all structures unless said."""
    rows = np.arange(len(base)) if structures is None else np.array(structures)
    return Packer(base, names or [*base.inputs, *base.targets]).pack(rows)


def outputs(modules: TrainingModules, base: Database, structures: Sequence[int] | None = None) -> dict[str, Any]:
    """The model's outputs by node name, in evaluation mode."""
    modules.model.eval()
    packed = batch(base, structures)
    values = modules.model(*(packed[name] for name in base.inputs))
    return {node.name: value for node, value in zip(modules.model.outputs, values, strict=True)}


def loss_of(modules: TrainingModules, base: Database, structures: Sequence[int] | None = None) -> torch.Tensor:
    """The training loss of a batch, differentiable."""
    modules.model.train()
    packed = batch(base, structures)
    values = modules.model(*(packed[name] for name in base.inputs))
    return modules.loss(*values, *(packed[name] for name in base.targets))[0]  # type: ignore[no-any-return]


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
