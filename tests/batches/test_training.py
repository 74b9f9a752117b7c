"""Training on batches of any making: workers and interruptions change no bit, budgets are kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forcefoundry.batches import Packer, sampling
from forcefoundry.experiment.settings import Schedule, TrainingSettings
from forcefoundry.experiment.trainer import Trainer
from forcefoundry.pairs.contract import Ints
from tests.builders import assembled, database, objective
from tests.experiment.test_trainer import equal, trainer, weights

SETTINGS = TrainingSettings(max_epochs=3, batch_size=5, evaluation_batch_size=2, max_pairs=50)


def test_any_number_of_workers_gives_the_same_weights() -> None:
    runs = {workers: trainer(SETTINGS, database(16), workers=workers) for workers in (0, 1, 3)}
    results = {workers: one.run() for workers, one in runs.items()}
    for workers in (1, 3):
        assert results[workers].history == results[0].history
        assert equal(weights(runs[workers]), weights(runs[0]))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize(("most_bytes", "most_batches"), [(1, 1), (2**23, 2), (2**23, 3)])
def test_what_is_packed_together_changes_no_bit_of_the_weights(
    most_bytes: int, most_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = trainer(SETTINGS, database(16))
    expected = usual.run()
    monkeypatch.setattr(sampling, "TOGETHER", most_bytes)
    monkeypatch.setattr(sampling, "MOST_TOGETHER", most_batches)
    other = trainer(SETTINGS, database(16))
    assert other.run().history == expected.history
    assert equal(weights(other), weights(usual))


def cut(one: Trainer, epoch: int) -> list[list[int]]:
    """The batches of an epoch as plain numbers."""
    return [batch.tolist() for batch in one._sampler.epoch(epoch)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_with_a_budget_goes_on_bit_by_bit(tmp_path: Path, workers: int) -> None:
    alone = trainer(SETTINGS, database(16))
    n_batches = [len(cut(alone, epoch)) for epoch in range(1, 4)]
    assert len(set(n_batches)) > 1  # so that a wrong epoch, or one cut elsewhere, would be seen
    expected = alone.run()
    for stop in range(2, sum(n_batches), 5):
        left = stop

        def interrupt(_: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

        first = trainer(SETTINGS, database(16), checkpoint=tmp_path / f"{stop}.pt", on_batch=interrupt, workers=workers)
        with pytest.raises(KeyboardInterrupt):
            first.run()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
        second = trainer(SETTINGS, database(16), checkpoint=tmp_path / f"{stop}.pt", workers=workers)
        assert second.run().history == expected.history
        assert equal(weights(second), weights(alone))


def test_no_batch_exceeds_its_budget_and_the_rate_follows_the_batches() -> None:
    base = database(16)
    settings = TrainingSettings(
        max_epochs=2, batch_size=6, max_atoms=14, max_pairs=70, learning_rate=1e-2, schedule=Schedule(floor=0.0)
    )
    one = trainer(settings, base)
    sizes = base.columns["n_atoms"], base.pairs[next(iter(base.pairs))].pairs_of_structure
    batches = [one._sampler.epoch(epoch) for epoch in (1, 2)]
    for batch in (batch for epoch in batches for batch in epoch):
        assert len(batch) == 1 or (sizes[0][batch].sum() <= 14 and sizes[1][batch].sum() <= 70)
    assert len(batches[0]) > 3
    seen: list[tuple[int, float]] = []
    one._on_batch = lambda n: seen.append((n, one._optimizer.param_groups[0]["lr"]))
    one.run()
    assert [n for n, _ in seen] == [len(batch) for epoch in batches for batch in epoch]
    done = [e + number / len(epoch) for e, epoch in enumerate(batches) for number in range(len(epoch))]
    assert [rate for _, rate in seen] == pytest.approx((5e-3 * (1 + np.cos(np.pi * np.array(done) / 2))).tolist())


def test_validation_is_exact_however_it_is_cut() -> None:
    found = []
    for limits in ({}, {"max_atoms": 5}, {"max_pairs": 40}, {"max_pairs": 1}):
        one = trainer(TrainingSettings(max_epochs=1, **limits), database(30))
        found.append((len(one._valid), one._validate()))
    assert len({n for n, _ in found}) > 2
    for _, values in found[1:]:
        assert values == pytest.approx(found[0][1], rel=1e-12)


def test_an_error_of_a_worker_ends_training_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer(TrainingSettings(max_epochs=1, batch_size=2), workers=2)
    pack_together, third = Packer.pack_together, cut(one, 1)[2]

    def broken(self: Packer, batches: Sequence[Ints]) -> Any:
        if any(structures.tolist() == third for structures in batches):
            raise ValueError("the shard is damaged")
        return pack_together(self, batches)

    monkeypatch.setattr(Packer, "pack_together", broken)
    with pytest.raises(ValueError, match=r"^the shard is damaged$"):
        one.run()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_max_pairs_on_the_fly_is_refused_before_training() -> None:
    base = database(10)
    modules = assembled(objective(), base)
    with pytest.raises(ValueError, match=r"max_pairs is 50, but pairs are found on the fly.*max_atoms"):
        Trainer(modules, base, SETTINGS)


@pytest.mark.parametrize("name", ["max_atoms", "max_pairs"])
def test_budgets_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"training\.{name} is 0, expected at least 1, or null"):
        TrainingSettings.of_params({name: 0})
    assert getattr(TrainingSettings.of_params({name: None}), name) is None
