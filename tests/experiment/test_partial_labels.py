"""Labels that not every row has: judged and trained on what there is, as if the rest were not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forcefoundry.batches import Packer, in_order
from forcefoundry.databases import Database
from tests.builders import assembled, batch, database, loss_of, objective


def partly(base: Database, rng: np.random.Generator) -> Database:
    """The database without the energies of some structures, the forces of others, and single forces and components."""
    energy, forces = base.columns["energy"].copy(), base.columns["forces"].copy()
    energy[rng.permutation(len(base))[:3]] = np.nan
    for structure in rng.permutation(len(base))[:4]:
        forces[base.atoms(structure)] = np.nan
    forces[rng.integers(len(forces), size=5)] = np.nan
    forces[rng.integers(len(forces), size=5), 1] = np.nan
    return Database({**base.columns, "energy": energy, "forces": forces}, base.splits, partial=("energy", "forces"))


@pytest.mark.parametrize("size", [1, 3, 12])
def test_only_what_is_labelled_is_judged(size: int) -> None:
    what = objective()
    base = partly(database(12), np.random.default_rng(1))
    modules = assembled(what, base)
    packer = Packer(base, [*base.inputs, *base.targets])
    found = modules.evaluator.evaluate(packer.pack(rows) for rows in in_order(np.arange(12), size))
    predicted = dict(
        zip(("energy", "forces"), modules.model.eval()(*(batch(base)[n] for n in base.inputs)), strict=True)
    )
    for name, per in (("energy", base.columns["n_atoms"]), ("forces", 1.0)):
        pred, true = predicted[name].numpy() / per, base.columns[name] / per
        known = np.isfinite(true)
        assert 0 < known.sum() < known.size
        d, t = (pred - true)[known], true[known]
        quantity = "energy_per_atom" if name == "energy" else name
        assert found[f"{quantity}_mae"] == pytest.approx(np.abs(d).mean(), rel=1e-10)
        assert found[f"{quantity}_rmse"] == pytest.approx(np.sqrt((d * d).mean()), rel=1e-10)
        assert found[f"{quantity}_r2"] == pytest.approx(1 - (d * d).mean() / t.var(ddof=1), rel=1e-10)


def test_training_takes_no_notice_of_what_is_not_labelled() -> None:
    base = partly(database(12), np.random.default_rng(1))
    results = []
    for fill in (np.nan, 7.0):
        what = objective(seed=3)
        filled = {
            name: np.where(np.isnan(base.columns[name]), fill, base.columns[name]) for name in ("energy", "forces")
        }
        one = Database({**base.columns, **filled}, base.splits, partial=("energy", "forces"))
        modules = assembled(what, one)
        loss = loss_of(modules, one)
        loss.backward()  # type: ignore[no-untyped-call]
        results.append((loss.item(), [weight.grad for weight in modules.model.parameters() if weight.requires_grad]))
    (value, gradients), (other, _) = results
    assert np.isfinite(value)
    assert value != other
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients if gradient is not None)


def test_a_batch_without_any_forces_trains_on_its_energies_alone() -> None:
    base = database(6)
    nothing = np.full_like(base.columns["forces"], np.nan)
    gradients = []
    for columns, weight in (({"forces": nothing}, 1.0), ({}, 0.0)):
        one = Database({**base.columns, **columns}, base.splits, partial=tuple(columns))
        what = objective(seed=3, forces_weight=weight)
        modules = assembled(what, one)
        loss_of(modules, one).backward()  # type: ignore[no-untyped-call]
        gradients.append([weight.grad for weight in what.network.parameters()])
        judged = assembled(objective(forces_weight=1.0), one).evaluator.evaluate([batch(one)])
        assert {name for name, value in judged.items() if np.isnan(value)} == (
            {"forces_mae", "forces_rmse", "forces_r2"} if columns else set()
        )
    for got, expected in zip(*gradients, strict=True):
        if expected is None:  # without forces nothing asks for it
            assert got is None or not bool(got.any())
        else:
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-15)
