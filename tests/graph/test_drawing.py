"""Graphs for people: every node with its shape, unit and parents."""

from __future__ import annotations

import re

import numpy as np
import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import InputNode, Node, as_mermaid, as_text, names_of, ordered_ancestors
from forcefoundry.graph.drawing import shape_of
from tests.builders import objective


def test_the_table_lists_every_node_with_shape_unit_column_and_parents() -> None:
    what = objective()
    lines = as_text([what.train_loss]).splitlines()
    found = {line.split()[0]: line.split() for line in lines[1:]}
    assert found["positions"] == ["positions", "InputNode", "(N,", "3)", "Å", "positions"]
    assert found["energy"] == ["energy", "output", "(S,)", "eV", "energy", "energy_readout"]
    assert found["forces"][:5] == ["forces", "ForcesNode", "(N,", "3)", "eV/Å"]
    assert found["network_level1"][1:4] == ["output", "(N,", "5)"]
    assert found["energy_pred"][-1] == "energy"  # what is compared leads back to the network's graph
    order = list(found)
    assert order.index("network") < order.index("energy") < order.index("energy_pred")
    nodes = {*ordered_ancestors([*what.outputs.values()]), *ordered_ancestors([what.train_loss])}
    assert len(lines) == 1 + len(nodes)


def test_the_drawing_has_every_edge_once_and_nothing_dangling() -> None:
    what = objective()
    lines = as_mermaid([what.train_loss]).splitlines()
    assert lines[0] == "flowchart TD"
    boxes = dict(re.findall(r'^    (n\d+)[\[(/]+"(.*?)<br/>', "\n".join(lines), re.M))
    arrows = [re.match(r'^    (n\d+) (-->|-\.->)(\|".*"\|)? (n\d+)$', line) for line in lines[1:] if "->" in line]
    assert all(arrows)
    edges = [(m[1], m[3], m[4]) for m in arrows if m]
    assert len(set(edges)) == len(edges) > 20
    assert {end for start, _, last in edges for end in (start, last)} == set(boxes)
    named = {(boxes[a], label, boxes[b]) for a, label, b in edges}
    assert ("energy_readout", '|"energy (S,) eV"|', "forces") in named
    assert any(a == "energy_readout" and b == "energy_pred" for a, _, b in named)
    assert len(lines) == 1 + len(boxes) + len(edges)


def test_operations_are_shown_with_their_constants() -> None:
    x = InputNode("x", axis=Axis.SYSTEM, unit="1")
    text = as_text([2.0**x, x / 3.0, np.ones(4) - x, x + x])
    for shown in ("2 ** a", "a / 3", "array[4] - a", "a + b"):
        assert shown in text


def test_shapes_in_letters() -> None:
    assert shape_of(InputNode("cell")) == "(S, 3, 3)"
    assert shape_of(Node("x", axis=Axis.PAIR, shape=())) == "(P,)"
    assert shape_of(Node("x", axis=Axis.ATOM)) == "(N, ...)"
    assert shape_of(Node("x")) == ""
    assert shape_of(Node("x", shape=())) == "()"


def test_names_are_those_of_the_weights() -> None:
    what = objective()
    nodes = ordered_ancestors(what.outputs.values())
    shown = {line.split()[0] for line in as_text(what.outputs.values()).splitlines()[1:]}
    assert shown == set(names_of(nodes).values())
    assert torch.nn.Module.__name__ not in shown
