"""What the nodes of losses have in common: whose rows they take, what weighs them, and which labels must be there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from forcefoundry.columns import DERIVED, STRUCTURE, Axis
from forcefoundry.graph import LossInput, Node, TrueNode, check_axes, ordered_ancestors
from forcefoundry.graph.node import value_node
from forcefoundry.inputs import Inputs
from forcefoundry.losses.reduction import Reduction


class ReductionNode(Node):
    """One number from nodes of one shape, weighted where `weights` are given.

    A weight of each system may weigh values of each atom: it is then spread over the system's atoms.
    """

    anonymous = True
    kind: ClassVar[str]
    reduction: ClassVar[type[Reduction[Any]]]

    def __init__(self, nodes: Sequence[Node], weights: Node | None, name: str | None, **settings: float):
        nodes = [_loss_value(self.kind, node) for node in nodes]
        name = name or f"{self.kind}_{nodes[0].name}"
        check_axes(f"The loss {name!r}", nodes)
        _check_shapes(name, nodes)
        parents = list(nodes)
        if weights is not None:
            weights = _loss_value(self.kind, weights)
            parents.append(_aligned(name, weights, nodes))
        parents += _further_labels(nodes)
        module = self.reduction(weights=weights.name if weights is not None else None, called=name, **settings)
        super().__init__(name, parents, module, shape=())


class SpreadOverAtoms(torch.nn.Module):
    """One value a system to one an atom."""

    def forward(self, values: torch.Tensor, system_of_atom: torch.Tensor) -> torch.Tensor:
        """Values (S, ...) to (N, ...)."""
        return values[system_of_atom.long()]  # an evaluator hands on indices as float64


class SpreadNode(Node):
    """A quantity of each system, repeated for each of its atoms."""

    anonymous = True

    def __init__(self, values: Node, system_of_atom: Node):
        name = f"{values.name}_of_atom"
        super().__init__(name, (values, system_of_atom), SpreadOverAtoms(), None, Axis.ATOM, values.unit, values.shape)


def per_atom(node: Node) -> Node:
    """The predicted or true value of a system divided by its number of atoms: `per_atom(energy.pred)`.

    The number of atoms is the one of the graph that the value belongs to. Asked twice it gives the same node.
    """
    node = _loss_value("per_atom", node)
    if node.axis not in (Axis.SYSTEM, None):
        raise ValueError(f"per_atom divides what has one row for each system, and {node.name!r} has not. Leave it.")
    n_atoms = structure_inputs(node).n_atoms.true
    for child in node.children:
        if child.parents == (node, n_atoms) and getattr(child.module, "symbol", None) == "div":
            return child
    return node / n_atoms


def structure_inputs(*nodes: Node) -> Inputs:
    """The structure columns of the graphs that loss nodes belong to."""
    origins = dict.fromkeys(node.origin for node in ordered_ancestors(nodes) if isinstance(node, LossInput))
    # Other losses hang on the other side of an origin, and may have brought inputs that the model has not.
    return Inputs.around(*nodes, *(side for origin in origins for side in (origin.pred, origin.true)))


def _loss_value(what: str, node: Any) -> Node:
    if not isinstance(node, Node):
        raise ValueError(f"{what} got {node!r}, expected a node such as energy.pred.")
    found: Node = value_node(node)
    return found


def _check_shapes(name: str, nodes: Sequence[Node]) -> None:
    shapes = [node.shape for node in nodes if node.shape is not None]
    if len({() if shape == (1,) else shape for shape in shapes}) > 1:
        told = " and ".join(f"{node.name!r} has rows of shape {node.shape}" for node in nodes)
        raise ValueError(f"The loss {name!r} cannot compare what differs in shape: {told}.")


def _aligned(name: str, weights: Node, nodes: Sequence[Node]) -> Node:
    """The weights, one for each row of the nodes."""
    axes = [node.axis for node in nodes if node.axis is not None]
    if weights.axis is Axis.SYSTEM and axes and axes[0] is Axis.ATOM:
        system_of_atom = structure_inputs(*nodes, weights).system_of_atom.true
        for child in weights.children:
            if isinstance(child, SpreadNode) and child.parents == (weights, system_of_atom):
                return child
        return SpreadNode(weights, system_of_atom)
    check_axes(f"The loss {name!r}", (*nodes, weights))
    return weights


def _further_labels(nodes: Sequence[Node]) -> list[Node]:
    """True values within a prediction, as in `energy.pred - baseline.true`: without them it does not count either.

    What a structure is made of is always there, and what the last node, the truth, depends on shows in itself.
    """
    always = (*STRUCTURE, *DERIVED)
    found = [
        [node for node in ordered_ancestors([side]) if isinstance(node, TrueNode) and node.db_name not in always]
        for side in nodes
    ]
    shown = set(found[-1]) if len(nodes) > 1 else set()
    return [node for node in dict.fromkeys(found[0]) if node not in shown]
