"""The law of plots: whatever conf/plots lists draws three atoms without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from forcefoundry.build import build
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.plots.base import Plot
from forcefoundry.plots.maker import PlotMaker
from tests.builders import batch, database, objective, tree_bytes
from tests.laws.rooms import options

OPTIONS = [pytest.param(path, id=path.stem) for path in options("plots")]


def listed(path: Path) -> list[dict[str, Any]]:
    """The plots of an option; `_target_` and arguments each."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    plots: list[dict[str, Any]] = found["plots"] if isinstance(found, dict) else found
    return plots


@pytest.mark.parametrize("path", OPTIONS)
def test_three_atoms_without_a_display(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    what = objective()
    base = next(one for one in (database(1, seed=seed) for seed in range(99)) if one.offsets[-1] == 3)
    made: list[Plot] = [build(config, quantities=what.quantities) for config in listed(path)]
    assert made
    maker = PlotMaker(made)
    modules, info = assemble_for_training(what.train_loss, what.validation_losses, plot_maker=maker)
    base.inputs, base.targets = info["inputs"], info["targets"]
    modules.evaluator.evaluate([batch(base)], plot_as="test")
    names = maker.save(tmp_path / "one")
    maker.save(tmp_path / "two")
    written = tree_bytes(tmp_path / "one")
    assert sorted(written) == sorted(names)
    assert all(content.startswith(b"\x89PNG") for content in written.values())
    assert tree_bytes(tmp_path / "two") == written


@pytest.mark.parametrize("path", OPTIONS)
def test_memory_is_bounded_whatever_is_gathered(path: Path) -> None:
    what = objective()
    values = torch.zeros(30_000, 3)
    for config in listed(path):
        plot = build(config, quantities=what.quantities)
        for _ in range(6):
            plot.gather("test", values, values)
        assert sum(len(sample.rows) for sample in plot._samples.values()) <= 20_000
