"""Losses of a prediction alone: its mean and its mean square."""

from __future__ import annotations

from typing import Self

import torch

from forcefoundry.graph import Node
from forcefoundry.losses.counted import Counted
from forcefoundry.losses.nodes import ReductionNode
from forcefoundry.losses.reduction import Reduction, State


class MeanValue(Reduction[Counted]):
    """Σ w v / Σ w."""

    sees = Counted

    def state(self, counted: Counted) -> State:
        """Σ w and the sum of the values."""
        return counted.total, counted.first

    def value(self, state: State) -> torch.Tensor:
        """The mean."""
        return state[1] / state[0]


class MeanSquare(MeanValue):
    """Σ w v² / Σ w."""

    def state(self, counted: Counted) -> State:
        """Σ w and the sum of squares."""
        return counted.total, counted.squares


class StatisticNode(ReductionNode):
    """A statistic of one node, usually of a `.pred`.

    Of a quantity that is one number for a whole batch it is, over many batches, the statistic of these numbers, each
    counting once whatever the size of its batch.

    Args:
        node: whose values. Where true values take part in it, rows that lack them count nothing.
        name: what the statistic is called; KIND_NODE where None.
        weights: how much each row counts, finite and 0 or more: one weight a row, or one a system for rows of atoms.
    """

    def __init__(self, node: Node, name: str | None = None, *, weights: Node | None = None):
        super().__init__((node,), weights, name)

    @classmethod
    def of_node(cls, node: Node, *, weights: Node | None = None) -> Self:
        """The statistic of a node's prediction."""
        return cls(node.pred, name=f"{cls.kind}_{node.name}", weights=weights)


class Mean(StatisticNode):
    """Mean of a prediction."""

    kind, reduction = "mean", MeanValue


class MeanSq(StatisticNode):
    """Mean square of a prediction."""

    kind, reduction = "mean_sq", MeanSquare
