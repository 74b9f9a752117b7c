"""Training: exactly resumable, stopped and steered as told, never on nonsense."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forcefoundry.build import cast
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import precompute_pairs
from forcefoundry.experiment.averaging import AveragedWeights
from forcefoundry.experiment.checkpoint import load_checkpoint, save_checkpoint
from forcefoundry.experiment.flat import FlatWeights
from forcefoundry.experiment.settings import Schedule, TrainingSettings
from forcefoundry.experiment.trainer import Row, Trainer, TrainingResult
from forcefoundry.interfaces.model_folder import load_weights, save_weights
from tests.builders import assembled, batch, database, loss_of, objective

STEADY: dict[str, Any] = {
    "max_epochs": 6,
    "batch_size": 4,
    "schedule": Schedule("constant"),
    "averaging_decay": None,
    "gradient_clip": None,
}


def trainer(
    settings: TrainingSettings, base: Database | None = None, dtype: torch.dtype = torch.float64, **rest: Any
) -> Trainer:
    """A fresh trainer of a small network, as a new process would make it."""
    base = base or database(10)
    what = objective(seed=5)
    cast(what.network, dtype)
    cast(what.readout, dtype)
    precompute_pairs(assembled(what, base).model, base)
    return Trainer(assembled(what, base), base, settings, **rest)


def weights(one: Trainer) -> dict[str, torch.Tensor]:
    """The model's weights by name, copied."""
    return {name: value.clone() for name, value in one.modules.model.state_dict().items()}


