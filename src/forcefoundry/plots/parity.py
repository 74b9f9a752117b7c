"""Predicted against true values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from forcefoundry.plots.base import Plot


class Parity(Plot):
    """Each predicted value over the true one; a perfect model draws the diagonal."""

    kind = "parity"

    def fill(self, figure: Figure, samples: Mapping[str, np.ndarray]) -> None:
        """Draw all splits over each other, the largest first."""
        axes = figure.subplots()
        for split, rows in sorted(samples.items(), key=lambda item: -len(item[1])):
            axes.plot(rows[:, 0], rows[:, 1], ".", markersize=2.5, alpha=0.6, label=split, rasterized=True)
        every = np.concatenate(list(samples.values())) if samples else np.zeros((0, 2))
        if len(every):
            low, high = float(every.min()), float(every.max())
            axes.plot([low, high], [low, high], color="0.3", linewidth=0.8, zorder=0)
            axes.legend(markerscale=4, frameon=False)
        label, unit = self.quantity.label, self.quantity.unit
        axes.set(xlabel=f"true {label} ({unit})", ylabel=f"predicted {label} ({unit})")
        axes.set_aspect("equal", adjustable="datalim")
