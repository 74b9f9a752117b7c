"""The maker that collects plots, feeds them and draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from forcefoundry.files import written_whole
from forcefoundry.graph import Node
from forcefoundry.plots.base import Plot


class PlotMaker:
    """Several plots; what they need counts among the needs of the losses."""

    def __init__(self, plots: Sequence[Plot]):
        names = [plot.name for plot in plots]
        if len(set(names)) != len(names):
            raise ValueError(f"Two plots have one name among {', '.join(names)}: leave one out.")
        self.plots = tuple(plots)

    @property
    def required_nodes(self) -> list[Node]:
        """The nodes that the plots need, plot by plot."""
        return [node for plot in self.plots for node in plot.required_nodes]

    def forget(self, split: str) -> None:
        """Let go of what was gathered of a split."""
        for plot in self.plots:
            plot.forget(split)

    def gather(self, split: str, values: Sequence[torch.Tensor]) -> None:
        """Take one batch: the values of `required_nodes`, in that order."""
        for number, plot in enumerate(self.plots):
            plot.gather(split, values[2 * number], values[2 * number + 1])

    def save(self, folder: Path | str) -> list[str]:
        """Draw every plot as a PNG into a folder that is put into place whole; the names of the files."""
        with written_whole(folder) as draft:
            draft.mkdir()
            for plot in self.plots:
                # The software's version is no part of a picture: equal data give equal bytes.
                plot.draw().savefig(draft / f"{plot.name}.png", metadata={"Software": None})
        return [f"{plot.name}.png" for plot in self.plots]
