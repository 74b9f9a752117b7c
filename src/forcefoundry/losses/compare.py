"""Losses that compare the model's values of a node with the database's."""

from __future__ import annotations

import math
from typing import Self

import torch

from forcefoundry.graph import Node
from forcefoundry.losses.counted import Differences
from forcefoundry.losses.nodes import ReductionNode
from forcefoundry.losses.reduction import Reduction, State, Sums, root


class MeanSquaredError(Reduction[Differences]):
    """Σ w (p - t)² / Σ w."""

    sees = Differences

    def state(self, counted: Differences) -> State:
        """Σ w and the sum of squared differences."""
        return counted.total, counted.squares

    def value(self, state: State) -> torch.Tensor:
        """The mean."""
        return state[1] / state[0]


class RootMeanSquaredError(MeanSquaredError):
    """√(Σ w (p - t)² / Σ w)."""

    def value(self, state: State) -> torch.Tensor:
        """The root of the mean."""
        return root(super().value(state))


class MeanAbsoluteError(MeanSquaredError):
    """Σ w |p - t| / Σ w."""

    def state(self, counted: Differences) -> State:
        """Σ w and the sum of absolute differences."""
        return counted.total, counted.absolute


class MeanHuberError(MeanSquaredError):
    """Σ w h(p - t) / Σ w with h(d) = d² / 2 for |d| <= δ, else δ (|d| - δ / 2) (Huber 1964)."""

    def __init__(self, weights: str | None = None, called: str = "loss", delta: float = 1.0):
        super().__init__(weights, called)
        if not 0 < delta < math.inf:
            raise ValueError(f"The loss {called!r}: delta is {delta}, expected a finite number above 0.")
        self.delta = delta

    def state(self, counted: Differences) -> State:
        """Σ w and the sum of h."""
        d = counted.values
        near = d.clamp(-self.delta, self.delta)
        return counted.total, counted.sum(near * (d - 0.5 * near))


class CoefficientOfDetermination(Reduction[Differences]):
    """R² = 1 - (Σ w (p - t)² / Σ w) / var(t), with var(t) = (Σ w (t - mean)² / Σ w) n / (n - 1) for n values.

    For equal weights the variance is the usual one with divisor n - 1; weights times a constant change nothing.
    """

    higher_is_better = True
    sees = Differences

    def state(self, counted: Differences) -> State:
        """Σ w, n, the sum of squared differences, a true value, the mean about it, the squares about the mean."""
        return counted.total, counted.count, counted.squares, *counted.spread

    def merge(self, left: Sums, right: Sums) -> Sums:
        """Chan's update: exact where sums of squares of large energies would cancel."""
        if not left[0] or not right[0]:
            return left if left[0] else right
        total, n, squares = (a + b for a, b in zip(left[:3], right[:3], strict=True))
        gap = (right[3] - left[3]) + (right[4] - left[4])
        share = right[0] / total
        return total, n, squares, left[3], left[4] + gap * share, left[5] + right[5] + gap * gap * left[0] * share

    def value(self, state: State) -> torch.Tensor:
        """R²; NaN for fewer than two values, where no variance is defined."""
        _, n, squares, _, _, about = state
        return 1.0 - (squares / n) / (about / (n - 1))


class LossNode(ReductionNode):
    """A loss between two nodes, usually a node's `.pred` and `.true`.

    Args:
        pred, true: nodes with the same rows. NaN in the true values means that there is no label: it counts nothing.
        name: what the loss is called; KIND_PRED where None.
        weights: how much each row counts, finite and 0 or more: one weight a row, or one a system for rows of atoms.
    """

    def __init__(self, pred: Node, true: Node, name: str | None = None, *, weights: Node | None = None):
        super().__init__((pred, true), weights, name)

    @classmethod
    def of_node(cls, node: Node, *, weights: Node | None = None) -> Self:
        """The loss between a node's prediction and its true value."""
        return cls(node.pred, node.true, name=f"{cls.kind}_{node.name}", weights=weights)


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


class Huber(LossNode):
    """Mean Huber error: squared for differences up to `delta`, in the unit of the values, linear beyond."""

    kind, reduction = "huber", MeanHuberError

    def __init__(
        self, pred: Node, true: Node, name: str | None = None, *, delta: float = 1.0, weights: Node | None = None
    ):
        ReductionNode.__init__(self, (pred, true), weights, name, delta=delta)

    @classmethod
    def of_node(cls, node: Node, *, delta: float = 1.0, weights: Node | None = None) -> Self:
        """The loss between a node's prediction and its true value."""
        return cls(node.pred, node.true, name=f"{cls.kind}_{node.name}", delta=delta, weights=weights)
