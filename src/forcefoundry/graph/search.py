"""Walking graphs. Each walk visits a node and an edge once, whatever the number of paths."""

from __future__ import annotations

from collections.abc import Container, Iterable

from forcefoundry.graph.node import InputNode, Node


def ordered_ancestors(nodes: Iterable[Node], given: Container[Node] = ()) -> list[Node]:
    """All nodes that the given ones need, themselves included, parents before children.

    The walk goes no further up than nodes in `given`, which are left out.
    The order is the order of first sight from the given nodes and their parents, so it is the same in every process.
    A cycle (possible only by surgery) is a ValueError that names a node on it.
    """
    order: list[Node] = []
    done: set[Node] = set()
    under_way: set[Node] = set()
    for start in nodes:
        stack: list[tuple[Node, bool]] = [(start, False)]
        while stack:
            node, parents_done = stack.pop()
            if parents_done:
                under_way.discard(node)
                done.add(node)
                order.append(node)
            elif node in under_way:
                raise ValueError(f"The graph has a cycle through node {node.name!r}.")
            elif node not in done and node not in given:
                under_way.add(node)
                stack.append((node, True))
                # A node may stand on the stack twice before it is done; the second time finds it done.
                stack.extend((parent, False) for parent in reversed(node.parents) if parent not in done)
    return order


def input_nodes(nodes: Iterable[Node]) -> list[InputNode]:
    """The input nodes that the given nodes need, in order of first sight."""
    return [node for node in ordered_ancestors(nodes) if isinstance(node, InputNode)]


def names_of(nodes: Iterable[Node]) -> dict[Node, str]:
    """A name of its own for each node; anonymous ones are numbered in the order given.

    Two named nodes of one name are a ValueError, since weights and columns are found by name.
    """
    names: dict[Node, str] = {}
    taken: dict[str, Node] = {}
    for node in nodes:
        name = f"{node.name}_{len(names)}" if node.anonymous else node.name
        if taken.setdefault(name, node) is not node:
            raise ValueError(
                f"Two nodes are called {name!r}: {taken[name]!r}, {node!r}. Give one of them another name."
            )
        names[node] = name
    return names
