"""The seed: from losses to a model, a loss and an evaluator, again and again over the same nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from forcefoundry.experiment.assembly import (
    TrainingModules,
    assemble_for_training,
    build_loss_modules,
    determine_out_in_targ,
    generate_database_info,
    precompute_pairs,
)
from forcefoundry.experiment.evaluator import Evaluator
from forcefoundry.experiment.resolved import check_same, describe
from forcefoundry.graph import InputNode, Node, OutputNode, ordered_ancestors
from forcefoundry.inputs import Inputs
from forcefoundry.losses import L2, MAE, MSE, RMSE
from forcefoundry.networks.base import NetworkNode
from forcefoundry.plots.maker import PlotMaker
from forcefoundry.plots.parity import Parity
from forcefoundry.targets.energy import EnergyNode
from tests.builders import assembled, batch, database, objective, outputs


def test_training_modules_are_a_tuple_of_model_loss_and_evaluator() -> None:
    what = objective()
    modules, info = assemble_for_training(what.train_loss, what.validation_losses)
    assert isinstance(modules, tuple)
    assert isinstance(modules, TrainingModules)
    model, loss, evaluator = modules
    assert (modules[0], modules[1], modules[2]) == (modules.model, modules.loss, modules.evaluator)
    assert isinstance(model, torch.nn.Module)
    assert isinstance(loss, torch.nn.Module)
    assert isinstance(evaluator, Evaluator)
    assert list(info) == ["inputs", "targets"]


def test_db_info_names_the_columns_in_order_of_first_sight() -> None:
    what = objective()
    modules, info = assemble_for_training(what.train_loss, what.validation_losses)
    assert info == {
        "inputs": ["n_atoms", "system_of_atom", "species", "positions", "cell", "pbc"],
        "targets": ["n_atoms", "energy", "forces"],
    }
    assert [node.name for node in modules.model.outputs] == ["energy", "forces"]
    assert [node.db_name for node in modules.model.inputs] == info["inputs"]


def test_order_follows_the_loss() -> None:
    what = objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    backwards = MSE.of_node(forces) + MSE.of_node(energy)
    (model, loss, _), info = assemble_for_training(backwards, {"energy": MAE.of_node(energy)})
    assert [node.name for node in model.outputs] == ["forces", "energy"]
    assert info["targets"] == ["forces", "energy"]
    assert [node.name for node in loss.inputs] == ["forces_pred", "energy_pred", "forces_true", "energy_true"]


def test_validation_names() -> None:
    what = objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    losses = [MSE.of_node(energy), MAE.of_node(forces)]
    named = assemble_for_training(losses[0], losses)[0].evaluator
    assert named.names == ("mse_energy", "mae_forces")
    given = assemble_for_training(losses[0], losses, ["one", "two"])[0].evaluator
    assert given.names == ("one", "two")
    by_dict = assemble_for_training(losses[0], {"b": losses[1], "a": losses[0]})[0].evaluator
    assert by_dict.names == ("b", "a")


@pytest.mark.parametrize(
    ("losses", "names", "told"),
    [
        (lambda x: {"mse": x}, ["mse"], "for a list of losses; a dict names its losses itself"),
        (lambda x: {7: x}, None, "must be strings, got 7"),
        (lambda x: [x], [None], "must be strings, got None"),
        (lambda x: [x], ["a", "b"], "1 validation losses but 2 names"),
        (lambda x: [x, x + 1.0], ["a", "a"], "one name among a, a"),
        (lambda x: [x * 1.0, x * 2.0], None, "one name among mul, mul.*Give validation_names"),
    ],
)
def test_names_that_are_refused(losses: Callable[[Node], Any], names: Any, told: str) -> None:
    loss = MSE.of_node(objective().outputs["energy"])
    with pytest.raises(ValueError, match=told):
        assemble_for_training(loss, losses(loss), names)


def test_a_plain_input_in_a_loss_is_refused_with_its_name() -> None:
    inputs = Inputs.new()
    energy = Node("energy", (inputs.n_atoms,), torch.nn.Identity(), "energy")
    wrong = MSE(energy.pred / inputs.n_atoms, energy.true / inputs.n_atoms)
    with pytest.raises(ValueError, match=r"'n_atoms' as they are .by way of 'div'.*Use \.pred .*\.true"):
        assemble_for_training(wrong, {"wrong": wrong})


def test_a_plain_network_node_in_a_loss_is_refused() -> None:
    what = objective()
    energy = what.outputs["energy"]
    with pytest.raises(ValueError, match="as they are"):
        assemble_for_training(MSE(energy, energy.true), {})


def test_a_node_without_a_column_is_an_error_that_lists_all_such_nodes() -> None:
    what = objective()
    (readout,) = (n for n in ordered_ancestors([what.outputs["energy"]]) if isinstance(n, EnergyNode))
    parts = [readout.output("atom_energy"), readout.output("atom_terms")]
    loss = MSE.of_node(parts[0]) + MSE.of_node(parts[1])
    with pytest.raises(ValueError, match=r"'atom_energy', 'atom_energy_terms' have no db_name.*allow_unfound"):
        assemble_for_training(loss, {"loss": loss})
    inputs, _, targets = determine_out_in_targ(loss)
    info = generate_database_info(inputs, targets, allow_unfound=True)
    assert info["targets"] == []
    assert info["inputs"][0] == "n_atoms"


def test_determine_out_in_targ_gives_inputs_outputs_and_targets() -> None:
    what = objective()
    inputs, outs, targets = determine_out_in_targ(what.train_loss, *what.validation_losses.values())
    assert all(isinstance(node, InputNode) for node in inputs)
    assert [node.name for node in outs] == ["energy", "forces"]
    assert isinstance(outs[0], OutputNode)
    assert [node.name for node in targets] == ["n_atoms", "energy", "forces"]


def test_what_plots_need_counts() -> None:
    what = objective(forces_weight=0.0)
    only_energy = {"energy": MSE.of_node(what.outputs["energy"])}
    plots = PlotMaker([Parity("forces", what.quantities)])
    (model, *_), info = assemble_for_training(only_energy["energy"], only_energy, plot_maker=plots)
    assert [node.name for node in model.outputs] == ["energy", "forces"]
    assert info["targets"] == ["energy", "forces"]


def test_weights_are_shared_over_assemblies() -> None:
    what, base = objective(), database(6)
    first, second = assembled(what, base), assembled(what, base)
    assert first.model is not second.model
    assert [id(w) for w in first.model.parameters()] == [id(w) for w in second.model.parameters()]
    before = outputs(second, base)["energy"]
    with torch.no_grad():
        for weight in first.model.parameters():
            weight.mul_(1.25)
    after = outputs(second, base)["energy"]
    assert not torch.equal(before, after)
    assert torch.equal(after, outputs(first, base)["energy"])


def test_validation_losses_are_copies_on_the_cpu() -> None:
    base = database(5)
    what = objective()
    energy = what.outputs["energy"]
    shift = energy.pred + 0.5
    loss = MSE(shift, energy.true)
    (model, train_loss, evaluator), info = assemble_for_training(loss, {"shifted": loss})
    base.inputs, base.targets = info["inputs"], info["targets"]
    before = evaluator.evaluate([batch(base)])["shifted"]
    assert shift.module is not None
    shift.module.constant = 1000.0  # type: ignore[assignment]
    values = [*model.eval()(*(batch(base)[n] for n in base.inputs)), *(batch(base)[n] for n in base.targets)]
    assert evaluator.evaluate([batch(base)])["shifted"] == before
    assert float(train_loss(*values)[0]) > 100 * before


def test_an_l2_penalty_in_the_validation_sees_the_weights_as_they_are() -> None:
    base = database(4)
    what = objective()
    (features,) = (n for n in ordered_ancestors([what.outputs["energy"]]) if isinstance(n, NetworkNode))
    penalty = L2(features)
    mse = MSE.of_node(what.outputs["energy"])
    modules, info = assemble_for_training(mse + penalty, {"l2": penalty, "both": mse + 2.0 * penalty, "mse": mse})
    base.inputs, base.targets = info["inputs"], info["targets"]
    first = modules.evaluator.evaluate([batch(base)])
    with torch.no_grad():
        for weight in what.network.penalised():
            weight.mul_(2.0)
    second = modules.evaluator.evaluate([batch(base, [0, 1]), batch(base, [2, 3])])
    assert first["l2"] == pytest.approx(sum(float((w.detach() / 2).pow(2).sum()) for w in what.network.penalised()))
    assert second["l2"] == pytest.approx(4 * first["l2"], rel=1e-14)
    assert second["both"] == pytest.approx(second["mse"] + 2 * second["l2"], rel=1e-14)
    assert not [name for name, _ in modules.loss.named_parameters()]
    assert not [name for name, _ in modules.evaluator.losses.named_parameters()]


def test_build_loss_modules_takes_outputs_then_targets() -> None:
    what = objective()
    energy = what.outputs["energy"]
    n_atoms = next(node for node in ordered_ancestors([energy]) if node.name == "n_atoms")
    loss = RMSE(energy.pred / n_atoms.true, energy.true / n_atoms.true)
    train, validation = build_loss_modules(loss, [loss, loss * 2.0], [energy], [n_atoms, energy])
    values = [torch.tensor([2.0, 9.0]).double(), torch.tensor([2, 3]), torch.tensor([0.0, 3.0]).double()]
    expected = np.sqrt((1.0**2 + 2.0**2) / 2)
    assert float(train(*values)[0]) == pytest.approx(expected, rel=1e-15)
    assert [float(value) for value in validation(*values)] == pytest.approx([expected, 2 * expected], rel=1e-15)


def test_a_graph_that_changed_is_refused() -> None:
    what, base = objective(), database(4)
    modules, info = assemble_for_training(what.train_loss, what.validation_losses)
    written = json.loads(json.dumps(describe(modules.model, info)))
    check_same(written, describe(modules.model, info))
    wider = objective(seed=1)
    wider.network.blocks[0].interaction.V.data = torch.zeros(6, 5, 4)
    other, other_info = assemble_for_training(wider.train_loss, wider.validation_losses)
    with pytest.raises(
        ValueError, match=r"its weights differ, first in moduledict\.network\..*V.*run the assemble step"
    ):
        check_same(written, describe(other.model, other_info))
    precompute_pairs(modules.model, base)
    cached, cached_info = assemble_for_training(what.train_loss, what.validation_losses)
    with pytest.raises(ValueError, match="its inputs differ, first in pbc"):
        check_same(written, describe(cached.model, cached_info))


def test_moving_the_model_and_the_loss_does_not_reach_the_evaluator() -> None:
    what = objective()
    forces = what.outputs["forces"]
    weighted = MSE(forces.pred * np.ones(3), forces.true) + what.train_loss
    (model, loss, evaluator), _ = assemble_for_training(weighted, {"weighted": weighted})
    model.to("meta")
    loss.to("meta")
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}
    kept = [*evaluator.losses.parameters(), *evaluator.losses.buffers()]
    assert {value.device.type for value in kept} <= {"cpu"}
    assert all(buffer.device.type == "cpu" for buffer in evaluator.losses.buffers())


def test_later_changes_of_loss_modules_do_not_reach_the_evaluator() -> None:
    base, what = database(4), objective()
    energy = what.outputs["energy"]
    scale = Node("scaled", (energy.pred,), Scale())
    loss = MSE(scale, energy.true)
    (model, module, evaluator), info = assemble_for_training(loss, {"scaled": loss})
    base.inputs, base.targets = info["inputs"], info["targets"]
    before = evaluator.evaluate([batch(base)])
    assert isinstance(scale.module, Scale)
    with torch.no_grad():
        scale.module.factor.fill_(7.0)
    assert evaluator.evaluate([batch(base)]) == before
    values = [*model.eval()(*(batch(base)[name] for name in info["inputs"])), batch(base)["energy"]]
    assert float(module(*values)[0].detach()) != pytest.approx(before["scaled"])


class Scale(torch.nn.Module):
    """A trainable factor in a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.factor * value


