"""Graphs for people: as a table of text, and as a Mermaid drawing, with shapes and units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forcefoundry.columns import Axis
from forcefoundry.graph.algebra import Arithmetic
from forcefoundry.graph.node import InputNode, LossInput, MultiNode, Node, OutputNode
from forcefoundry.graph.search import names_of, ordered_ancestors

_ROWS = {Axis.SYSTEM: "S", Axis.ATOM: "N", Axis.PAIR: "P"}


def shape_of(node: Node) -> str:
    """The shape of a node's value in letters: S systems, N atoms, P pairs; "" where it is not known."""
    if node.axis is None:
        return "" if node.shape is None else f"({', '.join(map(str, node.shape))})"
    rest = ["..."] if node.shape is None else [str(length) for length in node.shape]
    return f"({', '.join([_ROWS[node.axis], *rest])}{'' if rest else ','})"


def as_text(nodes: Iterable[Node]) -> str:
    """Everything that the given nodes need as a table: name, kind, shape, unit, column, parents; one line a node.

    A network's outputs stand under the node that computes them.
    """
    shown = _whole(nodes)
    names = names_of(shown)
    header = ("node", "kind", "shape", "unit", "column", "from")
    rows = [header, *(_row(node, names) for node in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def as_mermaid(nodes: Iterable[Node]) -> str:
    """The same as a Mermaid flowchart, which code hosts, notebooks and mermaid.live draw.

    Inputs are round, what losses compare is slanted; a dotted arrow leads from a node to its prediction or truth.
    Arrows from a node of several outputs say which.
    """
    shown = _whole(nodes)
    names = names_of(shown)
    place = {node: f"n{number}" for number, node in enumerate(shown)}
    lines = ["flowchart TD"]
    for node in shown:
        if isinstance(node, OutputNode):
            continue
        lines.append(f"    {place[node]}{_box(node, names[node])}")
        for parent in dict.fromkeys(node.parents):
            lines.append(f"    {_arrow(parent, place, '-->')} {place[node]}")
        if isinstance(node, LossInput):
            lines.append(f"    {_arrow(node.origin, place, '-.->')} {place[node]}")
    return "\n".join(lines) + "\n"


def _box(node: Node, name: str) -> str:
    label = "<br/>".join(part for part in (name, _kind(node), f"{shape_of(node)} {node.unit}".strip()) if part)
    left, right = ("([", "])") if isinstance(node, InputNode) else ("[", "]")
    if isinstance(node, LossInput):
        left, right = "[/", "/]"
    return f'{left}"{label}"{right}'


def _arrow(source: Node, place: dict[Node, str], arrow: str) -> str:
    if isinstance(source, OutputNode):
        return f'{place[source.parents[0]]} {arrow}|"{source.key} {shape_of(source)} {source.unit}"|'.replace(
            ' "|', '"|'
        )
    return f"{place[source]} {arrow}"


def _whole(nodes: Iterable[Node]) -> Sequence[Node]:
    """The given nodes' ancestors; what a loss compares brings the network's graph with it."""
    nodes = list(nodes)
    above = ordered_ancestors(nodes)
    origins = [node.origin for node in above if isinstance(node, LossInput)]
    return ordered_ancestors([*origins, *nodes])


def _row(node: Node, names: dict[Node, str]) -> tuple[str, ...]:
    name = f"  {names[node]}" if isinstance(node, OutputNode) else names[node]
    sources = [node.origin] if isinstance(node, LossInput) else node.parents
    parents = ", ".join(names[parent] for parent in dict.fromkeys(sources))
    return name, _kind(node), shape_of(node), node.unit, node.db_name or "", parents


def _kind(node: Node) -> str:
    if isinstance(node, OutputNode):
        return "output"
    if isinstance(node.module, Arithmetic):
        return str(node.module)
    return type(node.module if type(node) in (Node, MultiNode) else node).__name__
