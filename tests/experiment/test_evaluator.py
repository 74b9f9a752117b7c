"""The streaming evaluator: exact over a split, whatever the batches, in memory that does not grow."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from forcefoundry.batches import Batch, Packer, in_order
from forcefoundry.columns import Axis
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.experiment.evaluator import Evaluator
from forcefoundry.graph import InputNode, Node
from forcefoundry.inputs import Inputs
from forcefoundry.losses import MAE, MSE, R2, RMSE
from tests.builders import assembled, batch, database, objective, subset
from tests.losses.room import Given
from tests.outside import arrays, files, oracles

EVALUATOR = files(oracles(), "evaluator*.npz")
METRICS: dict[str, type[MAE | MSE | RMSE | R2]] = {"mae": MAE, "mse": MSE, "rmse": RMSE, "rsq": R2}
QUANTITIES = ("energy", "energy_per_atom", "forces")


def of_file(d: dict[str, np.ndarray]) -> tuple[Evaluator, Database, list[str]]:
    """An evaluator of every metric over predictions that are stored, not computed."""
    inputs = Inputs.new()
    stored_energy = InputNode("stored_energy", axis=Axis.SYSTEM, unit="eV")
    stored_forces = InputNode("stored_forces", axis=Axis.ATOM, unit="eV/Å")
    energy = Node("energy", (stored_energy,), Given(), "energy", Axis.SYSTEM, "eV")
    forces = Node("forces", (stored_forces,), Given(), "forces", Axis.ATOM, "eV/Å")
    n_atoms = inputs.n_atoms.true
    pairs = {
        "energy": (energy.pred, energy.true),
        "energy_per_atom": (energy.pred / n_atoms, energy.true / n_atoms),
        "forces": (forces.pred, forces.true),
    }
    losses = {f"{q}_{m}": METRICS[m](*pairs[q]) for q in QUANTITIES for m in METRICS}
    modules, info = assemble_for_training(losses["energy_mse"], losses)
    n = len(d["offsets"]) - 1
    columns = {
        "species": d["Z"],
        "positions": d["pos"],
        "cell": np.zeros((n, 3, 3)),
        "pbc": np.zeros((n, 3), dtype=bool),
        "n_atoms": np.diff(d["offsets"]),
        "energy": d["target_energy"],
        "forces": d["target_forces"],
    }
    return modules.evaluator, Database(columns, {"test": np.arange(n)}), info["targets"]


def batches(d: dict[str, np.ndarray], base: Database, targets: list[str], size: int) -> Iterator[Batch]:
    """Batches of the file in order, with its predictions."""
    packer = Packer(base, targets)
    for rows in in_order(base.split("test"), size):
        atoms = np.concatenate([np.arange(base.offsets[at], base.offsets[at + 1]) for at in rows])
        packed = packer.pack(rows)
        packed["stored_energy"] = torch.from_numpy(d["pred_energy"][rows])
        packed["stored_forces"] = torch.from_numpy(d["pred_forces"][atoms])
        yield packed


@pytest.mark.parametrize("size", [1, 8, None])
@pytest.mark.parametrize("path", EVALUATOR)
def test_every_metric_of_the_file(path: Path, size: int | None) -> None:
    d = arrays(path)
    evaluator, base, targets = of_file(d)
    found = evaluator.evaluate(batches(d, base, targets, size or len(base)))
    compared = 0
    for name in (f"{q}_{m}" for q in QUANTITIES for m in METRICS):
        expected = float(d[f"metric_{name}"])
        assert abs(found[name] - expected) <= 1e-12 * abs(expected), name
        wrong = float(d.get(f"wrong_meanofbatch8_{name}", np.nan))
        if np.isfinite(wrong) and abs(wrong - expected) > 1e-9 * abs(expected):
            assert abs(found[name] - wrong) > 1e-9 * abs(expected), name
            compared += 1
    assert compared > 0


def test_r2_of_large_energies_keeps_its_digits() -> None:
    rng = np.random.default_rng(0)
    true = torch.from_numpy(-1e8 + rng.normal(0, 1e-2, 200))
    pred = true + torch.from_numpy(rng.normal(0, 1e-3, 200))
    node = Node("energy", (InputNode("stored", axis=Axis.SYSTEM, unit="eV"),), Given(), "energy", Axis.SYSTEM)
    modules, _ = assemble_for_training(MSE.of_node(node), {"r2": R2.of_node(node)})
    parts = [{"stored": pred[at : at + 7], "energy": true[at : at + 7]} for at in range(0, 200, 7)]
    found = modules.evaluator.evaluate(parts)["r2"]
    centred = (true - true[0]).numpy()  # exact: differences of neighbouring float64 numbers
    variance = np.var(centred, ddof=1)
    expected = 1.0 - np.mean((pred - true).numpy() ** 2) / variance
    assert abs(found - expected) < 1e-9


def test_states_stay_a_few_numbers_however_many_batches() -> None:
    base = database(6)
    modules = assembled(objective(), base)
    modules.model.eval()
    states = modules.evaluator.losses.start()
    sizes = set()
    for _ in range(3):
        packed = batch(base)
        values = [*modules.model(*(packed[n] for n in base.inputs)), *(packed[n] for n in base.targets)]
        states = modules.evaluator.losses.gather(states, values)
        sizes.add(tuple(len(state) for state in states if state is not None))
        assert all(type(part) is float for state in states if state is not None for part in state)
    (size,) = sizes
    assert max(size) <= 6


def test_evaluating_leaves_no_tensor_behind() -> None:
    base = database(8)
    modules = assembled(objective(), base)
    packer = Packer(base, [*base.inputs, *base.targets])

    def living(times: int) -> int:
        modules.evaluator.evaluate(packer.pack(rows) for _ in range(times) for rows in in_order(np.arange(8), 2))
        gc.collect()
        return sum(issubclass(type(entry), torch.Tensor) for entry in gc.get_objects())

    living(1)
    assert living(1) == living(12)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_network_is_judged_alike_in_any_batches(size: int) -> None:
    base = database(8)
    modules = assembled(objective(), base)
    packer = Packer(base, [*base.inputs, *base.targets])
    whole = modules.evaluator.evaluate([packer.pack(np.arange(8))])
    parts = modules.evaluator.evaluate(packer.pack(rows) for rows in in_order(np.arange(8), size))
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-10)


def test_the_model_is_left_in_its_mode_and_results_carry_no_gradient() -> None:
    base = database(4)
    modules = assembled(objective(), base)
    modules.model.train()
    modules.evaluator.evaluate([batch(base)])
    assert modules.model.training
    modules.model.eval()
    values = modules.model(*(batch(base)[name] for name in base.inputs))
    assert not any(value.requires_grad for value in values)


def test_a_model_without_derivatives_carries_no_gradient_in_evaluation() -> None:
    base = database(4)
    what = objective(forces_weight=0.0)
    energy = what.outputs["energy"]
    modules, info = assemble_for_training(MSE.of_node(energy), {"mse": MSE.of_node(energy)})
    columns = batch(base, names=info["inputs"])
    assert modules.model.train()(*(columns[name] for name in info["inputs"]))[0].requires_grad
    assert not modules.model.eval()(*(columns[name] for name in info["inputs"]))[0].requires_grad


def test_the_truth_is_judged_perfect() -> None:
    base = database(5)
    modules = assembled(objective(), base)
    values = modules.model.eval()(*(batch(base)[name] for name in base.inputs))
    energy, forces = (value.numpy() for value in values)
    base = Database({**base.columns, "energy": energy, "forces": forces}, base.splits)
    names = [str(node.db_name) for node in (*modules.model.inputs, *modules.loss.inputs)]
    found = modules.evaluator.evaluate([batch(base, names=names)])
    assert {found[f"{q}_{m}"] for q in ("energy_per_atom", "forces") for m in ("mae", "rmse")} == {0.0}
    assert {found[f"{q}_r2"] for q in ("energy_per_atom", "forces")} == {1.0}


def test_no_batch_is_told() -> None:
    base = database(4)
    modules = assembled(objective(), base)
    with pytest.raises(ValueError, match="the split is empty"):
        modules.evaluator.evaluate([])


def test_r2_of_one_value_is_not_a_number_and_the_others_are() -> None:
    base = subset(database(4), [0])
    modules = assembled(objective(), base)
    found = modules.evaluator.evaluate([batch(base)])
    assert np.isnan(found["energy_per_atom_r2"])
    assert np.isfinite(found["energy_per_atom_rmse"])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_energies_may_come_as_a_column(n: int) -> None:
    node = Node("energy", (InputNode("stored", axis=Axis.SYSTEM, unit="eV"),), Given(), "energy", Axis.SYSTEM)
    modules, _ = assemble_for_training(MSE.of_node(node), {"mse": MSE.of_node(node)})
    pred, true = torch.arange(n).double() + 0.5, torch.arange(n).double()
    for predicted in (pred, pred[:, None]):
        for actual in (true, true[:, None]):
            assert modules.evaluator.evaluate([{"stored": predicted, "energy": actual}]) == {"mse": 0.25}


def test_shapes_that_do_not_fit_are_told_not_broadcast() -> None:
    node = Node("energy", (InputNode("stored", axis=Axis.SYSTEM, unit="eV"),), Given(), "energy")
    modules, _ = assemble_for_training(MSE.of_node(node), {"mse": MSE.of_node(node)})
    with pytest.raises(ValueError, match=r"\(3,\).*\(1,\)"):
        modules.loss(torch.zeros(3), torch.zeros(1))


def test_a_loss_that_is_not_reduced_is_refused() -> None:
    node = objective().outputs["energy"]
    with pytest.raises(ValueError, match=r"energy_(pred|true).*Put a reduction"):
        assemble_for_training(MSE.of_node(node), {"difference": node.pred - node.true})


def test_a_reduction_of_a_reduction_is_refused() -> None:
    node = objective().outputs["energy"]
    twice = MAE(node.pred - MSE.of_node(node), node.true)
    with pytest.raises(ValueError, match="one number already"):
        assemble_for_training(MSE.of_node(node), {"twice": twice})
