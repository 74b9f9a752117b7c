"""The nodes of losses: what they take, what they refuse, and how they enter algebra."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from forcefoundry.columns import Axis
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.graph import InputNode, Node
from forcefoundry.losses import MAE, MSE, R2, RMSE, Huber, LossNode, Mean, MeanSq, Phases, SpreadNode, per_atom
from tests.builders import batch, database, objective
from tests.losses.room import NODES, Given


def stored(name: str, axis: Axis | None, shape: tuple[int, ...] | None = ()) -> Node:
    """A node whose prediction is a column of a batch."""
    source = InputNode(f"stored_{name}", axis=axis or Axis.SYSTEM, unit="", shape=shape)
    source.axis = axis
    return Node(name, (source,), Given(), name, axis, shape=shape)


def value(loss: Node, columns: dict[str, Any]) -> float:
    """A loss of one batch, by way of an assembled training loss and, where it is the same, of the evaluator."""
    modules, info = assemble_for_training(loss, {"loss": loss})
    given = {name: torch.as_tensor(column) for name, column in columns.items()}
    outputs = modules.model(*(given[name] for name in info["inputs"]))
    trained = float(modules.loss(*outputs, *(given[name] for name in info["targets"]))[0])
    judged = modules.evaluator.evaluate([given])["loss"]
    assert judged == pytest.approx(trained, rel=1e-14, nan_ok=True)
    return judged


@pytest.mark.parametrize("kind", NODES)
def test_of_a_node_it_takes_the_prediction_and_the_truth_where_it_compares(kind: Any) -> None:
    energy = objective().outputs["energy"]
    loss = kind.of_node(energy)
    assert loss.parents == ((energy.pred, energy.true) if issubclass(kind, LossNode) else (energy.pred,))
    assert loss.name == f"{kind.kind}_energy"
    weights = InputNode("trust", axis=Axis.SYSTEM, unit="1").true
    weighted = kind.of_node(energy, weights=weights)
    assert weighted.parents == (*loss.parents, weights)
    assert kind(*loss.parents).name == f"{kind.kind}_energy_pred"


@pytest.mark.parametrize("kind", NODES)
def test_each_enters_algebra_on_either_side(kind: Any) -> None:
    node = stored("energy", Axis.SYSTEM)
    rng = np.random.default_rng(0)
    columns = {"stored_energy": rng.normal(0, 1, 9), "energy": rng.normal(0, 1, 9)}
    alone = value(kind.of_node(node), columns)
    other = value(MAE.of_node(node), columns)
    combined = 0.1 * kind.of_node(node) + MAE.of_node(node) / 2 - 1.0
    assert value(combined, columns) == pytest.approx(0.1 * alone + other / 2 - 1.0, rel=1e-13)


def test_rows_of_different_things_are_refused_where_they_are_joined() -> None:
    what = objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    for kind in (RMSE, MAE, R2, Huber):
        with pytest.raises(
            ValueError, match=f"{kind.kind}_energy_pred.*joins 'energy_pred'.*each system.*'forces_true'"
        ):
            kind(energy.pred, forces.true)
    trust = InputNode("trust", axis=Axis.ATOM, unit="1").true
    with pytest.raises(ValueError, match=r"rmse_energy.*joins 'energy_pred'.*each system.*'trust_true'.*each atom"):
        RMSE.of_node(energy, weights=trust)
    with pytest.raises(ValueError, match=r"mean_energy.*joins 'energy_pred'"):
        Mean.of_node(energy, weights=trust)
    charges = InputNode("charges").true
    with pytest.raises(ValueError, match=r"'mae_forces_pred' cannot compare.*\(3,\) and 'charges_true'.*\(\)"):
        MAE(forces.pred, charges)


def test_a_column_may_be_compared_with_plain_numbers() -> None:
    column, plain = stored("energy", Axis.SYSTEM, (1,)), InputNode("energy")
    assert RMSE(column.pred, plain.true).parents == (column.pred, plain.true)


@pytest.mark.parametrize("wrong", [None, 2.0, "energy", MSE])
def test_what_is_no_node_is_refused(wrong: Any) -> None:
    energy = objective().outputs["energy"]
    for make in (lambda: RMSE(energy.pred, wrong), lambda: Mean(wrong), lambda: per_atom(wrong)):
        with pytest.raises(ValueError, match=r"(rmse|mean|per_atom) got .*expected a node such as energy\.pred"):
            make()
    if wrong is not None:
        with pytest.raises(ValueError, match=r"rmse got .*expected a node"):
            RMSE.of_node(energy, weights=wrong)


def test_a_weight_of_each_atom_and_one_of_each_system_spread_over_its_atoms() -> None:
    rng = np.random.default_rng(0)
    forces = stored("forces", Axis.ATOM, (3,))
    of_system, of_atom = (InputNode(f"trust_{axis.value}", axis=axis, unit="1") for axis in (Axis.SYSTEM, Axis.ATOM))
    system_of_atom = np.repeat(np.arange(4), [3, 1, 4, 2])
    columns = {
        "stored_forces": rng.normal(0, 1, (10, 3)),
        "forces": rng.normal(0, 1, (10, 3)),
        "trust_system": rng.uniform(0, 2, 4),
        "trust_atom": rng.uniform(0, 2, 10),
        "system_of_atom": system_of_atom,
    }
    squares = (columns["stored_forces"] - columns["forces"]) ** 2
    for node, weights in ((of_system, columns["trust_system"][system_of_atom]), (of_atom, columns["trust_atom"])):
        expected = np.sqrt((weights @ squares).sum() / (3 * weights.sum()))
        assert value(RMSE.of_node(forces, weights=node.true), columns) == pytest.approx(expected, rel=1e-13)
        assert value(RMSE(forces.pred, forces.true, weights=2.0 * node.true), columns) == pytest.approx(
            expected, rel=1e-13
        )
        expected = (weights @ columns["stored_forces"]).sum() / (3 * weights.sum())
        assert value(Mean.of_node(forces, weights=node.true), columns) == pytest.approx(expected, rel=1e-12)


def test_a_spread_weight_comes_from_the_graph_and_is_made_once() -> None:
    what = objective()
    forces = what.outputs["forces"]
    trust = InputNode("trust", axis=Axis.SYSTEM, unit="1").true
    first, second = RMSE.of_node(forces, weights=trust), MAE.of_node(forces, weights=trust)
    (spread,) = {loss.parents[2] for loss in (first, second)}
    assert isinstance(spread, SpreadNode)
    modules, info = assemble_for_training(first + second, {"rmse": first})
    assert info["targets"] == ["forces", "trust", "system_of_atom"]
    (index,) = (node for node in modules.model.inputs if node.db_name == "system_of_atom")
    assert spread.parents[1] is index.true
    kept = weakref.ref(spread)
    del spread, first, second, modules
    gc.collect()
    assert kept() is None


def test_per_atom_divides_by_the_graphs_number_of_atoms_once() -> None:
    what = objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    pred, true = per_atom(energy.pred), per_atom(energy.true)
    assert per_atom(energy.pred) is pred
    assert (pred.axis, pred.shape) == (Axis.SYSTEM, ())
    loss = RMSE(pred, true)
    modules, info = assemble_for_training(loss, {"loss": loss})
    assert info["targets"] == ["n_atoms", "energy"]
    assert info["inputs"].count("n_atoms") == 1
    base = database(5)
    packed = batch(base, names=[*info["inputs"], *info["targets"]])
    found = modules.evaluator.evaluate([packed])["loss"]
    predicted = modules.model.eval()(*(packed[name] for name in info["inputs"]))[0].numpy()
    expected = np.sqrt(np.mean(((predicted - base.columns["energy"]) / base.columns["n_atoms"]) ** 2))
    assert found == pytest.approx(expected, rel=1e-13)
    with pytest.raises(
        ValueError, match="per_atom divides what has one row for each system, and 'forces_pred' has not"
    ):
        per_atom(forces.pred)


def test_per_atom_and_weights_of_a_graph_without_these_columns_bring_each_once() -> None:
    energy, forces = stored("energy", Axis.SYSTEM), stored("forces", Axis.ATOM, (3,))
    trust = InputNode("trust", axis=Axis.SYSTEM, unit="1").true
    pred, true = per_atom(energy.pred), per_atom(energy.true)
    assert pred.parents[1] is true.parents[1]
    first = RMSE.of_node(forces, weights=trust)
    loss = RMSE(pred, true) + first + MAE.of_node(forces, weights=trust) + MeanSq.of_node(forces, weights=trust)
    _, info = assemble_for_training(loss, {"loss": loss})
    assert sorted(info["targets"]) == ["energy", "forces", "n_atoms", "system_of_atom", "trust"]


def test_labels_within_a_prediction_must_be_there_as_well() -> None:
    energy, baseline = stored("energy", Axis.SYSTEM), stored("baseline", Axis.SYSTEM)
    nan = np.nan
    columns = {
        "stored_energy": np.array([1.0, 2.0, 3.0, 4.0]),
        "energy": np.array([1.5, nan, 5.0, 1.0]),
        "baseline": np.array([0.25, 0.5, nan, 0.0]),
        "n_atoms": np.array([1, 2, 3, 4]),
    }
    delta = energy.pred + baseline.true
    assert value(MAE(delta, energy.true), columns) == pytest.approx((0.25 + 3.0) / 2)
    assert value(MAE(energy.pred, energy.true - baseline.true), columns) == pytest.approx((0.25 + 3.0) / 2)
    assert value(Mean(energy.pred - energy.true), columns) == pytest.approx((-0.5 - 2.0 + 3.0) / 3)
    assert value(MAE(per_atom(energy.pred), per_atom(energy.true)), columns) == pytest.approx((0.5 + 2 / 3 + 0.75) / 3)
    assert len(RMSE(per_atom(energy.pred), per_atom(energy.true)).parents) == 2


def test_one_number_a_batch_counts_once_a_batch() -> None:
    scalar = stored("order", None)
    loss = MSE.of_node(energy := stored("energy", Axis.SYSTEM))
    losses = {"mean": Mean.of_node(scalar), "square": MeanSq.of_node(scalar), "mse": loss}
    modules, _ = assemble_for_training(loss, losses)
    sizes, numbers = (1, 5, 3), (2.0, -1.0, 4.0)
    parts = [
        {"stored_order": torch.tensor(number), "stored_energy": torch.ones(size), "energy": torch.zeros(size)}
        for size, number in zip(sizes, numbers, strict=True)
    ]
    assert modules.evaluator.evaluate(parts) == {"mean": 5.0 / 3.0, "square": 7.0, "mse": 1.0}
    assert energy.axis is Axis.SYSTEM


def test_phases_are_refused_in_validation() -> None:
    node = stored("energy", Axis.SYSTEM)
    loss = Phases({0: 1.0, 3: 2.0}, name="late") * MSE.of_node(node)
    assemble_for_training(loss, {"mse": MSE.of_node(node)})
    for wrong in (loss, MSE(Phases({0: 1.0}, "late") * node.pred, node.true)):
        with pytest.raises(ValueError, match="validation loss uses 'late', which changes with the epoch"):
            assemble_for_training(loss, {"mse": MSE.of_node(node), "phased": wrong})