def equal(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def script(one: Trainer, values: Iterable[float], name: str = "forces_rmse") -> None:
    """Let the validation say these values, epoch by epoch."""
    told = iter(values)
    one.modules.evaluator.evaluate = lambda batches, plot_as=None: {name: next(told)}  # type: ignore[method-assign]


SETTINGS = {
    "cosine and averages": TrainingSettings(max_epochs=5, batch_size=3),
    "plateau and clip": TrainingSettings(
        max_epochs=5,
        batch_size=4,
        schedule=Schedule("plateau", patience=0),
        averaging_decay=None,
        learning_rate=5e-2,
        gradient_clip=0.5,
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_interrupted_run_goes_on_bit_by_bit(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    settings = SETTINGS[name]
    alone = trainer(settings, dtype=dtype)
    expected = alone.run()
    n_batches = math.ceil(8 / settings.batch_size)  # 8 of the 10 structures are for training
    for stop in range(1, settings.max_epochs * n_batches, 2):
        path = tmp_path / f"{stop}.pt"
        seen = 0

        def interrupt(_: int, stop: int = stop) -> None:
            nonlocal seen
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt

        first = trainer(settings, dtype=dtype, checkpoint=path, on_batch=interrupt)
        with pytest.raises(KeyboardInterrupt):
            first.run()
        rows: list[Row] = []
        second = trainer(settings, dtype=dtype, checkpoint=path, on_epoch=rows.append)
        result = second.run()
        assert result.history == expected.history == rows
        assert (result.best_epoch, result.stopped) == (expected.best_epoch, expected.stopped)
        assert equal(weights(second), weights(alone))


def test_interrupted_twice_and_at_every_epoch(tmp_path: Path) -> None:
    settings = TrainingSettings(max_epochs=5, batch_size=3)
    alone = trainer(settings)
    expected = alone.run()

    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    for epoch in range(1, 6):
        with pytest.raises(KeyboardInterrupt):  # once an epoch, right after its checkpoint was written
            trainer(settings, checkpoint=tmp_path / "c.pt", on_epoch=_after(epoch, interrupt)).run()
    last = trainer(settings, checkpoint=tmp_path / "c.pt")
    assert last.run().history == expected.history
    assert equal(weights(last), weights(alone))


def _after(epoch: int, then: Callable[[Row], None]) -> Callable[[Row], None]:
    return lambda row: then(row) if row["epoch"] == epoch else None


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    settings = TrainingSettings(max_epochs=3)
    first = trainer(settings, checkpoint=tmp_path / "c.pt")
    expected = first.run()

    def refuse(_: int) -> None:
        raise AssertionError("a batch was trained on")

    second = trainer(settings, checkpoint=tmp_path / "c.pt", on_batch=refuse)
    assert second.run().history == expected.history
    assert equal(weights(second), weights(first))


def test_a_checkpoint_holds_tensors_and_plain_values_only(tmp_path: Path) -> None:
    trainer(TrainingSettings(max_epochs=2), checkpoint=tmp_path / "c.pt").run()
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    assert [row["epoch"] for row in state["history"]] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


class Evil:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


def test_a_checkpoint_never_runs_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weights": Evil()}, tmp_path / "c.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_checkpoint(tmp_path / "c.pt")
    assert capsys.readouterr().out == ""


def test_an_interruption_while_saving_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    path = tmp_path / "c.pt"
    save_checkpoint(path, {"epoch": 1})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.pt"]
    assert load_checkpoint(tmp_path / "absent.pt") is None


def test_training_lowers_the_loss_and_keeps_the_best_weights() -> None:
    one = trainer(TrainingSettings(max_epochs=25, batch_size=4, learning_rate=1e-2))
    result = one.run()
    assert len(result.history) == 25
    assert result.history[-1]["train_loss"] < 0.9 * result.history[0]["train_loss"]
    values = [row["valid_forces_rmse"] for row in result.history]
    assert result.best_epoch == 1 + int(np.argmin(values))
    base = database(10)
    what_is = one.modules.evaluator.evaluate([batch_of(one, base, "valid")])["forces_rmse"]
    assert what_is == pytest.approx(min(values), rel=1e-12)


def batch_of(one: Trainer, base: Database, split: str) -> dict[str, torch.Tensor]:
    """A split as one batch, with the columns that the trainer's model reads."""
    precomputed = trainer(TrainingSettings(), base)
    assert precomputed is not one
    return batch(base, base.split(split).tolist())


def test_the_best_weights_are_those_of_the_best_epoch() -> None:
    short = trainer(TrainingSettings(**STEADY | {"max_epochs": 3}))
    script(short, [3.0, 2.0, 1.0])
    short.run()
    long = trainer(TrainingSettings(**STEADY | {"max_epochs": 6}))
    script(long, [3.0, 2.0, 1.0, 1.5, 1.0, 4.0])
    result = long.run()
    assert result.best_epoch == 3
    assert equal(weights(long), weights(short))


def test_early_stopping_waits_for_its_patience() -> None:
    for patience, epochs in ((0, 3), (1, 4), (2, 8), (None, 10)):
        one = trainer(TrainingSettings(**STEADY | {"max_epochs": 10, "patience": patience}))
        script(one, [5.0, 4.0, 4.5, 4.0, 3.9, 4.0, 4.0, 4.0, 4.0, 4.0])
        result = one.run()
        assert len(result.history) == epochs
        assert result.stopped == ("max_epochs" if patience is None else "early_stopping")
        assert result.best_epoch == (5 if epochs > 4 else 2)


def test_early_stopping_survives_a_resume(tmp_path: Path) -> None:
    values = [5.0, 4.0, 4.5, 4.6, 4.7, 1.0]
    settings = TrainingSettings(**STEADY | {"max_epochs": 6, "patience": 2})

    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    first = trainer(settings, checkpoint=tmp_path / "c.pt", on_epoch=_after(4, interrupt))
    script(first, values)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = trainer(settings, checkpoint=tmp_path / "c.pt")
    script(second, values[4:])
    result = second.run()
    assert (len(result.history), result.stopped, result.best_epoch) == (5, "early_stopping", 2)


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_the_plateau_schedule_is_torch_s(patience: int) -> None:
    values = [5.0, 4.0, 4.1, 4.2, 4.0, 4.3, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 2.0]
    schedule = Schedule("plateau", factor=0.5, patience=patience, floor=2e-4)
    one = trainer(TrainingSettings(**STEADY | {"max_epochs": 14, "learning_rate": 1e-3, "schedule": schedule}))
    script(one, values)
    result = one.run()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=0.0, min_lr=2e-4, eps=0.0
    )
    rates = []
    for value in values:
        rates.append(optimizer.param_groups[0]["lr"])
        plateau.step(value)
    assert [row["learning_rate"] for row in result.history] == pytest.approx(rates, rel=1e-12)
    assert min(rates) < 1e-3


def test_the_cosine_schedule_ends_at_its_floor() -> None:
    one = trainer(TrainingSettings(max_epochs=4, batch_size=2, learning_rate=1e-2, schedule=Schedule(floor=1e-5)))
    rates: list[float] = []
    one._on_batch = lambda n: rates.append(one._optimizer.param_groups[0]["lr"])
    one.run()
    steps = np.arange(16) / 16
    expected = 1e-5 + (1e-2 - 1e-5) * 0.5 * (1 + np.cos(np.pi * steps))
    assert rates == pytest.approx(expected.tolist(), rel=1e-12)


def plain_adam(base: Database, clip: float | None, n_epochs: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The same training written down with torch's own parts, weight by weight."""
    from forcefoundry.batches import Sampler

    what = objective(seed=5)
    cast(what.network, dtype)
    cast(what.readout, dtype)
    modules = assembled(what, base)
    parameters = [weight for weight in modules.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    for epoch in range(1, n_epochs + 1):
        for rows in Sampler(base.split("train"), 4, 0).epoch(epoch):
            optimizer.zero_grad()
            loss_of(modules, base, rows.tolist()).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
    return dict(modules.model.state_dict())


@pytest.mark.parametrize("clip", [None, 0.05])
def test_weights_laid_out_as_one_vector_train_like_weights_apart(clip: float | None) -> None:
    one = trainer(TrainingSettings(**STEADY | {"max_epochs": 3, "gradient_clip": clip}))
    script(one, [3.0, 2.0, 1.0])
    one.run()
    expected = plain_adam(database(10), clip, 3, torch.float64)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)


def test_clipping_bounds_the_gradient() -> None:
    one = trainer(TrainingSettings(**STEADY | {"max_epochs": 1, "gradient_clip": 1e-3}))
    norms: list[float] = []
    one._on_batch = lambda n: norms.append(float(torch.stack([w.grad.norm() for w in one._weights]).norm()))
    one.run()
    assert norms == pytest.approx([1e-3] * len(norms), rel=1e-3)


def test_single_energies_train_in_float64_beside_a_float32_network() -> None:
    base = database(10)
    what = objective(seed=5, train_e0=True)
    cast(what.network, torch.float32)
    cast(what.readout, torch.float32)
    one = Trainer(assembled(what, base), base, TrainingSettings(max_epochs=2))
    before = what.readout.e0.detach().clone()
    one.run()
    assert what.readout.e0.dtype == torch.float64
    assert what.network.blocks[0].interaction.V.dtype == torch.float32
    assert not torch.equal(before, what.readout.e0)


def test_frozen_weights_stay() -> None:
    base = database(10)
    one = trainer(TrainingSettings(max_epochs=2), base)
    before = weights(one)
    one.run()
    after = weights(one)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert set(before) - changed == {"moduledict.energy_readout.e0"}


def test_averaged_weights() -> None:
    weight = torch.zeros(1, dtype=torch.float64)
    average = AveragedWeights([weight], 0.9)
    seen: list[float] = []
    last = 0.0
    for step in range(1, 31):
        weight.fill_(float(step))
        average.update()
        seen.append(float(step))
        with average.in_place():
            inside = float(weight)
        assert float(weight) == step
        if step <= 10:
            assert inside == pytest.approx(np.mean(seen), rel=1e-12)  # at first the plain mean
        else:
            assert inside == pytest.approx(0.9 * last + 0.1 * step, rel=1e-12)
        last = inside
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError
    assert float(weight) == 30.0


def test_flat_weights_share_their_memory() -> None:
    layer = torch.nn.Linear(3, 2).double()
    before = [weight.detach().clone() for weight in layer.parameters()]
    flat = FlatWeights(list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    flat.zero_grad()
    layer(torch.ones(1, 3).double()).sum().backward()
    (vector,) = flat.vectors
    assert vector.grad is not None
    assert vector.grad.sum() == 8.0
    assert [weight.grad.unique().tolist() for weight in layer.parameters() if weight.grad is not None] == [[1.0]] * 2
    assert all(weight.data_ptr() % 64 == 0 for weight in layer.parameters())
    with torch.no_grad():
        vector.fill_(2.0)
    assert layer.weight.tolist() == [[2.0] * 3] * 2


def test_a_loss_that_is_not_a_number_is_told() -> None:
    one = trainer(TrainingSettings(batch_size=4), database(10))
    with torch.no_grad():
        next(one.modules.model.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match=r"training loss became nan in epoch 1, batch \d of 2.*learning_rate"):
        one.run()


def test_a_metric_that_is_not_a_number_never_becomes_the_best(tmp_path: Path) -> None:
    one = trainer(TrainingSettings(**STEADY), checkpoint=tmp_path / "c.pt")
    script(one, [math.nan])
    with pytest.raises(ValueError, match="forces_rmse is not a number after epoch 1"):
        one.run()
    assert not (tmp_path / "c.pt").exists()


@pytest.mark.parametrize("name", ["forces_rmsd", "nothing", ""])
def test_an_unknown_best_by_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"best_by is '{name}', expected one of .*forces_rmse"):
        trainer(TrainingSettings(best_by=name))


def test_a_metric_that_is_better_when_higher_cannot_mark_the_best() -> None:
    with pytest.raises(ValueError, match="'forces_r2', which is better the higher it is"):
        trainer(TrainingSettings(best_by="forces_r2"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_missing_splits_are_told(split: str) -> None:
    rows = {"train": range(8), "valid": range(8, 10)}
    with pytest.raises(ValueError, match=f"'{split}' is empty"):
        trainer(TrainingSettings(), database(10, splits={**rows, split: []}))
    del rows[split]
    with pytest.raises(ValueError, match=f"no split '{split}'"):
        trainer(TrainingSettings(), database(10, splits=dict(rows)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"gradient_clip": 0.0}, "gradient_clip is 0.0"),
        ({"gradient_clip": -1.0}, "gradient_clip is -1.0"),
        ({"early_stopping": {"patience": -1}}, "early_stopping.patience is -1"),
        ({"early_stopping": {"patiance": 3}}, "early_stopping.patiance is not a setting. Did you mean patience"),
        ({"schedule": {"kind": "cosin"}}, "schedule.kind is 'cosin'"),
        ({"schedule": {"flor": 1.0}}, "schedule.flor is not a setting. Did you mean floor"),
        ({"schedule": {"kind": "plateau", "factor": 1.5}}, "0 < factor < 1"),
        ({"averaging": {"decay": 1.0}}, "averaging.decay is 1.0"),
        ({"max_epoch": 3}, "training.max_epoch is not a setting. Did you mean max_epochs"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TrainingSettings.of_params(changes)


def test_settings_from_parameters() -> None:
    found = TrainingSettings.of_params(
        {
            "seed": 3,
            "dtype": "float32",
            "schedule": {"kind": "plateau", "patience": 4},
            "early_stopping": {"patience": 7},
            "averaging": {"decay": None},
        }
    )
    assert found == TrainingSettings(seed=3, schedule=Schedule("plateau", patience=4), patience=7, averaging_decay=None)


def test_seconds_add_up_over_sittings(tmp_path: Path) -> None:
    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    settings = TrainingSettings(max_epochs=4)
    with pytest.raises(KeyboardInterrupt):
        trainer(settings, checkpoint=tmp_path / "c.pt", on_epoch=_after(3, interrupt)).run()
    state = load_checkpoint(tmp_path / "c.pt")
    assert state is not None
    result: TrainingResult = trainer(settings, checkpoint=tmp_path / "c.pt").run()
    assert result.seconds > state["seconds"] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_trained_model_and_the_same_one_loaded_agree_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    base = database(10)
    trained, fresh = (trainer(TrainingSettings(max_epochs=2, batch_size=4), base, dtype) for _ in range(2))
    fresh_model = fresh.modules.model
    for weight in fresh_model.parameters():
        weight.data = weight.data.clone()  # storage of its own, as a new process would have it
    trained.run()
    save_weights(tmp_path / "w.safetensors", trained.modules.model)
    load_weights(tmp_path / "w.safetensors", fresh_model)
    found = []
    for model in (trained.modules.model, fresh_model):
        names = [str(node.db_name) for node in model.inputs]
        found.append(model.eval()(*batch(base, names=names).values()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_an_input_that_is_absent_somewhere_is_told() -> None:
    base = database(10)
    charge = np.zeros(10)
    charge[4] = np.nan
    with_charge = Database({**base.columns, "charge": charge}, base.splits, partial=("charge",))
    what = objective()
    modules = assembled(what, with_charge)
    with_charge.inputs = [*with_charge.inputs, "charge"]
    with pytest.raises(ValueError, match="reads the column 'charge', which is absent in row 4"):
        Trainer(modules, with_charge, TrainingSettings())
