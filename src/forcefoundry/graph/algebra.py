"""Arithmetic between nodes: +, -, *, / and ** with nodes and numbers, on either side."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
}


class Arithmetic(torch.nn.Module):
    """One operation on two values; a `constant` takes the place of the left or the right one."""

    def __init__(self, symbol: str, constant: float | None = None, constant_left: bool = False):
        super().__init__()
        self.symbol, self.constant, self.constant_left = symbol, constant, constant_left

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Combine one tensor with the constant, or two tensors."""
        left: Any
        right: Any
        left, right = values if self.constant is None else (values[0], self.constant)
        # `operator` does the right thing for a number on the left: 2.0 ** x is a power, 2.0 / x a quotient.
        if self.constant_left:
            left, right = right, left
        result: torch.Tensor = _OPERATIONS[self.symbol](left, right)
        return result


N = TypeVar("N")


class Operators(ABC, Generic[N]):
    """The operators of a node; `_combined` makes the node that holds the result."""

    @abstractmethod
    def _combined(self, parents: tuple[Any, ...], module: Arithmetic) -> N: ...

    def _with(self, symbol: str, other: Any, swapped: bool = False) -> N:
        if isinstance(other, Operators):
            return self._combined((other, self) if swapped else (self, other), Arithmetic(symbol))
        if isinstance(other, bool) or not isinstance(other, (int, float)):
            raise ValueError(f"{self!r} cannot be combined with {other!r}: expected a node or a number.")
        return self._combined((self,), Arithmetic(symbol, float(other), swapped))

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
