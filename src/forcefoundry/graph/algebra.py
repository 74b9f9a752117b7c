"""Arithmetic between nodes: +, -, *, / and ** with nodes, numbers and arrays, on either side."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch

Constant = float | torch.Tensor

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
}


class Arithmetic(torch.nn.Module):
    """One operation on two values; a `constant`, number or array, takes the place of the left or the right one."""

    def __init__(self, symbol: str, constant: Constant | None = None, constant_left: bool = False):
        super().__init__()
        self.symbol, self.constant_left = symbol, constant_left
        self.constant_shape = tuple(constant.shape) if isinstance(constant, torch.Tensor) else ()
        self.constant: Constant | None
        if isinstance(constant, torch.Tensor):
            # An array moves with the model; what it is follows from the graph, so no state_dict holds it.
            self.register_buffer("constant", constant, persistent=False)
        else:
            self.constant = constant

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Combine one tensor with the constant, or two tensors."""
        left: Any
        right: Any
        constant = self.constant
        if isinstance(constant, torch.Tensor):
            constant = constant.to(values[0].dtype)
        left, right = _rows_together(*values) if constant is None else (values[0], constant)
        # `operator` does the right thing for a number on the left: 2.0 ** x is a power, 2.0 / x a quotient.
        if self.constant_left:
            left, right = right, left
        result: torch.Tensor = _OPERATIONS[self.symbol](left, right)
        return result

    def __str__(self) -> str:
        sign = {"add": "+", "sub": "-", "mul": "×", "div": "/", "pow": "**"}[self.symbol]
        if self.constant is None:
            return f"a {sign} b"
        shown = f"array{list(self.constant_shape)}" if isinstance(self.constant, torch.Tensor) else f"{self.constant:g}"
        return f"{shown} {sign} a" if self.constant_left else f"a {sign} {shown}"


N = TypeVar("N")


class Operators(ABC, Generic[N]):
    """The operators of a node; `_combined` makes the node that holds the result."""

    # NumPy would take a node for an array of one object and go element by element; told so, it leaves it to the node.
    __array_ufunc__ = None

    @abstractmethod
    def _combined(self, parents: tuple[Any, ...], module: Arithmetic) -> N: ...

    def _with(self, symbol: str, other: Any, swapped: bool = False) -> N:
        if isinstance(other, Operators):
            return self._combined((other, self) if swapped else (self, other), Arithmetic(symbol))
        return self._combined((self,), Arithmetic(symbol, _constant(self, other), swapped))

    def __add__(self, other: Any) -> N:
        return self._with("add", other)

    def __radd__(self, other: Any) -> N:
        return self._with("add", other, swapped=True)

    def __sub__(self, other: Any) -> N:
        return self._with("sub", other)

    def __rsub__(self, other: Any) -> N:
        return self._with("sub", other, swapped=True)

    def __mul__(self, other: Any) -> N:
        return self._with("mul", other)

    def __rmul__(self, other: Any) -> N:
        return self._with("mul", other, swapped=True)

    def __truediv__(self, other: Any) -> N:
        return self._with("div", other)

    def __rtruediv__(self, other: Any) -> N:
        return self._with("div", other, swapped=True)

    def __pow__(self, other: Any) -> N:
        return self._with("pow", other)

    def __rpow__(self, other: Any) -> N:
        return self._with("pow", other, swapped=True)

    def __neg__(self) -> N:
        return self._with("mul", -1.0)


def _rows_together(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two values whose rows belong together, one number a row beside several: the shorter shape gets trailing ones.

    Broadcasting alone would align the last axes, and take three systems for three components.
    """
    if left.ndim == right.ndim or not left.ndim or not right.ndim:
        return left, right
    if left.ndim < right.ndim:
        return left.reshape(*left.shape, *[1] * (right.ndim - left.ndim)), right
    return left, right.reshape(*right.shape, *[1] * (left.ndim - right.ndim))


def _constant(node: Any, other: Any) -> Constant:
    """A number, or an array as a tensor of its own; anything else, and NaN, is a ValueError."""
    value: Constant | None = None
    if isinstance(other, (int, float, np.integer, np.floating)) and not isinstance(other, bool):
        value = float(other)
    elif isinstance(other, torch.Tensor) or (isinstance(other, np.ndarray) and other.dtype.kind in "iuf"):
        array = torch.as_tensor(other).detach()
        if array.dtype is not torch.bool and not array.is_complex():
            value = float(array) if array.ndim == 0 else array.to(torch.float64, copy=True)
    if value is None or not bool(torch.isfinite(torch.as_tensor(value)).all()):
        raise ValueError(f"{node!r} cannot be combined with {other!r}: expected a node, a finite number or an array.")
    return value
