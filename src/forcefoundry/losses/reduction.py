"""Losses that reduce a batch to one number, in a form that can also be gathered over many batches exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch

from forcefoundry.losses.counted import Counted

State = tuple[torch.Tensor, ...]
Sums = tuple[float, ...]
C = TypeVar("C", bound=Counted)


class Reduction(torch.nn.Module, ABC, Generic[C]):
    """One number from predictions and truths, by way of a small state.

    An RMSE over a split is not the mean of its batches' RMSEs: what can be merged exactly is the state. So a
    reduction gives the state of a batch, merges the states of two, and makes the number out of a state; as a loss in
    training it does the first and the last on one batch.

    Values that are not labelled, or of weight zero, are left out before: see `counted`. What of a batch several
    reductions need (`see`) is made once and shared.

    Args:
        weights: the name of the weights that come after the values; None where there are none.
        called: what the loss is called, for errors.
    """

    higher_is_better: ClassVar[bool] = False
    """Whether a better model has the higher number."""

    sees: type[C]
    """What the state of a batch is made from."""

    def __init__(self, weights: str | None = None, called: str = "loss"):
        super().__init__()
        self.weights, self.called = weights, called

    def see(self, *values: torch.Tensor) -> C:
        """What counts among the values of one batch: the compared ones, their weights, then further labels."""
        return self.sees(values, self.weights, self.called)

    @abstractmethod
    def state(self, counted: C) -> State:
        """The state of one batch, a few float64 tensors of shape (); the first is the weight of all that counts."""

    @abstractmethod
    def value(self, state: State) -> torch.Tensor:
        """The number, shape (), that a state stands for; NaN where nothing counts."""

    def merge(self, left: Sums, right: Sums) -> Sums:
        """The state of two batches together, their states given as numbers; sums, unless a reduction knows better."""
        return tuple(a + b for a, b in zip(left, right, strict=True))

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """The number of one batch, differentiable; 0 with zero derivatives where nothing in the batch counts."""
        counted = self.see(*values)
        if not counted.number:
            return counted.values.sum()  # an empty sum, which a loss can still be differentiated through
        return self.value(self.state(counted))


def root(value: torch.Tensor) -> torch.Tensor:
    """The square root, with derivative 0 instead of infinity at 0."""
    zero = value == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, value)))
