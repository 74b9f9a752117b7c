"""The streaming evaluator against keeping everything and joining it at the end; interleaved, as a ratio; and memory.

    python -m benchmarks.evaluator [--rounds 15] [--quick]

Six metrics (MAE, RMSE and R² of the energy per atom and of the forces) of structures of 20 atoms in prepared batches of
256; the model hands stored predictions through, and what calling it takes is taken off, so what is timed is the
evaluator alone, one thread. Figures are microseconds of wall time a structure, medians; the ratio is taken round by
round. "3 in 4 labelled" lacks the forces of every fourth structure. Memory is by how much the process grows at most, in
MiB, while it judges 100 000 structures in batches made as they are needed, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from forcefoundry.columns import Axis
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.experiment.evaluator import Evaluator
from forcefoundry.graph import GraphModule, InputNode, Node
from forcefoundry.inputs import Inputs
from forcefoundry.losses import MAE, R2, RMSE

N_ATOMS, BATCH_SIZE = 20, 256
METRICS = {"mae": MAE, "rmse": RMSE, "r2": R2}
Batch = dict[str, torch.Tensor]


class Given(torch.nn.Module):
    """Hands a stored prediction through as if a network had made it."""

    def forward(self, stored: torch.Tensor) -> torch.Tensor:
        """The prediction."""
        return stored


def evaluator() -> Evaluator:
    """The product's."""
    n_atoms = Inputs.new().n_atoms.true
    stored = (
        InputNode("stored_energy", axis=Axis.SYSTEM, unit="eV"),
        InputNode("stored_forces", axis=Axis.ATOM, unit=""),
    )
    energy = Node("energy", stored[:1], Given(), "energy", Axis.SYSTEM)
    forces = Node("forces", stored[1:], Given(), "forces", Axis.ATOM)
    pairs = {
        "energy_per_atom": (energy.pred / n_atoms, energy.true / n_atoms),
        "forces": (forces.pred, forces.true),
    }
    losses = {f"{name}_{metric}": kind(*pair) for name, pair in pairs.items() for metric, kind in METRICS.items()}
    made = assemble_for_training(losses["forces_rmse"], losses)[0].evaluator
    made.model.eval()
    return made


def predicted(model: GraphModule, batch: Batch) -> Batch:
    """The model's outputs by name."""
    outputs = model(*(batch[str(node.db_name)] for node in model.inputs))
    return {node.name: values for node, values in zip(model.outputs, outputs, strict=True)}


class KeepEverything:
    """Every prediction and target of a split in memory, joined at the end, then one metric after the other."""

    def __init__(self, model: GraphModule):
        self.model = model

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The metrics by name."""
        kept: list[list[torch.Tensor]] = []
        for batch in batches:
            given = predicted(self.model, batch)
            kept.append([given["energy"], given["forces"], batch["energy"], batch["n_atoms"], batch["forces"]])
        e, f, energy, n_atoms, forces = (torch.cat(column) for column in zip(*kept, strict=True))
        found = {}
        for name, pred, true in (("energy_per_atom", e / n_atoms, energy / n_atoms), ("forces", f, forces)):
            labelled = ~true.isnan()
            pred, true = pred[labelled], true[labelled]
            found[f"{name}_mae"] = float((pred - true).abs().mean())
            found[f"{name}_rmse"] = float(((pred - true) ** 2).mean().sqrt())
            found[f"{name}_r2"] = float(1 - ((pred - true) ** 2).mean() / true.var())
        return found


def batches(n: int, labelled: bool = True) -> Iterator[Batch]:
    """Batches with energies of -10 eV an atom and forces of 1 eV/Å, off by a tenth."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for _ in range(n):
        energy = N_ATOMS * (normal(BATCH_SIZE) - 10.0)
        forces = normal(BATCH_SIZE, N_ATOMS, 3)
        if not labelled:
            forces[::4] = torch.nan
        forces = forces.reshape(-1, 3)
        yield {
            "n_atoms": torch.full((BATCH_SIZE,), N_ATOMS),
            "energy": energy,
            "forces": forces,
            "stored_energy": energy + normal(BATCH_SIZE),
            "stored_forces": forces.nan_to_num() + 0.1 * normal(*forces.shape),
        }


def growth(kind: str, n: int) -> float:
    """By how much this process grows at most while it evaluates, MiB."""
    judge = evaluator()
    ways = {"product": judge, "kept": KeepEverything(judge.model)}
    for way in ways.values():
        way.evaluate(batches(2))
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts again from here
    ways[kind].evaluate(batches(n))
    return (_resident("VmHWM") - before) / 1024


def _resident(mark: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(mark))
    return float(line.split()[1])


def time_both(rounds: int, n: int, labelled: bool) -> tuple[float, float, float]:
    """Microseconds a structure of the product and of keeping everything, and the ratio; both must agree."""
    prepared = list(batches(n, labelled))
    judge = evaluator()
    ways = (judge, KeepEverything(judge.model))
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        results = []
        started = time.perf_counter()
        for batch in prepared:
            predicted(judge.model, batch)
        model = time.perf_counter() - started
        for way, found in zip(ways, times, strict=True):
            started = time.perf_counter()
            results.append(way.evaluate(prepared))
            if number >= 2:
                found.append(1e6 * (time.perf_counter() - started - model) / (n * BATCH_SIZE))
        for name, value in results[0].items():
            assert abs(value - results[1][name]) <= 1e-10 * abs(value), name
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), ratio


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and structures")
    parser.add_argument("--growth", choices=("product", "kept"), help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.growth:
        print(growth(given.growth, given.batches))
        return
    rounds, n = (5, 16) if given.quick else (given.rounds, 64)
    print(f"{'µs a structure':<22}{'streamed':>10}{'kept':>11}{'ratio':>8}")
    for name, labelled in (("all labelled", True), ("3 in 4 labelled", False)):
        streamed, kept, ratio = time_both(rounds, n, labelled)
        print(f"{name:<22}{streamed:>10.2f}{kept:>11.2f}{ratio:>8.2f}")
    total = 20_000 if given.quick else 100_000
    print(f"{'MiB of growth':<22}{'streamed':>10}{'kept':>11}")
    grown = [
        float(subprocess.check_output([sys.executable, "-m", "benchmarks.evaluator", "--growth", kind, "--batches", n]))
        for n in [str(-(-total // BATCH_SIZE))]
        for kind in ("product", "kept")
    ]
    print(f"{f'{total} structures':<22}{grown[0]:>10.0f}{grown[1]:>11.0f}")


if __name__ == "__main__":
    main()
