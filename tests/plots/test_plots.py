"""Plots: drawn without a display, from a bounded sample, equal data to equal bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.plots.base import Plot
from forcefoundry.plots.errors import ErrorHistogram
from forcefoundry.plots.maker import PlotMaker
from forcefoundry.plots.parity import Parity
from forcefoundry.plots.sample import EvenSample
from tests.builders import batch, database, objective
from tests.outside import ROOT

KINDS = [Parity, ErrorHistogram]
PNG = b"\x89PNG\r\n\x1a\n"


def maker(*quantities: str) -> PlotMaker:
    """Every kind of plot of every quantity."""
    known = objective().quantities
    return PlotMaker([kind(name, known) for kind in KINDS for name in quantities or ("energy_per_atom", "forces")])


def test_three_atoms_drawn_through_the_evaluator(tmp_path: Path) -> None:
    base, what = database(1), objective()
    plots = PlotMaker([kind(name, what.quantities) for kind in KINDS for name in what.quantities])
    modules, info = assemble_for_training(what.train_loss, what.validation_losses, plot_maker=plots)
    base.inputs, base.targets = info["inputs"], info["targets"]
    modules.evaluator.evaluate([batch(base)])
    assert all(not plot._samples for plot in plots.plots)  # only fed when asked
    modules.evaluator.evaluate([batch(base)], plot_as="test")
    names = plots.save(tmp_path / "plots")
    assert names == [
        f"{kind}_{quantity}.png" for kind in ("parity", "errors") for quantity in ("energy_per_atom", "forces")
    ]
    for name in names:
        assert (tmp_path / "plots" / name).read_bytes().startswith(PNG)
    model = modules.model.eval()
    pred = model(*(batch(base)[name] for name in base.inputs))[1].numpy().ravel()
    rows = plots.plots[1]._samples["test"].rows
    np.testing.assert_array_equal(rows, np.stack([base.columns["forces"].ravel(), pred], axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_label_is_not_drawn(kind: type[Plot]) -> None:
    plot, complete = (kind("forces", objective().quantities) for _ in range(2))
    true = torch.arange(12.0).reshape(4, 3)
    true[1], true[2, 0] = torch.nan, torch.nan
    pred = true.nan_to_num(1e3) + 0.5
    plot.gather("test", pred, true)
    plot.gather("valid", pred[1], true[1])
    complete.gather("test", pred[~true.isnan()], true[~true.isnan()])
    np.testing.assert_array_equal(plot._samples["test"].rows, complete._samples["test"].rows)
    assert len(plot._samples["test"].rows) == 8
    assert len(plot._samples["valid"].rows) == 0
    plot.draw()


def test_no_display_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from tests.plots.test_plots import maker\n"
        "plots = maker()\n"
        "plots.gather('test', [torch.arange(3.0), torch.arange(3.0) + 0.1] * 4)\n"
        "plots.save(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "plots")],
        cwd=ROOT,
        env=clean,
        check=True,
        timeout=120,
    )
    assert len(list((tmp_path / "plots").iterdir())) == 4


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(0, 1, (50, 3)))
    for name in ("one", "two"):
        plots = maker("forces")
        for split, parts in (("valid", [7, 43]), ("test", [50])):
            for part in torch.split(values, parts):
                plots.gather(split, [part, part + 0.01] * 2)
        plots.save(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    plots.gather("test", [values, values + 1.0] * 2)
    plots.save(tmp_path / "three")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() != (tmp_path / "three" / path.name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [[], [0.0], [1.0, 1.0, 1.0], [-1e8, 1e8], [1e-12, 2e-12]])
def test_odd_data_are_drawn(kind: type[Plot], values: list[float], tmp_path: Path) -> None:
    plot = kind("forces", objective().quantities)
    plot.gather("test", torch.tensor(values), torch.tensor(values))
    plot.gather("valid", torch.tensor([0.5]), torch.tensor([0.5 + 1e-9]))
    plot.draw().savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_gathered_is_drawn_empty(kind: type[Plot], tmp_path: Path) -> None:
    kind("forces", objective().quantities).draw().savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_axes_say_what_and_in_which_unit() -> None:
    plots = maker("energy_per_atom")
    plots.gather("test", [torch.arange(5.0), torch.arange(5.0) * 1.1] * 2)
    parity, errors = (plot.draw().axes[0] for plot in plots.plots)
    assert (parity.get_xlabel(), parity.get_ylabel()) == (
        "true energy per atom (eV)",
        "predicted energy per atom (eV)",
    )
    assert errors.get_xlabel() == "error of the energy per atom (meV)"
    dots = parity.lines[0]
    np.testing.assert_allclose(dots.get_ydata(), np.arange(5.0), rtol=1e-6)  # .gather takes pred first
    np.testing.assert_allclose(dots.get_xdata(), np.arange(5.0) * 1.1, rtol=1e-6)


def test_a_plot_of_nothing_known_and_two_of_one_name_are_told() -> None:
    known = objective().quantities
    with pytest.raises(ValueError, match="no quantity 'force' to plot; the objective has energy_per_atom, forces"):
        Parity("force", known)
    with pytest.raises(ValueError, match="Two plots have one name among parity_forces, parity_forces"):
        PlotMaker([Parity("forces", known), Parity("forces", known)])


@pytest.mark.parametrize("size", [1, 37, 1000, 25_000])
def test_a_sample_is_bounded_even_and_the_same_in_any_parts(size: int) -> None:
    total, most = 60_000, 1_000
    stream = np.stack([np.arange(float(total)), -np.arange(float(total))], axis=1)
    if size == 1:
        stream = stream[:5000]
    sample = EvenSample(2, most)
    held = 0
    for start in range(0, len(stream), size):
        sample.add(stream[start : start + size])
        held = max(held, len(sample.rows))
    assert held <= most
    assert len(sample.rows) > most // 2 - 1
    steps = np.diff(sample.rows[:, 0])
    assert sample.rows[0, 0] == 0.0
    assert len(set(steps)) == 1
    np.testing.assert_array_equal(sample.rows[:, 1], -sample.rows[:, 0])
