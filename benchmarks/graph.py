"""What the node graph costs: a forward pass through it against the same modules called by hand; and assembling.

    python -m benchmarks.graph [--quick]

Both compute energies and forces of the same batches with the same weights, one thread, cached pairs, interleaved; the
calls by hand are a plain function. Figures are milliseconds of wall time, medians; the ratio is taken pair by pair.
The limit that is held to is 1.03. The second table is the time to assemble the demonstration's graph (limit 50 ms).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from forcefoundry.batches import Batch, Packer
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import assemble_for_training, precompute_pairs
from forcefoundry.networks.hipnn import HIPNN
from forcefoundry.objectives import Objective, energy_and_forces
from forcefoundry.pairs.nodes import PairVectors
from forcefoundry.targets.forces import NegativeGradient

SETS = {
    "1 molecule of 9 atoms": (1, 9, 0.0),
    "16 molecules of 9 atoms": (16, 9, 0.0),
    "4 cells of 64 atoms": (4, 64, 11.0),
}
"""Name to number of structures, atoms in each, and cell length in Å (0: open)."""

Values = tuple[torch.Tensor, ...]


def structures(n: int, n_atoms: int, length: float) -> Database:
    """Atoms on a jittered grid, carbon and hydrogen."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_atoms]
    spacing = length / side if length else 1.4
    return Database(
        {
            "n_atoms": np.full(n, n_atoms),
            "species": rng.choice([1, 6], n * n_atoms),
            "positions": np.concatenate([grid * spacing + rng.normal(0, 0.1, grid.shape) for _ in range(n)]),
            "cell": np.tile(np.eye(3) * length, (n, 1, 1)),
            "pbc": np.full((n, 3), length > 0),
            "energy": np.zeros(n),
            "forces": np.zeros((n * n_atoms, 3)),
        },
        {"train": np.arange(n)},
    )


def by_hand(what: Objective, batch: Batch) -> Callable[[], Values]:
    """The modules of the graph, called one after another."""
    vectors, gradient = PairVectors(), NegativeGradient().eval()
    i, j, S = (batch[f"pairs_5.0_{key}"] for key in "ijS")

    def run() -> Values:
        positions = batch["positions"].detach().requires_grad_(True)
        with torch.enable_grad():
            D, distance = vectors(positions, batch["cell"], batch["system_of_atom"], i, j, S)
            levels = what.network(batch["species"], i, j, D, distance)
            energy, _, _ = what.readout(batch["n_atoms"], batch["system_of_atom"], *levels)
            forces = gradient(energy, positions)
        return energy.detach(), forces.detach()

    return run


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    """Print two tables, and one line of JSON with the same numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    rounds = 60 if parser.parse_args().quick else 600
    torch.set_num_threads(1)
    rows = []
    print(f"{'batch':<26}{'graph':>9}{'by hand':>9}{'ratio':>8}")
    for name, (n, n_atoms, length) in SETS.items():
        what = energy_and_forces(HIPNN([1, 6], 20, 8, 0.75, 4.0, 5.0, 2, 2))
        base = structures(n, n_atoms, length)
        precompute_pairs(assemble_for_training(what.train_loss, what.validation_losses)[0].model, base)
        (model, _, _), info = assemble_for_training(what.train_loss, what.validation_losses)
        batch = Packer(base, info["inputs"]).pack(np.arange(n))
        values = list(batch.values())
        through: Callable[[], Values] = partial(model.eval(), *values)
        hand = by_hand(what, batch)
        assert all(torch.equal(a, b) for a, b in zip(through(), hand(), strict=True))
        pairs = []
        for number in range(rounds + 5):
            # Which goes first alternates, so that neither always finds the caches warm.
            first, second = (through, hand) if number % 2 else (hand, through)
            one, other = timed(first), timed(second)
            pairs.append((one, other) if number % 2 else (other, one))
        pairs = pairs[5:]
        row = {
            "batch": name,
            "graph_ms": statistics.median(a for a, _ in pairs),
            "by_hand_ms": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(a / b for a, b in pairs),
        }
        rows.append(row)
        print(f"{name:<26}{row['graph_ms']:>9.3f}{row['by_hand_ms']:>9.3f}{row['ratio']:>8.3f}")
    assembling = []
    for _ in range(20):
        what = energy_and_forces(HIPNN([1, 6, 7, 8], 20, 8, 0.75, 4.0, 5.0, 2, 2))
        assembling.append(timed(partial(assemble_for_training, what.train_loss, what.validation_losses)))
    print(f"\nassembling the demonstration's graph: {statistics.median(assembling):.1f} ms (median of 20)")
    print(json.dumps({"rows": rows, "assembly_ms": statistics.median(assembling)}))


if __name__ == "__main__":
    main()
