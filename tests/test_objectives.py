"""Recipes: what they optimise, judge and give, from which columns, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from forcefoundry.batches import Packer
from forcefoundry.build import seeded
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import TrainingModules, precompute_pairs
from forcefoundry.interfaces.model_folder import build_objective
from forcefoundry.objectives import METRICS, Objective, energy_and_forces, energy_forces_charges
from tests.builders import SPECIES, assembled, batch, database, loss_of, network, objective, outputs
from tests.laws.rooms import options
from tests.targets.graphs import changed, slope_by_weights


def labelled(n: int = 8, periodic: bool | None = True, seed: int = 0) -> Database:
    """Structures with made-up labels of every kind."""
    rng = np.random.default_rng(seed)
    base = database(n, seed, periodic)
    stress = rng.normal(0, 0.1, (n, 3, 3))
    labels = {
        "stress": stress + stress.transpose(0, 2, 1),
        "charges": rng.normal(size=int(base.offsets[-1])),
        "dipole": rng.normal(size=(n, 3)),
        "charge": rng.integers(-1, 2, n).astype(float),
    }
    return changed(base, **labels)


def charges_objective(**changes: Any) -> Objective:
    """The recipe with charges over a small network in float64."""
    with seeded(0):
        return energy_forces_charges(network(), **changes)


def rmse_and_mae(pred: np.ndarray, true: np.ndarray) -> float:
    """What every quantity's term is."""
    d = pred - true
    return float(np.sqrt((d**2).mean()) + np.abs(d).mean())


def parts(modules: TrainingModules, base: Database, names: dict[str, str]) -> dict[str, float]:
    """RMSE + MAE of each quantity, from the model's outputs and the columns."""
    found = {name: value.numpy() for name, value in outputs(modules, base).items()}
    sides = {name: (found[node], base.columns[node]) for name, node in names.items()}
    n_atoms = base.columns["n_atoms"]
    return {
        name: rmse_and_mae(*(side / n_atoms if name == "energy_per_atom" else side for side in both))
        for name, both in sides.items()
    }


ENERGY = {"energy_per_atom": "energy", "forces": "forces"}
CHARGES = {**ENERGY, "charges": "charges", "dipole": "dipole"}


def test_stress_is_weighed_beside_energy_and_forces() -> None:
    base = labelled()
    what = objective(energy_weight=2.0, forces_weight=0.5, stress_weight=30.0, l2=0.0)
    modules = assembled(what, base)
    found = parts(modules, base, {**ENERGY, "stress": "stress"})
    expected = 2.0 * found["energy_per_atom"] + 0.5 * found["forces"] + 30.0 * found["stress"]
    assert found["stress"] > 0.05
    assert float(loss_of(modules, base).detach()) == pytest.approx(expected, rel=1e-12)
    assert list(what.quantities) == ["energy_per_atom", "forces", "stress"]
    assert list(what.outputs) == ["energy", "forces", "stress"]
    assert what.quantities["stress"].unit == "eV/Å³"
    assert {"stress_mae", "stress_rmse", "stress_r2"} <= set(what.validation_losses)
    assert "strain" in base.inputs
    assert "stress" in base.targets


def test_without_stress_the_graph_is_not_strained_and_needs_no_such_label() -> None:
    base = database()
    what = objective()
    assembled(what, base)
    assert "strain" not in base.inputs
    assert list(what.outputs) == ["energy", "forces"]
    assert {name.rpartition("_")[0] for name in what.validation_losses} == {"energy_per_atom", "forces"}


def test_charges_and_dipoles_are_weighed_beside_energy_and_forces() -> None:
    base = labelled(periodic=False)
    what = charges_objective(energy_weight=2.0, forces_weight=0.5, charges_weight=3.0, dipole_weight=4.0, l2=0.0)
    modules = assembled(what, base)
    found = parts(modules, base, CHARGES)
    weights = {"energy_per_atom": 2.0, "forces": 0.5, "charges": 3.0, "dipole": 4.0}
    expected = sum(weight * found[name] for name, weight in weights.items())
    assert float(loss_of(modules, base).detach()) == pytest.approx(expected, rel=1e-12)
    assert list(what.quantities) == list(CHARGES)
    assert list(what.outputs) == ["energy", "forces", "charges", "dipole"]
    assert "charge" not in base.inputs


