"""Nodes: named quantities and how one follows from others. A node holds no number; a graph module computes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from forcefoundry.columns import COLUMNS, Axis, column
from forcefoundry.graph.algebra import Arithmetic, Operators

_RESERVED = torch.nn.ModuleDict()
"""What it has already, such as `type` or `values`, cannot name a module in it."""


class Node(Operators["AlgebraNode"]):
    """One quantity in a graph.

    Args:
        name: what the quantity is called; modules and weights are named after it, so it may not hold a dot.
        parents: the nodes that it is computed from, in the order in which the module takes them.
        module: computes the node from its parents; None for nodes that are given, not computed.
        db_name: the database column that holds the quantity's true values, where there is one.
        axis: what one row stands for; None where it is not known, or where the quantity is one number.
        unit: the unit of the values.
        shape: the shape of one row; None where it is not known.
    """

    anonymous = False
    """Whether the name only describes; an anonymous node has no weights and shares its name with others."""

    def __init__(
        self,
        name: str,
        parents: Sequence[Node] = (),
        module: torch.nn.Module | None = None,
        db_name: str | None = None,
        axis: Axis | None = None,
        unit: str = "",
        shape: tuple[int, ...] | None = None,
    ):
        if not name or "." in name or hasattr(_RESERVED, name):
            raise ValueError(
                f"A node's name must be non-empty, hold no dot and be no name of torch's own, got {name!r}."
            )
        self.name = name
        self.module = module
        self.db_name = db_name
        self.axis = axis
        self.unit = unit
        self.shape = shape
        self.forget_relatives()
        self.parents = tuple(value_node(parent) for parent in parents)

    def forget_relatives(self) -> None:
        """Start without parents and children, as a new node does and a copy must."""
        self._parents: tuple[Node, ...] = ()
        # Children are held weakly: a node lives as long as somebody builds on it, and is freed with its graph.
        self._children: list[weakref.ref[Node]] = []
        # One .pred and one .true a node, also held weakly, since they in turn hold the node.
        self._pred: weakref.ref[PredNode] | None = None
        self._true: weakref.ref[TrueNode] | None = None

    @property
    def parents(self) -> tuple[Node, ...]:
        """The nodes that this one is computed from."""
        return self._parents

    @parents.setter
    def parents(self, parents: tuple[Node, ...]) -> None:
        for parent in parents:
            if not isinstance(parent, Node):
                raise ValueError(f"Node {self.name!r} got {parent!r} as a parent, expected a node.")
        for former in self._parents:
            former._children = [ref for ref in former._children if ref() not in (None, self)]
        self._parents = parents
        for parent in dict.fromkeys(parents):
            parent._children.append(weakref.ref(self))

    @property
    def children(self) -> Iterator[Node]:
        """The living nodes that are computed from this one, in the order in which they were made."""
        return (child for ref in self._children if (child := ref()) is not None)

    @property
    def pred(self) -> PredNode:
        """The model's value of this node, for use in a loss."""
        node = self._pred() if self._pred is not None else None
        if node is None:
            node = PredNode(self)
            self._pred = weakref.ref(node)
        return node

    @property
    def true(self) -> TrueNode:
        """The database's value of this node, for use in a loss."""
        node = self._true() if self._true is not None else None
        if node is None:
            node = TrueNode(self)
            self._true = weakref.ref(node)
        return node

    def _combined(self, parents: tuple[Any, ...], module: Arithmetic) -> AlgebraNode:
        return AlgebraNode(parents, module)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class InputNode(Node):
    """A node whose values the database gives, from the column `db_name`, which is called like the node unless given.

    Axis, unit and shape are looked up in the vocabulary of columns.
    """

    def __init__(
        self,
        name: str,
        db_name: str | None = None,
        axis: Axis | None = None,
        unit: str | None = None,
        shape: tuple[int, ...] | None = None,
    ):
        db_name = name if db_name is None else db_name
        if axis is None or unit is None or db_name in COLUMNS:
            known = column(db_name)
            axis, unit = axis or known.axis, known.unit if unit is None else unit
            shape = known.shape if shape is None else shape
        super().__init__(name, db_name=db_name, axis=axis, unit=unit, shape=shape)


@dataclass(frozen=True)
class Output:
    """What is known of one output of a MultiNode; its node is called NODE_KEY unless `name` says otherwise."""

    axis: Axis | None = None
    unit: str = ""
    db_name: str | None = None
    name: str | None = None
    shape: tuple[int, ...] | None = None


