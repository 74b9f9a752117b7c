"""The seed: from losses to a model, a loss and an evaluator, again and again over the same nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from forcefoundry.columns import Axis
from forcefoundry.databases import Database
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
from forcefoundry.pairs import BruteFinder, PairFinderNode, PairVectorsNode
from forcefoundry.pairs import brute as brute_module
from forcefoundry.plots.maker import PlotMaker
from forcefoundry.plots.parity import Parity
from forcefoundry.targets.energy import EnergyNode
from tests.builders import assembled, batch, database, loss_of, network, objective, outputs
from tests.outside import ROOT


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
    inputs = Inputs()
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
    with pytest.raises(ValueError, match=r"'atom_energy', 'energy_readout_atom_terms' have no db_name.*allow_unfound"):
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


def three_steps(modules: TrainingModules, base: Database) -> list[torch.Tensor]:
    """The weights after three steps of Adam over different batches, and the gradients of the last."""
    weights = [w for w in modules.model.parameters() if w.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    for rows in ([0, 1, 2], [5, 3], [4, 1, 0, 2]):
        optimizer.zero_grad()
        loss_of(modules, base, rows).backward()
        optimizer.step()
    return [w.detach().clone() for w in weights] + [w.grad.clone() for w in weights if w.grad is not None]


def test_reassembly_after_precompute_pairs_is_bit_equal() -> None:
    found = {}
    for cached in (False, True):
        what, base = objective(seed=3), database(6)
        modules = assembled(what, base)
        if cached:
            live = [id(weight) for weight in modules.model.parameters()]
            precompute_pairs(modules.model, base)
            modules = assembled(what, base)
            assert [id(weight) for weight in modules.model.parameters()] == live
            assert sorted(base.inputs) == sorted(
                ["n_atoms", "system_of_atom", "species", "positions", "cell"]
                + [f"pairs_3.2_{key}" for key in ("i", "j", "S")]
            )
        values = outputs(modules, base)
        loss = loss_of(modules, base)
        gradients = torch.autograd.grad(loss, [w for w in modules.model.parameters() if w.requires_grad])
        found[cached] = [*values.values(), loss.detach(), *gradients, *three_steps(modules, base)]
    assert len(found[False]) == len(found[True]) > 30
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))
    assert float(found[True][1].abs().max()) > 0


def test_the_cached_graph_finds_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    what, base = objective(), database(6)
    precompute_pairs(assembled(what, base).model, base)
    modules = assembled(what, base)

    def refuse(*_: object) -> None:
        raise AssertionError("pairs were searched")

    monkeypatch.setattr(BruteFinder, "__call__", refuse)
    assert len(outputs(modules, base)["energy"]) == 6


def test_precomputing_twice_does_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    what, base = objective(), database(6)
    first = assembled(what, base)
    precompute_pairs(first.model, base)
    second = assembled(what, base)
    before, tables = describe(second.model, {"inputs": base.inputs, "targets": base.targets}), dict(base.pairs)

    def refuse(*_: object) -> None:
        raise AssertionError("pairs were searched")

    monkeypatch.setattr(BruteFinder, "__call__", refuse)
    precompute_pairs(first.model, base)
    precompute_pairs(second.model, base)
    again = assembled(what, base)
    assert describe(again.model, {"inputs": base.inputs, "targets": base.targets}) == before
    assert base.pairs == tables


def test_a_second_database_gets_its_pairs_too() -> None:
    what, base, other = objective(), database(6), database(5, seed=9)
    truth = outputs(assembled(what, other), other)
    precompute_pairs(assembled(what, base).model, base)
    modules = assembled(what, base)
    other.inputs, other.targets = base.inputs, base.targets
    with pytest.raises(ValueError, match=r"holds no cached pairs for pairs_3.2_i.*Call precompute_pairs"):
        outputs(modules, other)
    precompute_pairs(modules.model, other)
    assert all(torch.equal(value, truth[name]) for name, value in outputs(modules, other).items())


def test_every_split_holds_the_pairs() -> None:
    what, base = objective(), database(8, splits={"train": [0, 3], "valid": [1], "test": [7, 2]})
    precompute_pairs(assembled(what, base).model, base)
    modules = assembled(what, base)
    for rows in base.splits.values():
        assert len(outputs(modules, base, rows.tolist())["energy"]) == len(rows)


def test_an_unsplit_database_is_refused_and_nothing_is_changed() -> None:
    what, base = objective(), database(4, splits={})
    modules = assembled(what, base)
    with pytest.raises(ValueError, match=r"no splits.*Split it first"):
        precompute_pairs(modules.model, base)
    unchanged(what, base)


def test_dense_caches_are_refused_and_nothing_is_changed() -> None:
    what, base = objective(), database(4)
    modules = assembled(what, base)
    for arguments in ({"make_dense": True}, {"n_images": 2}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=r"ragged|batch_size is 0"):
            precompute_pairs(modules.model, base, **arguments)  # type: ignore[arg-type]
    unchanged(what, base)


def unchanged(what: Any, base: Database) -> None:
    """The graph still finds its pairs itself and the database holds none."""
    assert base.pairs == {}
    modules = assembled(what, base)
    assert "pbc" in base.inputs
    assert any(isinstance(node, PairFinderNode) for node in modules.model.nodes)


@pytest.mark.parametrize("after", [0, 3, 5])
def test_an_interruption_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    what, base = objective(), database(6)
    modules = assembled(what, base)
    before = outputs(modules, base)
    calls = 0
    real = brute_module.check_structure

    def interrupted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(brute_module, "check_structure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            precompute_pairs(modules.model, base)
    unchanged(what, base)
    precompute_pairs(modules.model, base)
    after_all = outputs(assembled(what, base), base)
    assert all(torch.equal(value, before[name]) for name, value in after_all.items())


def test_a_structure_whose_pairs_are_not_defined_is_named_and_nothing_is_changed() -> None:
    what, base = objective(), database(5)
    positions = base.columns["positions"].copy()
    positions[base.offsets[3] + 1] = np.nan
    broken = Database({**base.columns, "positions": positions}, base.splits)
    modules = assembled(what, broken)
    with pytest.raises(ValueError, match="Structure 3 of the database, atom 1"):
        precompute_pairs(modules.model, broken)
    unchanged(what, broken)


def two_cutoffs() -> tuple[Node, dict[str, Node]]:
    """Two networks of different cutoff in one graph, whose energies are added."""
    inputs = Inputs()
    energies: list[Node] = []
    for name, cutoff, seed in (("near", 2.9, 1), ("far", 3.7, 2)):
        pairs = PairFinderNode(inputs, cutoff, name=f"pairs_{name}")
        i, j, S = (pairs.output(key) for key in ("i", "j", "S"))
        vectors = PairVectorsNode(inputs, i, j, S, name=f"vectors_{name}")
        features = NetworkNode(network(seed, cutoff=cutoff), inputs.species, i, j, vectors, name=f"network_{name}")
        readout = EnergyNode(inputs, features, name=f"readout_{name}")
        readout.outputs["energy"] = type(readout.outputs["energy"])(Axis.SYSTEM, "eV", name=f"energy_{name}")
        readout.readout.double()
        energies.append(readout.output("energy"))
    total = energies[0] + energies[1]
    energy = Node("energy", (total,), torch.nn.Identity(), "energy", Axis.SYSTEM, "eV")
    return MSE.of_node(energy), {"mae": MAE.of_node(energy)}


def test_two_cutoffs_in_one_graph() -> None:
    base = database(6)
    loss, validation = two_cutoffs()
    modules, info = assemble_for_training(loss, validation)
    base.inputs, base.targets = info["inputs"], info["targets"]
    truth = outputs(modules, base)["energy"]
    precompute_pairs(modules.model, base)
    modules, info = assemble_for_training(loss, validation)
    assert {name for name in info["inputs"] if name.startswith("pairs_")} == {
        f"pairs_{cutoff}_{key}" for cutoff in ("2.9", "3.7") for key in ("i", "j", "S")
    }
    base.inputs = info["inputs"]
    assert torch.equal(outputs(modules, base)["energy"], truth)
    assert base.pairs[2.9].n_pairs < base.pairs[3.7].n_pairs


def test_a_finder_that_is_added_later_shares_the_cached_inputs() -> None:
    """One graph, precomputed in two sittings: the second network of the same cutoff reads the same columns."""
    base, inputs = database(6), Inputs()
    finder = PairFinderNode(inputs, 3.2)
    energies: list[Node] = []

    def add(name: str, pairs: PairFinderNode) -> None:
        i, j, S = (pairs.output(key) for key in ("i", "j", "S"))
        vectors = PairVectorsNode(inputs, i, j, S, name=f"vectors_{name}")
        features = NetworkNode(network(), inputs.species, i, j, vectors, name=f"network_{name}")
        readout = EnergyNode(inputs, features, name=f"readout_{name}")
        readout.outputs["energy"] = type(readout.outputs["energy"])(Axis.SYSTEM, "eV", name=f"energy_{name}")
        energies.append(readout.output("energy"))

    def total() -> Node:
        together = energies[0] * 1.0
        for other in energies[1:]:
            together = together + other
        return MSE.of_node(Node("energy", (together,), torch.nn.Identity(), "energy", Axis.SYSTEM, "eV"))

    add("one", finder)
    loss = total()
    precompute_pairs(assemble_for_training(loss, {"mse": loss})[0].model, base)
    add("two", PairFinderNode(inputs, 3.2, name="pairs_again"))
    loss = total()
    precompute_pairs(assemble_for_training(loss, {"mse": loss})[0].model, base)
    _, info = assemble_for_training(loss, {"mse": loss})
    assert len([name for name in info["inputs"] if name.startswith("pairs_")]) == 3


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


PRINT_ASSEMBLY = """
import json
from forcefoundry.experiment.resolved import describe
from tests.builders import assembled, database, objective
from forcefoundry.experiment.assembly import precompute_pairs
what, base = objective(), database(4)
modules = assembled(what, base)
seen = [describe(modules.model, {"inputs": base.inputs, "targets": base.targets})]
precompute_pairs(modules.model, base)
modules = assembled(what, base)
seen.append(describe(modules.model, {"inputs": base.inputs, "targets": base.targets}))
weights = [[name, float(weight.double().sum())] for name, weight in modules.model.state_dict().items()]
print(json.dumps([seen, weights, list(modules.evaluator.names), [n.name for n in modules.loss.inputs]]))
"""


def test_two_processes_with_different_hash_seeds_assemble_the_same() -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT_ASSEMBLY],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    one, other = (json.loads(text) for text in printed)
    assert one == other
    assert one[0][1]["inputs"][3] == "pairs_3.2_i"
    assert len(one[1]) > 20