def test_what_weighs_nothing_needs_no_label() -> None:
    base = labelled(periodic=False)
    for absent, present in (("charges", "dipole"), ("dipole", "charges")):
        what = charges_objective(**{f"{absent}_weight": 0.0})
        assembled(what, base)
        assert present in base.targets
        assert absent not in base.targets
        assert absent in what.outputs  # a potential gives it all the same


def test_the_total_charge_is_a_column_where_it_is_asked_for() -> None:
    base = labelled(periodic=False)
    modules = assembled(charges_objective(total_charge=True), base)
    assert "charge" in base.inputs
    charges = outputs(modules, base)["charges"].numpy()
    sums = np.add.reduceat(charges, base.offsets[:-1])
    np.testing.assert_allclose(sums, base.columns["charge"], rtol=0, atol=1e-12)
    free = outputs(assembled(charges_objective(conserve_charge=False), base), base)["charges"].numpy()
    assert np.abs(np.add.reduceat(free, base.offsets[:-1])).min() > 1e-3


def test_hierarchicality_is_the_mean_over_systems_of_what_each_atom_has() -> None:
    base = database()
    without, with_it = (assembled(objective(hierarchicality=weight, energy_weight=0.3), base) for weight in (0.0, 2.5))
    what = objective(hierarchicality=2.5)
    names = [node.name for node in assembled(what, base).model.outputs]
    assert names == ["energy", "forces", "hierarchicality"]
    by_system = outputs(with_it, base)["hierarchicality"].numpy()
    expected = 2.5 * float((by_system / base.columns["n_atoms"]).mean())
    assert expected > 0.1
    difference = float(loss_of(with_it, base).detach()) - float(loss_of(without, base).detach())
    assert difference == pytest.approx(expected, rel=1e-10)


def test_an_energy_that_starts_at_the_first_interaction_has_no_e0() -> None:
    base = database()
    what = objective(first_is_interacting=True, hierarchicality=0.1)
    assert what.readout.e0 is None
    modules = assembled(what, base)
    assert not any("e0" in name for name in modules.model.state_dict())
    assert np.isfinite(float(loss_of(modules, base).detach()))


def test_structures_without_a_stress_add_nothing_and_do_not_touch_the_others() -> None:
    """Open structures have none: their labels are NaN, as are their predictions."""
    base = labelled(periodic=None)
    periodic = base.columns["pbc"].all(axis=1)
    assert 0 < periodic.sum() < len(base)
    stress = np.where(periodic[:, None, None], base.columns["stress"], np.nan)
    columns = {**base.columns, "stress": stress}
    mixed = Database(columns, {"train": np.arange(len(base))}, partial=("stress",))
    what = objective(energy_weight=0.0, forces_weight=0.0, stress_weight=1.0, l2=0.0)
    modules = assembled(what, mixed)
    assert bool(outputs(modules, mixed)["stress"][torch.from_numpy(~periodic)].isnan().all())
    gradients = []
    for rows in (range(len(base)), np.flatnonzero(periodic)):
        loss = loss_of(modules, mixed, list(rows))
        weights = [weight for weight in modules.model.parameters() if weight.requires_grad]
        gradients.append(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))
    assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 1e-6
    for together, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-13)
    metrics = modules.evaluator.evaluate([batch(mixed)])
    expected = modules.evaluator.evaluate([batch(mixed, np.flatnonzero(periodic).tolist())])
    assert metrics["stress_rmse"] == pytest.approx(expected["stress_rmse"], rel=1e-12)


