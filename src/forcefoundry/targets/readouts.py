"""What all readouts of feature levels share: whose features they read, and in which precision."""

from __future__ import annotations

import torch

from forcefoundry.networks.base import NetworkNode


def sizes_of(network: NetworkNode, name: str) -> tuple[int, ...]:
    """The widths of the levels that the quantity `name` is read from; a ValueError for what is no network."""
    if not isinstance(network, NetworkNode):
        raise ValueError(f"{name!r} is read from the features of a network, got {network!r}. Give a NetworkNode.")
    return network.network.feature_sizes


def like_network(readouts: torch.nn.Module, network: NetworkNode) -> None:
    """Cast the weights of linear readouts to the dtype of the network's weights, whatever the default dtype is."""
    weight = next(network.network.parameters(), None)
    if weight is not None:
        readouts.to(weight.dtype)
