"""Changing a graph in place."""

from __future__ import annotations

from forcefoundry.graph.node import Node


def replace_node(old: Node, new: Node) -> None:
    """Let every node that is computed from `old` be computed from `new` instead."""
    if old is new:
        return
    for child in list(old.children):
        child.parents = tuple(new if parent is old else parent for parent in child.parents)
