"""How errors are distributed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from forcefoundry.plots.base import Plot


class ErrorHistogram(Plot):
    """The share of values with each error, on a logarithmic scale so that outliers show."""

    kind = "errors"

    def fill(self, figure: Figure, samples: Mapping[str, np.ndarray]) -> None:
        """Draw one outline a split."""
        axes = figure.subplots()
        errors = {split: 1e3 * (rows[:, 1] - rows[:, 0]) for split, rows in samples.items() if len(rows)}
        if errors:
            reach = max(float(np.abs(values).max()) for values in errors.values()) or 1.0
            bins = np.linspace(-reach, reach, 61).tolist()
            for split, values in errors.items():
                weights = np.full(len(values), 1.0 / len(values))
                axes.hist(values, bins=bins, weights=weights, histtype="step", label=split)
            axes.set_yscale("log")
            axes.legend(frameon=False)
        axes.set(xlabel=f"error of the {self.quantity.label} (m{self.quantity.unit})", ylabel="share of values")
