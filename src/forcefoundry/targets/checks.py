"""What a target refuses to be computed from, told when the node is made."""

from __future__ import annotations

from forcefoundry.columns import Axis
from forcefoundry.graph import Node
from forcefoundry.graph.node import value_node


def one_number(node: Node, axis: Axis, what: str, remedy: str) -> Node:
    """The node, if it has one number a system or an atom, as `axis` says, or if its rows are not known.

    Args:
        node: a MultiNode stands for its first output.
        what: what the node is to be, for the message.
        remedy: a sentence that says what to give instead.
    """
    value: Node = value_node(node)
    if not isinstance(value, Node):
        raise ValueError(f"{what} must be a node, got {value!r}. {remedy}")
    if value.axis not in (None, axis) or value.shape not in (None, ()):
        rows = "one number" if value.shape in (None, ()) else f"numbers of shape {value.shape}"
        each = f" for each {value.axis.value}" if value.axis is not None else ""
        raise ValueError(f"{what} must be one number for each {axis.value}; {value.name!r} has {rows}{each}. {remedy}")
    return value
