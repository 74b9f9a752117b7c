"""Penalties on weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch

from forcefoundry.graph import Node
from forcefoundry.networks.base import Network, NetworkNode


class Penalty(torch.nn.Module, ABC):
    """A sum over the weights that a network says are to be kept small, taken in float64.

    The network is referred to, not contained: its weights stay out of the loss's own state, and the copy that an
    evaluator makes sees the weights as they are, not as they were; it gives its number on the CPU, like all copies do.
    """

    def __init__(self, network: Network, on_cpu: bool = False):
        super().__init__()
        self._network = [network]
        self._on_cpu = on_cpu

    @property
    def network(self) -> Network:
        """Whose weights are meant."""
        return self._network[0]

    @abstractmethod
    def of_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """What each number in a weight adds."""

    def forward(self) -> torch.Tensor:
        """The sum, shape ()."""
        weights = self._network[0].penalised()
        total = torch.stack([self.of_weight(weight).sum(dtype=torch.float64) for weight in weights]).sum()
        return total.cpu() if self._on_cpu else total

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self._network[0], on_cpu=True)


class SquaredWeights(Penalty):
    """Σ w²."""

    def of_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Squares."""
        return weight * weight


class AbsoluteWeights(Penalty):
    """Σ |w|, with derivative 0 at 0."""

    def of_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Absolute values."""
        return weight.abs()


class PenaltyNode(Node):
    """A penalty on a network's weights; multiply by a small number and add to a loss."""

    anonymous = True
    kind: ClassVar[str]
    penalty: ClassVar[type[Penalty]]

    def __init__(self, network: NetworkNode):
        if not isinstance(network, NetworkNode):
            raise ValueError(f"{type(self).__name__} got {network!r}, expected the node of a network.")
        super().__init__(f"{self.kind}_{network.name}", (), self.penalty(network.network), shape=())


class L2(PenaltyNode):
    """The sum of squares of a network's weights."""

    kind, penalty = "l2", SquaredWeights


class L1(PenaltyNode):
    """The sum of absolute values of a network's weights."""

    kind, penalty = "l1", AbsoluteWeights
