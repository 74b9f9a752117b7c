"""What batches cost a training step of the demonstration's network, for `benchmarks.batches`; not run by itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.pair_sets import Batch as Structures
from benchmarks.pair_sets import made_up
from forcefoundry.batches import Batch, Packer, prefetched
from forcefoundry.build import cast
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import assemble_for_training, precompute_pairs
from forcefoundry.experiment.settings import TrainingSettings
from forcefoundry.experiment.trainer import Trainer
from forcefoundry.networks.hipnn import HIPNN
from forcefoundry.objectives import energy_and_forces
from forcefoundry.pairs.contract import Ints
from forcefoundry.pairs.cpu import CpuFinder

CUTOFF, BATCH_SIZE = 5.0, 16


class Given(Packer):
    """Hands out batches that were packed before."""

    _kept: dict[bytes, Batch] | None = None

    def keep(self, batches: list[Ints]) -> None:
        """Pack these now."""
        self._kept = {rows.tobytes(): self.pack(rows) for rows in batches}

    def pack_together(self, batches: Sequence[Ints]) -> list[Batch]:
        """Those that are kept."""
        if self._kept is None:
            return super().pack_together(batches)
        return [self._kept[rows.tobytes()] for rows in batches]


def training_shares(rounds: int) -> list[dict[str, Any]]:
    """A row for molecules and one for crystals."""
    names = ("open molecules", "Al 108 atoms")
    chosen = [one for one in made_up(2) if one.name in names]
    return [_share(one, rounds) for one in sorted(chosen, key=lambda one: names.index(one.name))]


def _share(given: Structures, rounds: int) -> dict[str, Any]:
    database = _database(given)
    trainer = _trainer(database)
    batches = trainer._sampler.epoch(1)
    real = trainer._packer
    there = Given(database, real.names)
    there.keep(batches)
    ways = {"there already": (there, 0), "in the loop": (real, 0), "in a thread": (real, 1)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    packing: list[float] = []
    finding: list[float] = []
    finder = CpuFinder()
    for number in range(rounds + 1):
        for name, (trainer._packer, trainer._workers) in ways.items():
            started = time.perf_counter()
            trainer._train_epoch(1)
            if number:
                taken[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        with prefetched(real, batches) as packed:
            for _ in packed:
                pass
        packing.append((time.perf_counter() - started) / len(batches))
        for rows in batches:
            *what, offsets = database.take(rows)
            started = time.perf_counter()
            finder(*what, CUTOFF, offsets)
            finding.append(time.perf_counter() - started)
    free = taken.pop("there already")
    shares = {
        name: 100 * statistics.median(1 - f / t for f, t in zip(free, times, strict=True))
        for name, times in taken.items()
    }
    return {
        "set": given.name,
        "batch": BATCH_SIZE,
        "step_ms": round(1e3 * statistics.median(free) / len(batches), 3),
        "pack_ms": round(1e3 * statistics.median(packing), 4),
        "find_ms": round(1e3 * statistics.median(finding), 4),
        "percent_of_a_step": {name: round(value, 2) for name, value in shares.items()},
    }


def _database(given: Structures) -> Database:
    rng = np.random.default_rng(0)
    n, n_atoms = len(given.cell), len(given.positions)
    columns = {
        "species": rng.choice([1, 6, 8], n_atoms),
        "positions": given.positions,
        "cell": given.cell,
        "pbc": given.pbc,
        "n_atoms": np.diff(given.offsets),
        "energy": rng.normal(size=n),
        "forces": rng.normal(size=(n_atoms, 3)),
    }
    last = n - max(1, n // 8)
    return Database(columns, {"train": np.arange(last), "valid": np.arange(last, n)})


def _trainer(database: Database) -> Trainer:
    torch.manual_seed(0)
    network = HIPNN(
        [1, 6, 8], n_features=20, n_sensitivities=8, soft_min=0.75, soft_max=4.0, cutoff=CUTOFF, n_interactions=2,
        n_atom_layers=2,
    )  # fmt: skip
    what = energy_and_forces(network)
    cast(what.network, torch.float32)
    cast(what.readout, torch.float32)
    modules, info = assemble_for_training(what.train_loss, what.validation_losses)
    database.inputs, database.targets = info["inputs"], info["targets"]
    precompute_pairs(modules.model, database)
    modules, info = assemble_for_training(what.train_loss, what.validation_losses)
    database.inputs, database.targets = info["inputs"], info["targets"]
    return Trainer(modules, database, TrainingSettings(batch_size=BATCH_SIZE, learning_rate=1e-4))
