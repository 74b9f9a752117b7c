"""Changing a graph in place, and copying it."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable
from dataclasses import replace

from forcefoundry.graph.node import LossInput, MultiNode, Node, OutputNode, check_axes, value_node
from forcefoundry.graph.search import ordered_ancestors


def replace_node(old: Node, new: Node) -> None:
    """Let every node that is computed from `old` be computed from `new` instead.

    Raises:
        ValueError: when rows would stand for something else, or `new` is computed from `old`, which would be a cycle.
    """
    old, new = value_node(old), value_node(new)
    if old is new:
        return
    check_axes(f"Replacing {old.name!r}", (old, new))
    if old.shape is not None and new.shape is not None and old.shape != new.shape:
        raise ValueError(
            f"{old.name!r} has rows of shape {old.shape} and cannot be replaced by {new.name!r} of shape {new.shape}."
        )
    if old in ordered_ancestors([new]):
        raise ValueError(
            f"Replacing {old.name!r} by {new.name!r}, which is computed from it, would make a cycle through node "
            f"{old.name!r}."
        )
    for child in list(old.children):
        child.parents = tuple(new if parent is old else parent for parent in child.parents)


def copy_subgraph(nodes: Iterable[Node], keep: Container[Node] = (), suffix: str = "_copy") -> dict[Node, Node]:
    """Copy the given nodes and everything that they need.

    Args:
        nodes: whose graph is copied.
        keep: nodes at which copying ends; copies are computed from these themselves. The inputs, for instance.
        suffix: appended to names, so that original and copy can stand in one graph.

    Returns:
        Each node to its copy. Copies share modules, and with them weights, with the originals.
    """
    copies: dict[Node, Node] = {}
    for node in ordered_ancestors(nodes, keep):
        made = copies.get(node.parents[0]) if isinstance(node, OutputNode) else None
        if isinstance(node, LossInput):
            continue  # what a loss compares belongs to the network's graph, not to the loss's
        if isinstance(node, OutputNode) and isinstance(made, MultiNode):
            copies[node] = made.output(node.key)
        else:
            copies[node] = _copied(node, suffix, tuple(copies.get(parent, parent) for parent in node.parents))
    return copies


def _copied(node: Node, suffix: str, parents: tuple[Node, ...]) -> Node:
    made = copy.copy(node)
    made.forget_relatives()
    made.name = node.name if node.anonymous else node.name + suffix
    made.parents = parents
    if isinstance(made, MultiNode):
        made.outputs = {
            key: replace(known, name=known.name + suffix if known.name else None) for key, known in made.outputs.items()
        }
    return made
