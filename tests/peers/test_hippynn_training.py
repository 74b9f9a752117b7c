"""The set-ups of hippynn's aluminium and QM9 examples, on other data: the same losses, gradients and steps.

Networks, losses and their weights, and the optimiser are those of the examples. Their data lie outside this project:
EMT aluminium and small molecules labelled by xTB stand in for them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch

from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.graph import GraphModule, Node, find_unique_relative
from forcefoundry.interfaces.hippynn import MovedModel, read_hippynn
from forcefoundry.losses import L2, MAE, RMSE, Mean
from forcefoundry.networks.base import NetworkNode
from forcefoundry.targets.e0 import initialise_energy, least_squares_e0, species_counts
from forcefoundry.targets.hierarchicality import HierarchicalityNode
from tests.builders import batch
from tests.outside import arrays as read_arrays
from tests.outside import data, oracles
from tests.peers.peer import ask, database

pytestmark = pytest.mark.peers

N_STEPS, BATCH = 5, 16


@dataclass(frozen=True)
class Run:
    """What a set-up is made of, and where hippynn's run of it lies."""

    folder: Path
    arrays: dict[str, np.ndarray]  # padded: Z, R, C, the total energy and F
    job: dict[str, Any]

    def ask(self) -> Run:
        """Let hippynn take the steps."""
        self.folder.mkdir()
        n_atoms = (self.arrays["Z"] > 0).sum(axis=1)
        energy = self.arrays["energy"] / n_atoms if self.job["losses"]["peratom"] else self.arrays["energy"]
        np.savez(self.folder / "data.npz", **self.arrays, E=energy[:, None])
        (self.folder / "job.json").write_text(json.dumps(self.job))
        ask("steps", self.folder)
        return self

    def read(self, name: str, **options: float) -> MovedModel:
        """Weights, or gradients in their place, as hippynn wrote them."""
        return read_hippynn(self.folder / f"{name}.pt", self.job["network"] | {"energy_unit": "eV"}, **options)


