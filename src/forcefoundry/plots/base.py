"""What a plot is: one quantity's predictions and truths, gathered by split, drawn at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure

from forcefoundry.graph import Node
from forcefoundry.plots.sample import EvenSample


@dataclass(frozen=True)
class Quantity:
    """Something that the model says and the database knows: both as loss nodes, a label and a unit."""

    name: str
    label: str
    unit: str
    pred: Node
    true: Node


class Plot(ABC):
    """One picture of one quantity.

    Args:
        quantity: name of the quantity that is shown; must be one of `quantities`.
        quantities: what the objective offers.
    """

    kind: ClassVar[str]

    def __init__(self, quantity: str, quantities: Mapping[str, Quantity]):
        if quantity not in quantities:
            raise ValueError(f"There is no quantity {quantity!r} to plot; the objective has {', '.join(quantities)}.")
        self.quantity = quantities[quantity]
        self._samples: dict[str, EvenSample] = {}

    @property
    def name(self) -> str:
        """The picture's name, also of its file."""
        return f"{self.kind}_{self.quantity.name}"

    @property
    def required_nodes(self) -> tuple[Node, Node]:
        """The nodes whose values the plot needs."""
        return self.quantity.pred, self.quantity.true

    def forget(self, split: str) -> None:
        """Let go of what was gathered of a split."""
        self._samples.pop(split, None)

    def gather(self, split: str, pred: torch.Tensor, true: torch.Tensor) -> None:
        """Take one batch of a split; component by component, without those that have no label."""
        sample = self._samples.setdefault(split, EvenSample(2))
        columns = [values.detach().double().cpu().numpy().ravel() for values in (true, pred)]
        rows = np.stack(columns, axis=1)
        sample.add(rows[~np.isnan(rows[:, 0])])

    def draw(self) -> Figure:
        """The picture of everything gathered; needs no display."""
        figure = Figure(figsize=(4.8, 4.4), dpi=150, layout="constrained")
        self.fill(figure, {split: sample.rows for split, sample in self._samples.items()})
        return figure

    @abstractmethod
    def fill(self, figure: Figure, samples: Mapping[str, np.ndarray]) -> None:
        """Draw into an empty figure; each split's sample is (n, 2): the true and the predicted value."""