@pytest.mark.parametrize("which", ["stress", "charges"])
def test_the_gradient_by_weights_is_that_of_finite_differences(which: str) -> None:
    base = labelled(4, periodic=which == "stress")
    penalties = {"hierarchicality": 0.2, "l2": 1e-3}
    what = objective(stress_weight=5.0, **penalties) if which == "stress" else charges_objective(**penalties)
    modules = assembled(what, base)
    weights = [weight for weight in modules.model.parameters() if weight.requires_grad]
    analytic, numeric = slope_by_weights(lambda: loss_of(modules, base), weights, step=1e-5)
    assert abs(analytic) > 1e-3
    assert abs(analytic - numeric) <= 1e-7 * abs(analytic)


@pytest.mark.parametrize("path", options("objective"), ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_option_of_conf_builds_learns_and_keeps_its_weights_in_one_precision(path: Path, dtype: str) -> None:
    params = {
        "network": {"_target_": "forcefoundry.networks.hipnn.HIPNN", "n_features": 5, "cutoff": 3.2, "soft_max": 2.8},
        "objective": yaml.safe_load(path.read_text(encoding="utf-8")),
        "pairs": {"finder": "reference"},
        "training": {"seed": 0, "dtype": dtype},
    }
    what = build_objective(params, SPECIES)
    base = labelled(periodic="stress" in path.stem)
    modules = assembled(what, base)
    kinds = {name: str(weight.dtype) for name, weight in modules.model.state_dict().items()}
    assert kinds.pop("moduledict.energy_readout.e0") == "torch.float64"
    assert set(kinds.values()) == {f"torch.{dtype}"}
    loss = loss_of(modules, base)
    assert loss.dtype == torch.float64
    loss.backward()
    trained = [weight for weight in modules.model.parameters() if weight.requires_grad]
    # All but the biases of the last level, of which conserved charges and forces alone say nothing.
    assert sum(weight.grad is not None and bool(weight.grad.abs().max() > 0) for weight in trained) >= len(trained) - 3
    assert all(bool(torch.isfinite(weight.grad).all()) for weight in trained if weight.grad is not None)
    found = modules.evaluator.evaluate([batch(base)])
    assert list(found) == [f"{quantity}_{metric}" for quantity in what.quantities for metric in METRICS]
    assert all(np.isfinite(value) for value in found.values())


def test_cached_pairs_change_no_bit_of_the_stress() -> None:
    base = labelled()
    what = objective(stress_weight=1.0)
    modules = assembled(what, base)
    expected = outputs(modules, base)
    precompute_pairs(modules.model, base)
    again = outputs(assembled(what, base), base)
    assert any(name.startswith("pairs_") for name in base.inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(again[name].numpy(), value.numpy())


def test_a_column_that_is_absent_is_named() -> None:
    base = database()
    for what, column in (
        (objective(stress_weight=1.0), "stress"),
        (charges_objective(), "charges"),
        (charges_objective(charges_weight=0.0), "dipole"),
        (charges_objective(charges_weight=0.0, dipole_weight=1.0, total_charge=True), "charge"),
    ):
        assembled(what, base)
        with pytest.raises(ValueError, match=f"has no column '{column}'"):
            Packer(base, [*base.inputs, *base.targets])


@pytest.mark.parametrize(
    ("recipe", "given", "told"),
    [
        (energy_and_forces, {"stress_weight": -1.0}, r"objective\.stress_weight is -1\.0, expected a number of 0"),
        (energy_and_forces, {"energy_weight": float("inf")}, r"objective\.energy_weight is inf"),
        (energy_and_forces, {"hierarchicality": float("nan")}, r"objective\.hierarchicality is nan"),
        (energy_and_forces, {"energy_weight": 0, "forces_weight": 0}, "are all 0: nothing is trained on"),
        (energy_forces_charges, {"dipole_weight": -2}, r"objective\.dipole_weight is -2"),
        (energy_forces_charges, {"energy_weight": -2}, r"objective\.energy_weight is -2"),
        (energy_forces_charges, {"charges_weight": 0, "dipole_weight": 0}, "use objective=energy_forces"),
        (energy_forces_charges, {"total_charge": True, "conserve_charge": False}, "conserve=False"),
    ],
)
def test_what_means_nothing_is_refused(recipe: Any, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recipe(network(), **given)
