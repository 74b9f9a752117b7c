"""Weights that change with the epoch: a function of the epoch alone, also where training was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.experiment.settings import Schedule, TrainingSettings
from forcefoundry.experiment.trainer import Row, Trainer
from forcefoundry.graph import Node
from forcefoundry.losses import MSE, Phases
from forcefoundry.losses.phases import ByEpoch
from tests.builders import database, objective

SETTINGS = TrainingSettings(max_epochs=6, batch_size=4, averaging_decay=None, schedule=Schedule("constant"))


def trainer(weights: dict[int, float] | float, settings: TrainingSettings = SETTINGS, **rest: Any) -> Trainer:
    """A trainer of energies and forces, these weighted by phases or by a number."""
    what, base = objective(seed=2), database(10)
    weight: Node | float = Phases(weights) if isinstance(weights, dict) else weights
    loss = MSE.of_node(what.outputs["energy"]) + weight * MSE.of_node(what.outputs["forces"])
    modules, info = assemble_for_training(loss, what.validation_losses)
    base.inputs, base.targets = info["inputs"], info["targets"]
    return Trainer(modules, base, settings, **rest)


def weights_of(one: Trainer) -> dict[str, torch.Tensor]:
    """The weights by name."""
    return {name: value.clone() for name, value in one.modules.model.state_dict().items()}


def test_the_weight_follows_from_the_epoch_in_any_order() -> None:
    node = Phases({0: 0.5, 3: 0.0, 4: 20})
    module = node.module
    assert isinstance(module, ByEpoch)
    assert float(module()) == 0.5
    for epochs_done, expected in [(0, 0.5), (2, 0.5), (3, 0.0), (1000, 20.0), (1, 0.5), (4, 20.0), (3, 0.0)]:
        module.set_epoch(epochs_done)
        assert float(module()) == expected
        assert module().shape == ()
        assert module().dtype == torch.float64
    assert not module.state_dict()


@pytest.mark.parametrize(
    "phases", [{}, {1: 1.0}, {0: 1.0, 5: 2.0, 3: 1.0}, {3: 1.0, 0: 2.0}, {-1: 1.0, 0: 1.0}, {0.0: 1.0}, {False: 1.0}]
)
def test_epochs_that_do_not_begin_at_0_or_do_not_rise_are_refused(phases: dict[Any, float]) -> None:
    with pytest.raises(
        ValueError, match=r"late begin at the epochs \[.*expected whole numbers that start at 0 and rise"
    ):
        Phases(phases, "late")


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "1", None, True])
def test_weights_that_are_none_are_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match=r"late: the weight from 7 on is .*expected a finite number of 0 or more"):
        Phases({0: 1.0, 7: weight}, "late")


def test_training_in_phases_is_training_with_each_weight_in_its_epochs(tmp_path: Path) -> None:
    phased = trainer({0: 1.0, 2: 30.0, 5: 0.0})
    history = phased.run().history
    path = tmp_path / "by_hand.pt"
    rows: list[Row] = []
    for weight, until in ((1.0, 2), (30.0, 5), (0.0, 6)):
        settings = TrainingSettings(max_epochs=until, batch_size=4, averaging_decay=None, schedule=Schedule("constant"))
        by_hand = trainer(weight, settings, checkpoint=path)
        rows = by_hand.run().history
    assert history == rows
    expected = weights_of(by_hand)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(phased).items())
    assert trainer(1.0).run().history[:2] == history[:2]
    assert trainer(1.0).run().history[2:] != history[2:]


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
def test_an_interrupted_run_in_phases_goes_on_bit_by_bit(tmp_path: Path, stop: int) -> None:
    phases = {0: 0.0, 1: 1.0, 2: 30.0, 5: 2.0}
    alone = trainer(phases)
    expected = alone.run()
    seen = 0

    def interrupt(_: int) -> None:
        nonlocal seen
        seen += 1
        if seen == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(phases, checkpoint=tmp_path / "c.pt", on_batch=interrupt).run()
    second = trainer(phases, checkpoint=tmp_path / "c.pt")
    assert second.run().history == expected.history
    assert all(torch.equal(a, b) for a, b in zip(weights_of(second).values(), weights_of(alone).values(), strict=True))
