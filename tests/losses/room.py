"""What stands in the room of losses, and batches for any reduction in it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from forcefoundry import losses
from forcefoundry.losses import ReductionNode
from forcefoundry.losses.counted import Differences
from forcefoundry.losses.reduction import Reduction

Tensors = list[torch.Tensor]


class Given(torch.nn.Module):
    """Hands a stored prediction through as if a network had made it."""

    def forward(self, stored: torch.Tensor) -> torch.Tensor:
        return stored


def of_room(base: type) -> Iterator[type]:
    """Every finished class of a kind in the files of the room."""
    for info in pkgutil.iter_modules(losses.__path__):
        module = importlib.import_module(f"{losses.__name__}.{info.name}")
        for value in vars(module).values():
            defined = inspect.isclass(value) and value.__module__ == module.__name__
            if defined and issubclass(value, base) and value is not base and not inspect.isabstract(value):
                yield value


def compares(kind: type[Reduction[Any]]) -> bool:
    """Whether it compares predictions with true values."""
    return issubclass(kind.sees, Differences)


FOUND: list[type[Reduction[Any]]] = list(of_room(Reduction))
REDUCTIONS = [pytest.param(kind, id=kind.__name__) for kind in FOUND]
COMPARISONS = [pytest.param(kind, id=kind.__name__) for kind in FOUND if compares(kind)]
NODES = [pytest.param(kind, id=kind.__name__) for kind in of_room(ReductionNode) if hasattr(kind, "kind")]

# No smaller differences than this: products of far smaller ones have few digits left, whoever adds them up.
NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(kind: type[Reduction[Any]], *shape: int, seed: int = 0) -> Tensors:
    """Random values for a reduction, first the predictions."""
    return [random(*shape, seed=seed + n) for n in range(kind.sees.n_compared)]


def labels(kind: type[Reduction[Any]], given: Tensors) -> Tensors:
    """The values with labels to go with them: the true values where there are any, else further ones."""
    return list(given) if compares(kind) else [*given, torch.zeros_like(given[0])]


@st.composite
def batches(draw: st.DrawFn, kind: type[Reduction[Any]], weighted: bool, masked: bool) -> Tensors:
    """Values, weights where wanted, and labels absent ones among them where wanted; two that count differ."""
    n = draw(st.integers(2, 24))
    away = draw(st.sampled_from([0.0, -1e4, 1e8]))
    given = [torch.tensor(draw(st.lists(NUMBERS, min_size=n, max_size=n))) for _ in range(kind.sees.n_compared)]
    given = [numbers.double() + away for numbers in given]
    if away + 1.0 == given[-1][0] or float(given[-1].std()) == 0.0:
        given[-1][0] += 1.0
    given[-1][1] = given[-1][0] + 3.0
    if weighted:
        weights = torch.tensor(draw(st.lists(WEIGHTS, min_size=n, max_size=n)), dtype=torch.float64)
        weights[:2] = weights[:2].clamp(min=0.5)
        given.insert(kind.sees.n_compared, weights)
    if masked:
        given = labels(kind, given)
        absent = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        given[1 if compares(kind) else -1][torch.tensor([False, False, *absent[2:]])] = torch.nan
    return given


def pieces(given: Tensors, cuts: Sequence[int]) -> list[Tensors]:
    """The rows of a batch as several batches."""
    return [list(piece) for piece in zip(*(np.split(tensor, cuts) for tensor in given), strict=True)]


def numbers_of(state: Sequence[torch.Tensor]) -> tuple[float, ...]:
    """A state as it is merged."""
    return tuple(float(entry) for entry in state)


def merged(loss: Reduction[Any], states: list[tuple[float, ...]], order: Sequence[int] = ()) -> float:
    """The number of several states, merged pair by pair; `order` says which two neighbours are next."""
    states = list(states)
    for turn in range(len(states) - 1):
        at = order[turn] % (len(states) - 1) if order else 0
        states[at : at + 2] = [loss.merge(states[at], states[at + 1])]
    return float(loss.value(tuple(torch.tensor(states[0], dtype=torch.float64))))


def scale(kind: type[Reduction[Any]], given: Tensors, value: float) -> float:
    """What a number is to be exact in relation to: itself, or what cancelled in it."""
    if kind.higher_is_better:
        return max(1.0, abs(1.0 - value))
    return abs(value) if compares(kind) else max(abs(value), float(given[0].abs().max()))