@pytest.fixture(scope="module")
def aluminium(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One block that sees far, energies per atom a hundred times, forces, both penalties."""
    d = read_arrays(_there(oracles() / "emt_al_data.npz"))
    rows = d["idx_train"][: N_STEPS * BATCH]
    network = {"possible_species": [0, 13], "n_features": 10, "n_sensitivities": 20, "n_interaction_layers": 1}
    network |= {"dist_soft_min": 1.25, "dist_soft_max": 7.0, "dist_hard_max": 7.5, "n_atom_layers": 3}
    found = {"Z": d["Z"].astype(np.int64), "R": d["pos"], "C": d["cell"], "energy": d["energy"], "F": d["forces"]}
    job = _job("periodic", network, energy=100.0, forces=1.0, peratom=True)
    folder = tmp_path_factory.mktemp("aluminium") / "run"
    return Run(folder, {name: values[rows] for name, values in found.items()}, job).ask()


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """QM9's: two blocks, total energies alone, both penalties."""
    path = _there(data() / "solvent_xtb" / "solvent_xtb_test.xyz")
    found = [atoms for atoms in ase.io.read(path, ":400") if len(atoms) <= 29][: N_STEPS * BATCH]
    assert len(found) == N_STEPS * BATCH
    padded = {"Z": (np.int64, ()), "R": (float, (3,)), "F": (float, (3,))}
    most = max(map(len, found))
    arrays = {name: np.zeros((len(found), most, *shape), dtype) for name, (dtype, shape) in padded.items()}
    for row, atoms in enumerate(found):
        arrays["Z"][row, : len(atoms)] = atoms.numbers
        arrays["R"][row, : len(atoms)] = atoms.positions
        arrays["F"][row, : len(atoms)] = atoms.arrays["forces_xtb"]
    arrays["energy"] = np.array([atoms.info["energy_xtb"] for atoms in found])
    network = {"possible_species": [0, 1, 6, 8], "n_features": 20, "n_sensitivities": 20, "n_interaction_layers": 2}
    network |= {"dist_soft_min": 0.85, "dist_soft_max": 5.0, "dist_hard_max": 7.0, "n_atom_layers": 3}
    job = _job("open", network, energy=1.0, forces=0.0, peratom=False)
    return Run(tmp_path_factory.mktemp("molecules") / "run", arrays, job).ask()


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path


def _job(where: str, network: dict[str, Any], **weights: float) -> dict[str, Any]:
    batches = [list(range(start, start + BATCH)) for start in range(0, N_STEPS * BATCH, BATCH)]
    losses = {"l2": 1e-6, "hierarchicality": 1.0, **weights}
    return {
        "kind": "Hipnn",
        "where": where,
        "network": network,
        "losses": losses,
        "batches": batches,
        "learning_rate": 1e-3,
    }


def losses_of_qm9(energy: Node) -> Node:
    """RMSE and MAE of the energy, an L2 penalty, and the mean of the hierarchicality."""
    network = find_unique_relative([energy], NetworkNode)
    error = RMSE.of_node(energy) + MAE.of_node(energy)
    return error + 1e-6 * L2(network) + Mean(HierarchicalityNode(energy).pred)


Weights = dict[str, torch.Tensor]


def taken(run: Run, loss: Node) -> tuple[list[float], Weights, Weights, Weights]:
    """Take the steps here: each step's loss; the gradients of the first, the weights after it, and those at the end."""
    base = database(run.arrays)
    (model, loss_module, _), info = assemble_for_training(loss, {})
    model.train()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.Adam(trained.values(), lr=run.job["learning_rate"])
    values, gradients, one_step = [], {}, {}
    for rows in run.job["batches"]:
        packed = batch(base, rows, [*info["inputs"], *info["targets"]])
        given = model(*(packed[name] for name in info["inputs"]))
        value = loss_module(*given, *(packed[name] for name in info["targets"]))[0]
        optimiser.zero_grad()
        value.backward()
        gradients = gradients or {name: weight.grad.clone() for name, weight in trained.items()}
        optimiser.step()
        one_step = one_step or {name: weight.detach().clone() for name, weight in trained.items()}
        values.append(float(value.detach()))
    return values, gradients, one_step, {name: weight.detach() for name, weight in trained.items()}


def far(ours: Weights, theirs: GraphModule) -> float:
    """The largest difference of any weight, relative to the largest entry of that weight."""
    other = {name: weight.detach() for name, weight in theirs.named_parameters()}
    assert set(ours) <= set(other)
    assert len(ours) > 10
    differences = [
        float((weight - other[name]).abs().max() / max(float(other[name].abs().max()), 1e-12))
        for name, weight in ours.items()
    ]
    return max(differences)


def compare(run: Run, loss: Node) -> None:
    """Losses, gradients and weights agree at every place where hippynn wrote them down."""
    values, gradients, one_step, all_steps = taken(run, loss)
    expected = json.loads((run.folder / "losses.json").read_text())
    assert len(values) == len(expected) == N_STEPS
    assert values[0] == pytest.approx(expected[0], rel=1e-12)
    assert values == pytest.approx(expected, rel=1e-7)
    assert far(gradients, run.read("gradients").model) <= 1e-7
    assert far(one_step, run.read("one_step").model) <= 1e-7
    assert far(all_steps, run.read("all_steps").model) <= 1e-7
    assert far(all_steps, run.read("start").model) > 1e-4  # the steps did something


def test_aluminium(aluminium: Run) -> None:
    compare(aluminium, aluminium.read("start", energy_weight=100.0, hierarchicality=1.0).objective.train_loss)


def test_qm9(molecules: Run) -> None:
    compare(molecules, losses_of_qm9(molecules.read("start").objective.outputs["energy"]))


@pytest.mark.parametrize("name", ["aluminium", "molecules"])
def test_energies_of_single_species(name: str, request: pytest.FixtureRequest) -> None:
    """E0 by least squares, and readouts that decay, as hippynn starts its trainings."""
    run: Run = request.getfixturevalue(name)
    moved, base = run.read("drawn"), database(run.arrays)
    readout = moved.objective.readout
    counts = species_counts(base, np.arange(len(base)), moved.params["network"]["species"])
    per_atom = bool(run.job["losses"]["peratom"])
    initialise_energy(readout, least_squares_e0(counts, base.columns["energy"], per_atom))
    expected = dict(run.read("start").objective.readout.named_parameters())
    for key, weight in readout.named_parameters():
        assert float((weight - expected[key]).detach().abs().max()) <= 1e-9 * float(expected[key].detach().abs().max())
