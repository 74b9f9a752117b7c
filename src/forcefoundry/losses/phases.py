"""Weights of training losses that change as training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from forcefoundry.graph import Node


class ByEpoch(torch.nn.Module):
    """A number that follows from how many epochs are done, and from nothing else."""

    def __init__(self, phases: Mapping[int, float]):
        super().__init__()
        self.phases = dict(phases)
        # The trainer says the epoch, also when it goes on with an interrupted run, so no state_dict holds the number.
        self.register_buffer("weight", torch.tensor(0.0, dtype=torch.float64), persistent=False)
        self.weight: torch.Tensor
        self.set_epoch(0)

    def set_epoch(self, epochs_done: int) -> None:
        """Take the number of the last phase that has begun."""
        self.weight.fill_([weight for start, weight in self.phases.items() if start <= epochs_done][-1])

    def forward(self) -> torch.Tensor:
        """The number, shape ()."""
        return self.weight


class Phases(Node):
    """A weight by epoch for training losses: `Phases({0: 1.0, 50: 10.0}) * RMSE.of_node(forces)`.

    Args:
        phases: from after how many epochs which weight holds; the first from 0. Here it is 1 for the first 50 epochs
            and 10 from the 51st on.
        name: what it is called.

    Raises:
        ValueError: for numbers of epochs that are not whole, do not begin at 0 or do not rise, and for weights that
            are not finite or below 0.
    """

    anonymous = True

    def __init__(self, phases: Mapping[int, float], name: str = "phases"):
        starts = list(phases)
        whole = all(isinstance(start, int) and not isinstance(start, bool) for start in starts)
        if not whole or starts[:1] != [0] or starts != sorted(starts):
            raise ValueError(f"{name} begin at the epochs {starts}, expected whole numbers that start at 0 and rise.")
        for start, weight in phases.items():
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not (number and 0 <= weight < math.inf):
                raise ValueError(
                    f"{name}: the weight from {start} on is {weight!r}, expected a finite number of 0 or more."
                )
        super().__init__(name, (), ByEpoch(phases), shape=())
