"""Walking graphs. Each walk visits a node and an edge once, whatever the number of paths."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from difflib import get_close_matches
from typing import TypeVar

from forcefoundry.graph.node import InputNode, LossInput, Node

N = TypeVar("N", bound=Node)


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


def connected_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Everything that hangs together with the given nodes, by way of parents, children and what a loss compares.

    In order of first sight: the given nodes, then their parents and children, and so on outwards.
    """
    found: dict[Node, None] = dict.fromkeys(nodes)
    queue = list(found)
    for node in queue:  # grows while it is walked
        origin = [node.origin] if isinstance(node, LossInput) else []
        for other in (*node.parents, *origin, *node.children):
            if other not in found:
                found[other] = None
                queue.append(other)
    return queue


def find_relatives(nodes: Iterable[Node], wanted: type[N] | Callable[[Node], bool]) -> list[N]:
    """The nodes of a kind, or for which `wanted` is true, that hang together with the given ones; nearest first."""
    fits = (lambda node: isinstance(node, wanted)) if isinstance(wanted, type) else wanted
    return [node for node in connected_nodes(nodes) if fits(node)]  # type: ignore[misc]


def find_unique_relative(nodes: Iterable[Node], wanted: type[N] | Callable[[Node], bool], why: str = "") -> N:
    """The one relative of a kind; none or several is a ValueError that says which and what it was wanted for."""
    nodes = list(nodes)
    found = find_relatives(nodes, wanted)
    if len(found) != 1:
        kind = wanted.__name__ if isinstance(wanted, type) else getattr(wanted, "__name__", "node of that kind")
        raise ValueError(
            f"{', '.join(repr(node.name) for node in nodes)} {'has' if len(nodes) == 1 else 'have'} "
            f"{len(found) or 'no'} {kind} among {'its' if len(nodes) == 1 else 'their'} relatives"
            f"{' (' + ', '.join(repr(node.name) for node in found) + ')' if found else ''}, expected one"
            f"{' for ' + why if why else ''}. Give the node explicitly."
        )
    return found[0]


def search_by_name(nodes: Iterable[Node], name: str) -> Node:
    """The relative that is called that; an unknown name is a ValueError that says the nearest."""
    connected = connected_nodes(nodes)
    found = [node for node in connected if node.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{len(found)} nodes are called {name!r}: {', '.join(map(repr, found))}.")
    near = get_close_matches(name, [node.name for node in connected], n=1)
    raise ValueError(f"No node is called {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))


def input_named(nodes: Iterable[Node], db_name: str) -> InputNode:
    """The input of that column that the given nodes need; a ValueError where they do not need it."""
    nodes = list(nodes)
    for node in input_nodes(nodes):
        if node.db_name == db_name:
            return node
    raise ValueError(f"{', '.join(repr(node.name) for node in nodes)} does not depend on the column {db_name!r}.")


def names_of(nodes: Iterable[Node]) -> dict[Node, str]:
    """A name of its own for each node; anonymous ones are numbered in the order given.

    Two named nodes of one name are a ValueError, since weights and columns are found by name.
    """
    names: dict[Node, str] = {}
    taken: dict[str, Node] = {}
    for node in nodes:
        name = f"{node.name}_{len(names)}" if node.anonymous else node.name
        if taken.setdefault(name, node) is not node:
            both_given = isinstance(node, InputNode) and isinstance(taken[name], InputNode)
            raise ValueError(
                f"Two nodes are called {name!r}: {taken[name]!r}, {node!r}. "
                + (
                    "They belong to two graphs: build both from one input."
                    if both_given
                    else "Give one of them another name."
                )
            )
        names[node] = name
    return names
