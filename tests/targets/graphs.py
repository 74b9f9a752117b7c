"""Running a few nodes on a few structures, and derivatives by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from forcefoundry.build import seeded
from forcefoundry.databases import Database
from forcefoundry.graph import GraphModule, Node, input_nodes
from forcefoundry.graph.node import value_node
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.targets.energy import EnergyNode
from tests.builders import batch, network
from tests.networks.reference import Arrays, reference


def values(nodes: Sequence[Node], base: Database, training: bool = False) -> list[torch.Tensor]:
    """The values of the nodes for all structures of the database in one batch."""
    nodes = [value_node(node) for node in nodes]
    inputs = input_nodes(nodes)
    model = GraphModule(inputs, nodes).train(training)
    packed = batch(base, names=[str(node.db_name) for node in inputs])
    return list(model(*(packed[str(node.db_name)] for node in inputs)))


def features(strained: bool = False, seed: int = 0, **changes: object) -> NetworkNode:
    """A small network in float64 in a graph of its own."""
    inputs = Inputs.new().strained() if strained else Inputs.new()
    return NetworkNode(network(seed, **changes), inputs)


def energy_node(strained: bool = False, seed: int = 0, **changes: object) -> EnergyNode:
    """The energy of a small network in float64, each level of which takes part."""
    with seeded(seed):
        node = EnergyNode(features(strained, seed), **changes)
    if node.readout.e0 is not None:
        with torch.no_grad():
            node.readout.e0.copy_(torch.tensor([-1.5, 2.25, 0.5], dtype=torch.float64))
    return node


def reference_energy(d: Arrays) -> EnergyNode:
    """The energy of a reference file's network in a strained graph, with the file's weights."""
    made = reference(d).objective
    node = EnergyNode(
        NetworkNode(made.network, Inputs.new().strained()), first_is_interacting=bool(d["hp_first_is_interacting"])
    )
    node.readout.load_state_dict(made.readout.state_dict())
    return node


def changed(base: Database, **columns: np.ndarray) -> Database:
    """The database with some columns replaced."""
    return Database({**base.columns, **columns}, base.splits)


def slope(value_at: Callable[[float], np.ndarray | float], step: float) -> np.ndarray:
    """The derivative at 0 by fourth-order central differences."""
    far, near = (np.asarray(value_at(k * step)) - np.asarray(value_at(-k * step)) for k in (2, 1))
    return np.asarray((8 * near - far) / (12 * step))


def slope_by_weights(
    loss: Callable[[], torch.Tensor], weights: Sequence[torch.nn.Parameter], step: float = 1e-4
) -> tuple[float, float]:
    """The derivative of a loss along one random direction of the weights: by autograd, and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) * 0.1 for w in weights]
    gradients = torch.autograd.grad(loss(), list(weights), allow_unused=True, materialize_grads=True)
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))

    def at(shift: float) -> float:
        for sign in (1, -1):
            with torch.no_grad():
                for weight, direction in zip(weights, directions, strict=True):
                    weight.add_(sign * shift * direction)
            if sign == 1:
                value = float(loss().detach())
        return value

    return analytic, float(slope(at, step))
