"""Losses that reduce a batch to one number, in a form that can also be gathered over many batches exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

State = tuple[torch.Tensor, ...]


class Reduction(torch.nn.Module, ABC):
    """One number from predictions and truths, by way of a small state.

    An RMSE over a split is not the mean of its batches' RMSEs: what can be merged exactly is the state. So a
    reduction gives the state of a batch, merges two states, and makes the number out of a state; as a loss in
    training it does the first and the last on one batch.
    """

    higher_is_better: ClassVar[bool] = False
    """Whether a better model has the higher number."""

    @abstractmethod
    def state(self, *values: torch.Tensor) -> State:
        """The state of one batch, a few tensors of shape ()."""

    @abstractmethod
    def value(self, state: State) -> torch.Tensor:
        """The number, shape (), that a state stands for."""

    def merge(self, left: State, right: State) -> State:
        """The state of two batches together; sums, unless a reduction knows better."""
        return tuple(a + b for a, b in zip(left, right, strict=True))

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """The number of one batch, differentiable."""
        return self.value(self.state(*values))


def difference(pred: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """pred - true; shapes (n,) and (n, 1) count as equal, any other mismatch is a ValueError."""
    if pred.shape != true.shape:
        if pred.shape == (*true.shape, 1):
            return pred[..., 0] - true
        if true.shape == (*pred.shape, 1):
            return pred - true[..., 0]
        raise ValueError(f"Predictions have shape {tuple(pred.shape)}, the true values {tuple(true.shape)}.")
    return pred - true


def root(value: torch.Tensor) -> torch.Tensor:
    """The square root, with derivative 0 instead of infinity at 0."""
    positive = value > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, value, 1.0)), 0.0)


def count(values: torch.Tensor) -> torch.Tensor:
    """How many numbers there are, as a tensor of their kind on the CPU, where it costs no transfer."""
    return torch.tensor(float(values.numel()), dtype=torch.float64)
