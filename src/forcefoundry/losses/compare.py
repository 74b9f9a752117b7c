"""Losses that compare the model's values of a node with the database's."""

from __future__ import annotations

from typing import ClassVar, Self

import torch

from forcefoundry.graph import Node
from forcefoundry.losses.reduction import Reduction, State, count, difference, root


class MeanSquaredError(Reduction):
    """Σ (p - t)² / n."""

    def state(self, *values: torch.Tensor) -> State:
        """n and the sum of squared differences."""
        d = difference(*values)
        return count(d), (d * d).sum()

    def value(self, state: State) -> torch.Tensor:
        """The mean."""
        return state[1] / state[0]


class RootMeanSquaredError(MeanSquaredError):
    """√(Σ (p - t)² / n)."""

    def value(self, state: State) -> torch.Tensor:
        """The root of the mean."""
        return root(super().value(state))


class MeanAbsoluteError(MeanSquaredError):
    """Σ |p - t| / n."""

    def state(self, *values: torch.Tensor) -> State:
        """n and the sum of absolute differences."""
        d = difference(*values)
        return count(d), d.abs().sum()


class CoefficientOfDetermination(Reduction):
    """R² = 1 - mean (p - t)² / var(t), the variance taken with divisor n - 1."""

    higher_is_better = True

    def state(self, *values: torch.Tensor) -> State:
        """n, the sum of squared differences, the mean of the truth and its sum of squares about that mean."""
        d = difference(*values)
        true = values[1].to(d.dtype)
        mean = true.mean()
        return count(d), (d * d).sum(), mean, ((true - mean) ** 2).sum()

    def merge(self, left: State, right: State) -> State:
        """Chan's update: exact where sums of squares of large energies would cancel."""
        n = left[0] + right[0]
        gap = right[2] - left[2]
        mean = left[2] + gap * right[0] / n
        about = left[3] + right[3] + gap * gap * left[0] * right[0] / n
        return n, left[1] + right[1], mean, about

    def value(self, state: State) -> torch.Tensor:
        """R²; NaN for fewer than two values, where no variance is defined."""
        n, squares, _, about = state
        return 1.0 - (squares / n) / (about / (n - 1))


class LossNode(Node):
    """A loss between two nodes, usually a node's `.pred` and `.true`."""

    anonymous = True
    kind: ClassVar[str]
    reduction: ClassVar[type[Reduction]]

    def __init__(self, pred: Node, true: Node, name: str | None = None):
        super().__init__(name or f"{self.kind}_{pred.name}", (pred, true), self.reduction())

    @classmethod
    def of_node(cls, node: Node) -> Self:
        """The loss between a node's prediction and its true value."""
        return cls(node.pred, node.true, name=f"{cls.kind}_{node.name}")


class MSE(LossNode):
    """Mean squared error."""

    kind, reduction = "mse", MeanSquaredError


class RMSE(LossNode):
    """Root mean squared error."""

    kind, reduction = "rmse", RootMeanSquaredError


class MAE(LossNode):
    """Mean absolute error."""

    kind, reduction = "mae", MeanAbsoluteError


class R2(LossNode):
    """Coefficient of determination R²."""

    kind, reduction = "r2", CoefficientOfDetermination
