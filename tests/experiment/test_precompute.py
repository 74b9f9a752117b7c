"""Precomputed pairs: the graph reads from the database what it would find itself, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from forcefoundry.columns import Axis
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import TrainingModules, assemble_for_training, precompute_pairs
from forcefoundry.experiment.resolved import describe
from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs
from forcefoundry.losses import MAE, MSE
from forcefoundry.networks.base import NetworkNode
from forcefoundry.objectives import energy_and_forces
from forcefoundry.pairs import PairFinderNode, ReferenceFinder
from forcefoundry.pairs import cache as cache_module
from forcefoundry.pairs import reference as reference_module
from forcefoundry.pairs.dense import DensePairTable
from forcefoundry.targets.energy import EnergyNode
from tests.builders import assembled, database, loss_of, network, objective, outputs
from tests.pairs.brute_force import Structure, by_loops, listed


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

    monkeypatch.setattr(ReferenceFinder, "__call__", refuse)
    assert len(outputs(modules, base)["energy"]) == 6


def test_precomputing_twice_does_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    what, base = objective(), database(6)
    first = assembled(what, base)
    precompute_pairs(first.model, base)
    second = assembled(what, base)
    before, tables = describe(second.model, {"inputs": base.inputs, "targets": base.targets}), dict(base.pairs)

    def refuse(*_: object) -> None:
        raise AssertionError("pairs were searched")

    monkeypatch.setattr(ReferenceFinder, "__call__", refuse)
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


def test_an_unsplit_database_is_cached_whole_and_may_be_split_afterwards() -> None:
    what, base = objective(), database(6, splits={})
    splits = {"train": [4, 1], "valid": [0]}
    truth = {name: outputs(assembled(what, base), base, rows) for name, rows in splits.items()}
    precompute_pairs(assembled(what, base).model, base)
    modules = assembled(what, base)
    base.splits = {name: np.array(rows) for name, rows in splits.items()}
    for name, rows in base.splits.items():
        found = outputs(modules, base, rows.tolist())
        assert all(torch.equal(value, truth[name][key]) for key, value in found.items())


def mixed() -> Database:
    """Structures of every kind of boundary, one atom and unwrapped atoms among them."""
    base = database(8)
    pbc = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0], [1, 1, 1], [1, 0, 1]], dtype=bool)
    rng = np.random.default_rng(5)
    cells = np.eye(3) * 4.4 + rng.normal(0, 0.2, (8, 3, 3))
    system = np.repeat(np.arange(8), base.columns["n_atoms"])
    far = np.where(pbc[system], rng.integers(-2, 3, (len(system), 3)), 0).astype(float)
    positions = base.columns["positions"] + np.einsum("na,nab->nb", far, cells[system])
    return Database({**base.columns, "pbc": pbc, "cell": cells, "positions": positions}, base.splits)


@pytest.mark.parametrize("dense", [False, True])
def test_open_periodic_and_mixed_boundaries_are_bit_equal_also_in_three_steps(dense: bool) -> None:
    found = {}
    for cached in (False, True):
        what, base = objective(seed=3), mixed()
        modules = assembled(what, base)
        if cached:
            precompute_pairs(modules.model, base, make_dense=dense, n_images=5)
            assert isinstance(base.pairs[3.2], DensePairTable) is dense
            modules = assembled(what, base)
        found[cached] = [*outputs(modules, base, [6, 0, 3, 3, 1]).values(), *three_steps(modules, base)]
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))


def test_a_dense_cache_holds_what_brute_force_finds() -> None:
    what, base = objective(), mixed()
    precompute_pairs(assembled(what, base).model, base, make_dense=True, n_images=6)
    for at in range(len(base)):
        atoms = base.atoms(at)
        expected, _ = by_loops(
            Structure(base.columns["positions"][atoms], base.columns["cell"][at], base.columns["pbc"][at], 3.2)
        )
        assert listed(base.pairs[3.2].batch(np.array([at]), np.array([0]))) == sorted(expected)
    assert base.pairs[3.2].near.dtype == np.bool_
    assert base.pairs[3.2].near.shape[3:] == (13, 13, 13)


def test_too_few_images_are_an_error_that_names_the_structure_and_what_suffices() -> None:
    what, base = objective(), mixed()
    modules = assembled(what, base)
    with pytest.raises(ValueError, match=r"Structure \d of the database .* outside n_images=1") as told:
        precompute_pairs(modules.model, base, make_dense=True)
    unchanged(what, base)
    enough = int(str(told.value).partition(". n_images=")[2].split()[0])
    with pytest.raises(ValueError, match=f"n_images={enough} suffices"):
        precompute_pairs(modules.model, base, make_dense=True, n_images=enough - 1)
    precompute_pairs(modules.model, base, make_dense=True, n_images=enough)
    ragged_model, ragged = objective(), mixed()
    precompute_pairs(assembled(ragged_model, ragged).model, ragged, n_images=enough)
    assert base.pairs[3.2].n_pairs == ragged.pairs[3.2].n_pairs > 0


def test_arguments_that_make_no_sense_are_refused_and_nothing_is_changed() -> None:
    what, base = objective(), database(4)
    modules = assembled(what, base)
    for arguments in ({"n_images": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=r"n_images is 0|batch_size is 0"):
            precompute_pairs(modules.model, base, **arguments)
    unchanged(what, base)


def test_a_model_without_pairs_is_told() -> None:
    inputs = Inputs.new()
    energy = Node("energy", (inputs.n_atoms,), torch.nn.Identity(), "energy", Axis.SYSTEM)
    modules, _ = assemble_for_training(MSE.of_node(energy), [])
    with pytest.raises(ValueError, match="no pair finder"):
        precompute_pairs(modules.model, database(3))


def test_the_models_own_finder_is_asked() -> None:
    asked = []

    class Counting(ReferenceFinder):
        def __call__(self, *arguments: Any) -> Any:
            asked.append(arguments[3])
            return super().__call__(*arguments)

    what, base = energy_and_forces(network(), Counting()), database(4)
    precompute_pairs(assembled(what, base).model, base)
    assert asked == [3.2]


def unchanged(what: Any, base: Database) -> None:
    """The graph still finds its pairs itself and the database holds none."""
    assert base.pairs == {}
    modules = assembled(what, base)
    assert "pbc" in base.inputs
    assert any(isinstance(node, PairFinderNode) for node in modules.model.nodes)


@pytest.mark.parametrize("after", [0, 3, 5])
def test_an_interruption_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    what, base = energy_and_forces(network(), ReferenceFinder()), database(6)
    modules = assembled(what, base)
    before = outputs(modules, base)
    calls = 0
    real = reference_module.check_structure

    def interrupted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(reference_module, "check_structure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            precompute_pairs(modules.model, base)
    unchanged(what, base)
    precompute_pairs(modules.model, base)
    after_all = outputs(assembled(what, base), base)
    assert all(torch.equal(value, before[name]) for name, value in after_all.items())


@pytest.mark.parametrize("after", range(5))
def test_an_interruption_between_two_replacements_changes_nothing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    loss, validation = two_cutoffs()
    base = database(4)
    modules, info = assemble_for_training(loss, validation)
    calls = 0
    real = cache_module.replace_node

    def interrupted(old: Node, new: Node) -> None:
        nonlocal calls
        calls += 1
        real(old, new)
        if calls > after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "replace_node", interrupted)
        with pytest.raises(KeyboardInterrupt):
            precompute_pairs(modules.model, base)
    assert base.pairs == {}
    assert assemble_for_training(loss, validation)[1] == info


def test_a_structure_whose_pairs_are_not_defined_is_named_and_nothing_is_changed() -> None:
    what, base = objective(), database(5)
    positions = base.columns["positions"].copy()
    positions[base.offsets[3] + 1] = positions[base.offsets[3]]
    broken = Database({**base.columns, "positions": positions}, base.splits)
    modules = assembled(what, broken)
    with pytest.raises(ValueError, match="Structure 3 of the database: atoms 0 and 1 lie in one place"):
        precompute_pairs(modules.model, broken)
    unchanged(what, broken)


def two_cutoffs() -> tuple[Node, dict[str, Node]]:
    """Two networks of different cutoff in one graph, whose energies are added."""
    inputs = Inputs.new()
    energies: list[Node] = []
    for name, cutoff, seed in (("near", 2.9, 1), ("far", 3.7, 2)):
        features = NetworkNode(network(seed, cutoff=cutoff), inputs, name=f"network_{name}")
        readout = EnergyNode(features, name=f"energy_{name}", db_name=None)
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
    base, inputs = database(6), Inputs.new()
    energies: list[Node] = []

    def add(name: str) -> None:
        features = NetworkNode(network(), inputs, name=f"network_{name}")
        energies.append(EnergyNode(features, name=f"energy_{name}", db_name=None).output("energy"))

    def total() -> Node:
        together = energies[0] * 1.0
        for other in energies[1:]:
            together = together + other
        return MSE.of_node(Node("energy", (together,), torch.nn.Identity(), "energy", Axis.SYSTEM, "eV"))

    add("one")
    loss = total()
    precompute_pairs(assemble_for_training(loss, {"mse": loss})[0].model, base)
    add("two")
    loss = total()
    precompute_pairs(assemble_for_training(loss, {"mse": loss})[0].model, base)
    _, info = assemble_for_training(loss, {"mse": loss})
    assert len([name for name in info["inputs"] if name.startswith("pairs_")]) == 3


def test_the_example_of_the_specification_on_the_cpu() -> None:
    """The three lines under "Example usage" of the module's specification, as they stand there but for the device."""
    what, database_ = objective(), database(5)
    train_loss, validation_losses = what.train_loss, what.validation_losses
    training_modules, db_info = assemble_for_training(train_loss, validation_losses)
    database_.inputs, database_.targets = db_info["inputs"], db_info["targets"]
    truth = outputs(training_modules, database_)
    scope = {**globals(), **locals(), "database": database_}
    exec(
        "precompute_pairs(training_modules.model,database,device='cpu')\n"
        "training_modules, db_info = assemble_for_training(train_loss, validation_losses)\n"
        "database.inputs = db_info['inputs']\n",
        scope,
    )
    found = outputs(scope["training_modules"], database_)
    assert all(torch.equal(value, truth[name]) for name, value in found.items())
    assert "pairs_3.2_i" in database_.inputs
