"""Validation losses of one graph: what they share, what they refuse to hide, and that they are copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forcefoundry.batches import Packer, in_order
from forcefoundry.columns import Axis
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.graph import InputNode, Node
from forcefoundry.losses import MAE, MSE, R2, RMSE, Huber, Mean, per_atom
from forcefoundry.losses.counted import Differences
from tests.builders import assembled, batch, database, objective
from tests.losses.room import Given


def test_what_reductions_of_the_same_nodes_see_is_made_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    take = Differences._take

    def counted(self: Differences, compared: list[torch.Tensor]) -> None:
        made.append(compared[0].numel())
        take(self, compared)

    monkeypatch.setattr(Differences, "_take", counted)
    base, what = database(6), objective()
    quantities = [per_atom(what.outputs["energy"].pred), per_atom(what.outputs["energy"].true)]
    quantities += [what.outputs["forces"].pred, what.outputs["forces"].true]
    losses = [kind(*pair) for pair in (quantities[:2], quantities[2:]) for kind in (MAE, RMSE, R2, Huber)]
    modules, info = assemble_for_training(losses[0], losses)
    packed = batch(base, names=[*info["inputs"], *info["targets"]])
    modules.evaluator.evaluate([packed, packed])
    n_forces = 3 * int(base.offsets[-1])
    assert made == 2 * [6, n_forces]


def test_what_is_shared_is_never_another_losss() -> None:
    names = ("a", "b", "c")
    a, b, c = (Node(n, (InputNode(f"stored_{n}", axis=Axis.SYSTEM, unit=""),), Given(), n, Axis.SYSTEM) for n in names)
    losses = {
        "compared": MAE(a.pred, b.true),
        "weighted mean": Mean(a.pred, weights=b.true),
        "weighted": MAE(a.pred, b.true, weights=c.true),
        "otherwise": MAE(a.pred, c.true, weights=b.true),
        "within": MAE(a.pred + c.true, b.true),
        "within and weighted": MAE(a.pred + c.true, b.true, weights=c.true),
        "signed": Mean(difference := a.pred - b.true),
        "signed and compared": MAE(difference, b.true),
        "near": Huber(a.pred, b.true, delta=0.1),
        "far": Huber(a.pred, b.true, delta=10.0),
        "rmse": RMSE(a.pred, b.true),
    }
    rng = np.random.default_rng(0)
    parts = [
        {f"stored_{names[0]}": rng.normal(0, 1, 5), "b": rng.uniform(0, 1, 5), "c": rng.uniform(0, 1, 5)} for _ in "123"
    ]
    packed = [{name: torch.from_numpy(column) for name, column in part.items()} for part in parts]
    together = assemble_for_training(losses["rmse"], losses)[0].evaluator.evaluate(packed)
    for name, loss in losses.items():
        assert assemble_for_training(loss, {name: loss})[0].evaluator.evaluate(packed) == {name: together[name]}
    assert len(set(together.values())) == len(losses)


def test_a_prediction_that_is_not_a_number_shows_in_every_metric_of_its_quantity() -> None:
    base = database(5)
    modules = assembled(objective(), base)
    model = modules.model.forward

    def broken(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        energy, forces = model(*values)
        return energy, forces.index_fill(0, torch.tensor([2]), torch.nan)

    modules.model.forward = broken  # type: ignore[method-assign]
    found = modules.evaluator.evaluate([batch(base, [rows]) for rows in range(5)])
    assert all(np.isnan(value) == name.startswith("forces") for name, value in found.items())


def test_a_split_of_fewer_than_ten_systems_and_a_number_of_each_batch() -> None:
    base = database(3)
    what = objective()
    energy = what.outputs["energy"]
    number = Node("largest", (energy,), Largest())
    modules, info = assemble_for_training(
        MSE.of_node(energy), {"mse": MSE.of_node(energy), "top": Mean.of_node(number)}
    )
    packer = Packer(base, [*info["inputs"], *info["targets"]])
    parts = [packer.pack(rows) for rows in in_order(np.arange(3), 2)]
    found = modules.evaluator.evaluate(parts)
    model = modules.model.eval()
    tops = [float(model(*(part[name] for name in info["inputs"]))[1]) for part in parts]
    assert tops[0] != tops[1]
    assert found["top"] == pytest.approx(np.mean(tops), rel=1e-14)


class Largest(torch.nn.Module):
    """The largest energy of a batch: one number, whatever the batch."""

    def forward(self, energy: torch.Tensor) -> torch.Tensor:
        return energy.max()


def test_later_changes_do_not_reach_the_evaluator() -> None:
    base = database(4)
    what = objective()
    forces = what.outputs["forces"]
    loss = Huber.of_node(forces, delta=0.3)
    scaled = np.array([2.0, 2.0, 2.0]) * forces.pred
    losses = {"huber": loss, "scaled": MAE(scaled, forces.true)}
    modules, info = assemble_for_training(loss, losses)
    packed = batch(base, names=[*info["inputs"], *info["targets"]])
    before = modules.evaluator.evaluate([packed])
    assert loss.module is not None
    assert scaled.module is not None
    loss.module.delta = 50.0  # type: ignore[assignment]
    scaled.module.constant.zero_()  # type: ignore[operator, union-attr]
    loss.parents = (forces.true, forces.true)
    assert modules.evaluator.evaluate([packed]) == before
    assert assemble_for_training(losses["scaled"], losses)[0].evaluator.evaluate([packed]) != before
