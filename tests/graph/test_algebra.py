"""Arithmetic between nodes does what torch does with the values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcefoundry.columns import Axis
from forcefoundry.graph import GraphModule, InputNode, Node

OPERATIONS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
X = torch.tensor([0.5, 1.5, 2.0, 3.25], dtype=torch.float64)
Y = torch.tensor([2.0, 0.25, 3.0, 1.0], dtype=torch.float64)


def given_node(name: str) -> InputNode:
    return InputNode(name, axis=Axis.SYSTEM, unit="1")


def value(node: Node, **values: torch.Tensor) -> torch.Tensor:
    """Run a node on values given by the name of their inputs."""
    inputs = [n for n in _all_inputs(node) if n.name in values]
    return GraphModule(inputs, [node])(*(values[n.name] for n in inputs))[0]


def _all_inputs(node: Node) -> list[Node]:
    from forcefoundry.graph import ordered_ancestors

    return [n for n in ordered_ancestors([node]) if not n.parents]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_two_nodes(operation: Callable[[Any, Any], Any]) -> None:
    x, y = given_node("x"), given_node("y")
    assert torch.equal(value(operation(x, y), x=X, y=Y), operation(X, Y))
    assert torch.equal(value(operation(y, x), x=X, y=Y), operation(Y, X))
    assert torch.equal(value(operation(x, x), x=X), operation(X, X))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("number", [2.0, 3, 0.5, 1e-6])
def test_numbers_on_either_side(operation: Callable[[Any, Any], Any], number: float) -> None:
    x = given_node("x")
    assert torch.equal(value(operation(x, number), x=X), operation(X, number))
    assert torch.equal(value(operation(number, x), x=X), operation(number, X))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", [torch.tensor, np.array, lambda v: torch.tensor(v, dtype=torch.int64), np.float32])
def test_arrays_on_either_side(operation: Callable[[Any, Any], Any], kind: Callable[[Any], Any]) -> None:
    x = given_node("x")
    array = kind([1, 2, 3, 4])
    same = torch.as_tensor(array).to(torch.float64)
    assert torch.equal(value(operation(x, array), x=X), operation(X, same))
    assert torch.equal(value(operation(array, x), x=X), operation(same, X))
    single = value(operation(array, x), x=X.float())
    assert single.dtype == torch.float32


def test_an_array_is_a_copy_that_moves_with_the_module_and_is_no_weight() -> None:
    array = np.ones(4)
    module = GraphModule([x := given_node("x")], [x * array])
    array[:] = 7.0
    assert torch.equal(module(X)[0], X)
    assert not module.state_dict()
    assert [buffer.device.type for buffer in module.to("meta").buffers()] == ["meta"]


def test_rows_of_different_kinds_do_not_mix() -> None:
    of_atoms = InputNode("y", axis=Axis.ATOM, unit="1")
    with pytest.raises(ValueError, match=r"'mul' joins 'x', .* each system, with 'y', .* each atom"):
        given_node("x") * of_atoms


def test_what_the_origin_got_wrong() -> None:
    x = given_node("x")
    assert torch.equal(value(2.0**x, x=X), torch.tensor(2.0, dtype=torch.float64) ** X)
    assert torch.equal(value(1 / x, x=X), X.reciprocal())
    assert torch.equal(value(-x, x=X), -X)
    assert torch.equal(value(-(x**2), x=X), -X * X)


@given(st.recursive(st.sampled_from(["x", "y", 2.0, 0.75]), lambda a: st.tuples(st.integers(0, 2), a, a), max_leaves=8))
def test_any_expression(tree: Any) -> None:
    x, y = given_node("x"), given_node("y")

    def built(part: Any, leaves: dict[str, Any]) -> Any:
        if isinstance(part, tuple):
            return OPERATIONS[part[0]](built(part[1], leaves), built(part[2], leaves))
        return leaves.get(part, part)

    expected = built(tree, {"x": X, "y": Y})
    node = built(tree, {"x": x, "y": y})
    if isinstance(node, Node):
        found = value(node, x=X, y=Y)
        assert torch.equal(found, expected)


def test_gradients_flow() -> None:
    x = given_node("x")
    at = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(2.0**x / x - 3, x=at).sum(), at)
    fresh = X.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad((2.0**fresh / fresh - 3).sum(), fresh)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize(
    "other", ["2", None, True, [1.0], torch.ones(2) > 0, np.array(["a"]), float("nan"), np.array([np.inf])]
)
def test_what_is_neither_node_nor_number_is_refused(other: object) -> None:
    with pytest.raises(
        ValueError, match=r"InputNode\('x'\) cannot be combined with .*expected a node, a finite number or an array"
    ):
        given_node("x") + other


def test_the_axis_is_inherited() -> None:
    assert (1.0 / given_node("x")).axis is Axis.SYSTEM


def test_rows_stay_together_whatever_their_number() -> None:
    one, three = InputNode("energy"), InputNode("dipole")
    for n in (1, 2, 3):
        single, vector = torch.arange(1.0, n + 1), torch.arange(3.0 * n).reshape(n, 3)
        module = GraphModule([one, three], [three / one, one * three])
        quotient, product = module(single, vector)
        assert torch.equal(quotient, vector / single[:, None])
        assert torch.equal(product, vector * single[:, None])
    assert (three / one).shape == (one * three).shape == (3,)


def test_shapes_that_do_not_fit_are_told() -> None:
    energy, dipole, cell = InputNode("energy"), InputNode("dipole"), InputNode("cell")
    assert (dipole * np.ones(3)).shape == (3,)
    assert (cell * dipole).shape == (3, 3)
    with pytest.raises(ValueError, match=r"'energy' has rows of shape \(\), the array has shape \(3,\)"):
        energy * np.ones(3)
    with pytest.raises(ValueError, match=r"the array has shape \(2,\). An array must fit one row"):
        dipole * np.ones(2)


def test_a_column_beside_numbers_is_no_table() -> None:
    x, y = given_node("x"), given_node("y")
    found = GraphModule([x, y], [x - y])(X[:, None], Y)[0]
    assert torch.equal(found, (X - Y)[:, None])