class MultiNode(Node):
    """A node whose module gives several quantities at once, each a node of its own, reached by `output(key)`.

    Used where one value is meant (as a parent, in `.pred` and `.true`), it stands for its first output.
    """

    def __init__(self, name: str, parents: Sequence[Node], module: torch.nn.Module, outputs: Mapping[str, Output]):
        super().__init__(name, parents, module)
        self.outputs = dict(outputs)

    def forget_relatives(self) -> None:
        """Start without parents, children and outputs."""
        super().forget_relatives()
        # An output holds its MultiNode, so the way back is weak; one that nobody uses is not there at all.
        self._living: dict[str, weakref.ref[OutputNode]] = {}

    def output(self, key: str) -> OutputNode:
        """The output of that name; a wrong name is a ValueError that lists the right ones."""
        if key not in self.outputs:
            raise ValueError(f"Node {self.name!r} has no output {key!r}; it has {', '.join(self.outputs)}.")
        node = self._living[key]() if key in self._living else None
        if node is None:
            node = OutputNode(self, key)
            self._living[key] = weakref.ref(node)
        return node

    @property
    def main_output(self) -> OutputNode:
        """The first output."""
        return self.output(next(iter(self.outputs)))

    @property
    def pred(self) -> PredNode:
        """The model's value of the main output."""
        return self.main_output.pred

    @property
    def true(self) -> TrueNode:
        """The database's value of the main output."""
        return self.main_output.true

    def living_outputs(self) -> dict[str, OutputNode]:
        """The outputs that somebody holds."""
        return {key: node for key, ref in self._living.items() if (node := ref()) is not None}


class OutputNode(Node):
    """One quantity of a MultiNode."""

    def __init__(self, parent: MultiNode, key: str):
        known = parent.outputs[key]
        name = known.name or f"{parent.name}_{key}"
        super().__init__(name, (), None, known.db_name, known.axis, known.unit, known.shape)
        self.parents = (parent,)  # the node itself, not its main output
        self.key = key
        self.index = list(parent.outputs).index(key)


class AlgebraNode(Node):
    """The result of one operation between nodes.

    Raises:
        ValueError: when rows of different kinds meet, say one a system and one an atom.
    """

    anonymous = True

    def __init__(self, parents: tuple[Node, ...], module: Arithmetic):
        parents = tuple(value_node(parent) for parent in parents)
        check_axes(f"The operation {module.symbol!r}", parents)
        axes = [parent.axis for parent in parents if parent.axis is not None]
        shapes = [parent.shape for parent in parents if parent.axis is not None]
        super().__init__(module.symbol, parents, module, axis=axes[0] if axes else None)
        if shapes and None not in shapes:
            self.shape = _row_shape(module, parents, [shape for shape in shapes if shape is not None])


def _row_shape(module: Arithmetic, parents: tuple[Node, ...], shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of one row of the result; rows that do not fit together are a ValueError."""
    longest = max(shapes, key=len)
    try:
        padded = [(*shape, *[1] * (len(longest) - len(shape))) for shape in shapes]
        together = tuple(np.broadcast_shapes(*padded))
        if module.constant_shape and np.broadcast_shapes(module.constant_shape, together) != together:
            raise ValueError
    except ValueError:
        told = " and ".join(f"{node.name!r} has rows of shape {node.shape}" for node in parents if node.axis)
        array = f", the array has shape {module.constant_shape}" if module.constant_shape else ""
        raise ValueError(
            f"The operation {module.symbol!r} cannot combine what differs in shape: {told}{array}. An array must fit "
            "one row."
        ) from None
    return together


def check_axes(what: str, nodes: Sequence[Node]) -> None:
    """Refuse nodes whose rows stand for different things; those whose axis is not known are passed over."""
    known = [node for node in nodes if node.axis is not None]
    for node in known[1:]:
        if node.axis is not known[0].axis:
            assert known[0].axis is not None
            assert node.axis is not None
            raise ValueError(
                f"{what} joins {known[0].name!r}, which has one row for each {known[0].axis.value}, with "
                f"{node.name!r}, which has one for each {node.axis.value}. Both must have the same rows."
            )


def value_node(node: Any) -> Any:
    """The node that stands for one value: the main output of a MultiNode, else the node itself."""
    return node.main_output if isinstance(node, MultiNode) else node


class LossInput(Node):
    """What a loss is computed from: the predicted or the true value of a node, its `origin`."""

    suffix = ""

    def __init__(self, origin: Node):
        super().__init__(
            f"{origin.name}_{self.suffix}",
            db_name=origin.db_name,
            axis=origin.axis,
            unit=origin.unit,
            shape=origin.shape,
        )
        self.origin = origin


class PredNode(LossInput):
    """The model's value of a node."""

    suffix = "pred"


class TrueNode(LossInput):
    """The database's value of a node."""

    suffix = "true"