def test_a_batch_of_systems_without_atoms_is_told() -> None:
    base = database(3)
    modules = assembled(objective(), base)
    packed = batch(base)
    for name, values in packed.items():
        packed[name] = values[:0] if name in ("species", "positions", "system_of_atom", "forces") else values
    packed["n_atoms"] = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="The batch holds no atoms"):
        modules.evaluator.evaluate([packed])


def test_losses_over_another_graph_than_the_outputs_are_told() -> None:
    one, other = objective(), objective()
    energy = one.outputs["energy"]
    foreign = MSE.of_node(other.outputs["energy"])
    with pytest.raises(ValueError, match=r"'energy_pred' is not among the inputs and nothing computes it"):
        build_loss_modules(foreign, [], [energy], [energy])
    with pytest.raises(ValueError, match=r"Two nodes are called '\w+'.*They belong to two graphs"):
        assemble_for_training(MSE.of_node(energy), {"foreign": foreign})


@pytest.mark.parametrize("validation", [None, "mae", 3])
def test_validation_losses_of_another_kind_are_told(validation: Any) -> None:
    with pytest.raises(ValueError, match="a dict of name to loss, or a list of losses"):
        assemble_for_training(objective().train_loss, validation)


def test_what_is_no_loss_is_told_when_assembling() -> None:
    what, other = objective(), objective()
    energy = what.outputs["energy"]
    for wrong, told in (
        (0.5, r"The training loss is 0\.5, expected a node"),
        ((energy.pred - energy.true) ** 2.0, "one value for each system, expected one number"),
    ):
        with pytest.raises(ValueError, match=told):
            assemble_for_training(wrong, [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"A validation loss is 0\.5, expected a node"):
        assemble_for_training(what.train_loss, {"a": 0.5})  # type: ignore[dict-item]
    (features,) = (n for n in ordered_ancestors([other.outputs["energy"]]) if isinstance(n, NetworkNode))
    with pytest.raises(ValueError, match="on a network that is no part of the model"):
        assemble_for_training(MSE.of_node(energy) + 1e-2 * L2(features), [])
