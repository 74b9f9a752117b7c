"""What the origin of the assembly module gets wrong, fault by fault; here each is right.

The origin is hippynn 0.1.3; each fault was seen there. Most have more thorough tests beside the code that they concern;
these say in a few lines what would be noticed if one came back.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forcefoundry.batches import Packer
from forcefoundry.databases import Database, from_padded
from forcefoundry.databases.keys import keys_of
from forcefoundry.experiment.assembly import assemble_for_training, precompute_pairs
from forcefoundry.experiment.settings import TrainingSettings
from forcefoundry.experiment.trainer import Trainer
from forcefoundry.graph import GraphModule, InputNode, Node, ordered_ancestors
from forcefoundry.interfaces.model_folder import save_model
from forcefoundry.losses import MSE, Mean
from forcefoundry.pairs import PairStore, PairTable
from forcefoundry.pairs.cache import fill_cache
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.targets.e0 import initialise_energy
from forcefoundry.targets.energy import EnergyReadout
from tests.builders import assembled, batch, database, objective, outputs, tree_bytes
from tests.outside import ROOT
from tests.pairs.store_room import shards_in

PRINT_ASSEMBLY = """
import json
from forcefoundry.experiment.assembly import precompute_pairs
from forcefoundry.experiment.resolved import describe
from tests.builders import assembled, database, objective
what, base = objective(), database(4)
modules = assembled(what, base)
seen = [describe(modules.model, {"inputs": base.inputs, "targets": base.targets})]
precompute_pairs(modules.model, base)
modules = assembled(what, base)
seen.append(describe(modules.model, {"inputs": base.inputs, "targets": base.targets}))
weights = [[name, float(weight.double().sum())] for name, weight in modules.model.state_dict().items()]
print(json.dumps([seen, weights, list(modules.evaluator.names), [n.name for n in modules.loss.inputs]]))
"""


def test_the_order_of_inputs_outputs_and_targets_differs_from_process_to_process() -> None:
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


def test_weights_are_named_by_position_in_the_evaluation() -> None:
    what = objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    one = assemble_for_training(MSE.of_node(energy) + MSE.of_node(forces), [])[0].model
    other = assemble_for_training(MSE.of_node(forces) + MSE.of_node(energy), [])[0].model
    assert [node.name for node in one.outputs] != [node.name for node in other.outputs]
    assert {*one.state_dict()} == {*other.state_dict()}
    assert all(name.split(".")[1] in ("network", "energy_readout") for name in one.state_dict())


def n_pairs(dense: bool, **arguments: Any) -> dict[str, int]:
    """Number of pairs in and across the home cell, cached ragged or dense."""
    what, base = objective(), database(6, periodic=True)
    precompute_pairs(assembled(what, base).model, base, make_dense=dense, **arguments)
    S = base.pairs[3.2].batch(np.arange(6), base.offsets[:-1]).S
    return {"home": int((~S.any(axis=1)).sum()), "across": int(S.any(axis=1).sum())}


def test_make_dense_loses_every_pair_in_the_home_cell() -> None:
    assert n_pairs(dense=True, n_images=4) == n_pairs(dense=False)
    assert n_pairs(dense=True, n_images=4)["home"] > 20


def test_too_small_an_n_images_corrupts_the_cache_silently() -> None:
    assert n_pairs(dense=False)["across"] > 20
    what, base = objective(), database(6, periodic=True)
    positions = base.columns["positions"] + 2 * base.columns["cell"][:, 0].repeat(base.columns["n_atoms"], axis=0)
    positions[base.offsets[:-1]] -= 2 * base.columns["cell"][:, 0]  # the first atom of each structure stays at home
    unwrapped = Database({**base.columns, "positions": positions}, base.splits)
    with pytest.raises(ValueError, match=r"outside n_images=1.*n_images=\d suffices"):
        precompute_pairs(assembled(what, unwrapped).model, unwrapped, make_dense=True, n_images=1)
    assert unwrapped.pairs == {}


@pytest.mark.parametrize("n_structures", [500, 8000])
def test_the_loader_scans_the_whole_cache_for_every_sample(n_structures: int) -> None:
    """What reading a batch takes does not grow with the table that it is read from."""
    i, j = np.repeat(np.arange(4), 5), np.tile(np.arange(3, 8), 4)  # eight atoms; the first four have five pairs each
    codes = np.tile((j << 15 | 17 << 10 | 16 << 5 | 16).astype(np.uint32), n_structures)
    counts = np.tile(np.bincount(i, minlength=8).astype(np.int32), n_structures)
    every = np.arange(n_structures + 1)
    half = HalfPairs(8 * every, counts, 20 * every, codes, 0 * every, np.zeros((0, 4), np.int32))
    table = PairTable.of_half(3.0, half)
    rows = np.array([n_structures - 1, 3, 77, 5])
    table.batch(rows, np.arange(4) * 8)  # compiles
    tracemalloc.start()
    found = table.batch(rows, np.arange(4) * 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.i) == 4 * 40
    assert peak < 60_000  # a single mark a pair of the larger table would be 320 000 bytes


def test_the_cache_can_be_neither_saved_nor_extended_nor_checked_against_the_cutoff(tmp_path: Path) -> None:
    base, more = database(6, splits={}), database(9, seed=4, splits={})
    assert fill_cache(base, PairStore(tmp_path, 3.2)).structures == 6
    before = shards_in(tmp_path)
    content = [shard.read_bytes() for shard in before]
    assert fill_cache(base, PairStore(tmp_path, 3.2)).structures == 0  # saved
    assert fill_cache(more, PairStore(tmp_path, 3.2)).structures == 9  # extended
    assert len(shards_in(tmp_path)) == len(before) + 1
    assert [shard.read_bytes() for shard in before] == content
    assert len(PairStore(tmp_path, 3.3).missing(keys_of(base.columns))) == 6


def test_changed_positions_or_a_changed_cutoff_go_unnoticed() -> None:
    what, base = objective(), database(5)
    precompute_pairs(assembled(what, base).model, base)
    modules = assembled(what, base)
    with pytest.raises(ValueError, match="read-only"):
        base.columns["positions"][0] += 0.1
    moved = Database({**base.columns, "positions": base.columns["positions"] * 1.01}, base.splits)
    with pytest.raises(ValueError, match=r"holds no cached pairs for pairs_3\.2_i"):
        Packer(moved, base.inputs)
    assert all(name.startswith("pairs_3.2_") for name in base.inputs if "pairs" in name)  # no other cutoff is served
    assert len(outputs(modules, base)["energy"]) == 5


def test_a_second_call_of_precompute_pairs_fails() -> None:
    what, base = objective(), database(5)
    first = assembled(what, base)
    for modules in (first, first, assembled(what, base)):
        precompute_pairs(modules.model, base)
    assert len(outputs(assembled(what, base), base)["energy"]) == 5


def test_models_of_open_boundaries_are_refused_by_precompute_pairs() -> None:
    what, base = objective(), database(5, periodic=False)
    truth = outputs(assembled(what, base), base)["energy"]
    precompute_pairs(assembled(what, base).model, base)
    assert torch.equal(outputs(assembled(what, base), base)["energy"], truth)


def test_an_unsplit_database_is_accepted_and_nothing_is_cached() -> None:
    what, base = objective(), database(5, splits={})
    precompute_pairs(assembled(what, base).model, base)
    assert base.pairs[3.2].n_pairs > 0
    assert len(outputs(assembled(what, base), base)["energy"]) == 5


def test_nan_positions_give_normal_looking_metrics() -> None:
    what, base = objective(), database(5)
    for cached in (False, True):
        if cached:
            precompute_pairs(assembled(what, base).model, base)
        modules = assembled(what, base)
        packed = batch(base)
        packed["positions"][7] = np.nan
        with pytest.raises(ValueError, match=r"System \d.*expected finite numbers"):
            modules.evaluator.evaluate([packed])
    positions = base.columns["positions"].copy()
    positions[7] = np.nan
    with pytest.raises(ValueError, match="'positions', structure 1, atom 1: got"):
        Database({**base.columns, "positions": positions})


def test_a_singular_cell_gives_normal_looking_metrics() -> None:
    what, base = objective(), database(5, periodic=True)
    cells = base.columns["cell"].copy()
    cells[3, 2] = cells[3, 1]
    flat = Database({**base.columns, "cell": cells}, base.splits)
    with pytest.raises(ValueError, match=r"System 3 is periodic but its periodic lattice vectors .* lie in one plane"):
        outputs(assembled(what, flat), flat)
    with pytest.raises(ValueError, match="Structure 3 of the database is periodic but"):
        precompute_pairs(assembled(what, flat).model, flat)


@pytest.mark.parametrize("number", [79, -1, 0])
def test_an_unknown_species_gives_wrong_energies_silently(number: int) -> None:
    base = database(5)
    modules = assembled(objective(), base)
    packed = batch(base)
    packed["species"][4] = number
    with pytest.raises(ValueError, match=rf"does not know the elements with atomic numbers \[{number}\]"):
        modules.evaluator.evaluate([packed])


def test_padding_that_does_not_trail_gives_wrong_energies_silently() -> None:
    what = objective()
    species = np.array([[1, 0, 8, 0, 1], [0, 6, 0, 8, 0]])
    positions = np.random.default_rng(0).uniform(0, 3.0, (2, 5, 3))
    padded = from_padded({"species": species, "positions": positions, "energy": np.zeros(2), "forces": positions})
    trailing = from_padded(
        {
            "species": np.array([[1, 8, 1], [6, 8, 0]]),
            "positions": np.stack([positions[0, [0, 2, 4]], positions[1, [1, 3, 0]]]),
            "energy": np.zeros(2),
            "forces": np.zeros((2, 3, 3)),
        }
    )
    modules = assembled(what, padded)
    energy = outputs(modules, padded)["energy"]
    trailing.inputs, trailing.targets = padded.inputs, padded.targets
    assert torch.equal(outputs(modules, trailing)["energy"], energy)
    assert len(set(energy.tolist())) == 2


def test_two_atoms_in_one_place_give_nan_forces() -> None:
    what, base = objective(), database(5)
    precompute_pairs(assembled(what, base).model, base)
    for objective_, said in ((objective(), "System 2: atoms 0 and 1"), (what, r"System 2: atoms \d and \d")):
        modules = assembled(objective_, base)
        packed = batch(base)
        packed["positions"][base.offsets[2] + 1] = packed["positions"][base.offsets[2]]
        with pytest.raises(ValueError, match=rf"{said} lie in one place"):
            modules.evaluator.evaluate([packed])


def test_the_evaluator_holds_every_prediction_of_a_split() -> None:
    base = database(9)
    modules = assembled(objective(), base)
    batches = [batch(base, [at]) for at in range(9)]
    predicted: list[weakref.ref[torch.Tensor]] = []
    modules.model.register_forward_hook(lambda *a: predicted.extend(weakref.ref(value) for value in a[2]))
    alive = []

    def one_by_one() -> Any:
        for packed in batches:
            alive.append(sum(ref() is not None for ref in predicted))
            yield packed

    modules.evaluator.evaluate(one_by_one())
    assert len(predicted) == 18
    assert max(alive) <= 2  # those of the last batch at most


def test_the_evaluator_fails_on_a_split_of_fewer_than_ten_systems() -> None:
    for n in (1, 3, 9):
        base = database(9)
        modules = assembled(objective(), base)
        found = modules.evaluator.evaluate([batch(base, [at]) for at in range(n)])
        assert np.isfinite(found["forces_rmse"])


def test_searching_a_graph_enumerates_every_path() -> None:
    """60 doublings are 60 nodes and 2^60 paths; walking paths, this test would not end."""
    energy = objective().outputs["energy"]
    loss: Node = MSE.of_node(energy)
    for _ in range(60):
        loss = loss + loss
    assert len(ordered_ancestors([loss])) == 60 + 3
    (_, module, evaluator), _ = assemble_for_training(loss, {"loss": loss})
    values = [torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    assert float(module(*values)[0]) == 2.0**60
    assert evaluator.losses.finish(evaluator.losses.gather(evaluator.losses.start(), values)) == [2.0**60]


def test_nodes_made_on_the_way_are_never_freed() -> None:
    energy = objective().outputs["energy"]
    made = [weakref.ref(node) for node in (energy.pred, energy.true, energy + 1.0, MSE.of_node(energy))]
    gc.collect()
    assert [ref() for ref in made] == [None] * 4


def test_two_to_the_power_of_a_node_divides() -> None:
    x = InputNode("energy")
    (found,) = GraphModule([x], [2.0**x])(torch.tensor([3.0, -1.0]))
    assert found.tolist() == [8.0, 0.5]


def test_evaluation_builds_the_graph_of_the_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(4)
    modules = assembled(objective(), base)
    asked = []
    real = torch.autograd.grad

    def noted(*arguments: Any, **options: Any) -> Any:
        asked.append(options["create_graph"])
        return real(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", noted)
    modules.evaluator.evaluate([batch(base)])
    assert asked == [False]


def test_models_are_pickled_node_graphs(tmp_path: Path) -> None:
    base = database(4)
    modules = assembled(objective(), base)
    sections: dict[str, Any] = {"network": {}, "objective": {}, "pairs": {}, "training": {}}
    save_model(tmp_path / "model", modules.model, sections, base.species)
    assert sorted(tree_bytes(tmp_path / "model")) == ["model.json", "model.safetensors"]


def test_a_decay_factor_is_squared_from_level_to_level() -> None:
    readout = EnergyReadout((2, 3, 3, 3))
    before = [linear.weight.detach().clone() for linear in readout.readouts]  # type: ignore[union-attr,operator]
    initialise_energy(readout, np.array([-1.0, -2.0]), decay_factor=0.1)
    for level, (linear, old) in enumerate(zip(readout.readouts, before, strict=True), start=1):
        torch.testing.assert_close(linear.weight, old * 0.1**level)


def test_a_pair_costs_44_bytes() -> None:
    what, base = objective(), database(6)
    precompute_pairs(assembled(what, base).model, base)
    table = base.pairs[3.2]
    assert table.nbytes == 2 * table.n_pairs + 4 * len(base.columns["species"]) > 0


def test_a_scalar_output_is_taken_from_the_first_batch_only() -> None:
    base = database(9)
    species = InputNode("species")
    largest = Node("largest", (species,), Largest(), shape=())  # one number for a whole batch
    mean = Mean.of_node(largest)
    (model, _, evaluator), info = assemble_for_training(mean, {"mean": mean})
    base.inputs, base.targets = info["inputs"], info["targets"]
    batches = [batch(base, [at]) for at in range(9)]
    values = [float(model(packed["species"])[0]) for packed in batches]
    assert len(set(values)) > 1
    assert evaluator.evaluate(batches)["mean"] == pytest.approx(np.mean(values), rel=1e-14)


class Largest(torch.nn.Module):
    """The largest atomic number of a batch."""

    def forward(self, species: torch.Tensor) -> torch.Tensor:
        return species.max().double()


def test_a_nan_metric_at_the_start_is_the_best_model_for_ever() -> None:
    base = database(8)
    modules = assembled(objective(), base)
    trainer = Trainer(modules, base, TrainingSettings(max_epochs=2, batch_size=4))
    trainer.modules = modules._replace(evaluator=NanEvaluator(modules.evaluator))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="forces_rmse is not a number after epoch 1, so no model can be the best"):
        trainer.run()


class NanEvaluator:
    """Judges as another does, and then says NaN."""

    def __init__(self, real: Any):
        self.real = real

    def evaluate(self, batches: Any) -> dict[str, float]:
        return dict.fromkeys(self.real.evaluate(batches), float("nan"))
