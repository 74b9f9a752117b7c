"""Penalties on weights."""

from __future__ import annotations

from typing import Any

import torch

from forcefoundry.graph import Node
from forcefoundry.networks.base import Network, NetworkNode


class SquaredWeights(torch.nn.Module):
    """Σ w² over the weights that a network says are to be kept small.

    The network is referred to, not contained: its weights stay out of the loss's own state, and the copy that an
    evaluator makes sees the weights as they are, not as they were; it gives its number on the CPU, like all copies do.
    """

    def __init__(self, network: Network, on_cpu: bool = False):
        super().__init__()
        self._network = [network]
        self._on_cpu = on_cpu

    def forward(self) -> torch.Tensor:
        """The sum, shape ()."""
        total = torch.stack([(weight * weight).sum() for weight in self._network[0].penalised()]).sum()
        return total.cpu() if self._on_cpu else total

    def __deepcopy__(self, memo: dict[int, Any]) -> SquaredWeights:
        return SquaredWeights(self._network[0], on_cpu=True)


class L2(Node):
    """The sum of squares of a network's weights; multiply by a small number and add to a loss."""

    anonymous = True

    def __init__(self, network: NetworkNode):
        super().__init__(f"l2_{network.name}", (), SquaredWeights(network.network))
