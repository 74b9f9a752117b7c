"""The laws of losses: every reduction in the room is zero at the truth, smooth there, and exact when streamed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefoundry import losses as room
from forcefoundry.losses import L2, LossNode
from forcefoundry.losses.reduction import Reduction
from forcefoundry.networks.base import NetworkNode
from tests.builders import objective


def of_room(base: type) -> Iterator[type]:
    """Every finished class of a kind in the files of the room."""
    for info in pkgutil.iter_modules(room.__path__):
        module = importlib.import_module(f"{room.__name__}.{info.name}")
        for value in vars(module).values():
            defined = inspect.isclass(value) and value.__module__ == module.__name__
            if defined and issubclass(value, base) and value is not base and not inspect.isabstract(value):
                yield value


REDUCTIONS = [pytest.param(kind, id=kind.__name__) for kind in of_room(Reduction)]
NODES = [pytest.param(kind, id=kind.__name__) for kind in of_room(LossNode)]
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


def test_the_room_is_not_empty() -> None:
    assert {param.id for param in REDUCTIONS} >= {"MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError"}
    assert {param.id for param in NODES} >= {"MSE", "RMSE", "MAE", "R2"}


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5,), (7, 3), (4, 3, 3)])
def test_perfect_at_the_truth_with_a_finite_gradient(kind: type[Reduction], shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(shape, generator=generator, dtype=torch.float64)
    pred = true.clone().requires_grad_(True)
    value = kind()(pred, true)
    assert value.shape == ()
    assert float(value.detach()) == (1.0 if kind.higher_is_better else 0.0)
    (gradient,) = torch.autograd.grad(value, pred, create_graph=True)
    assert bool(torch.isfinite(gradient).all())
    (second,) = torch.autograd.grad(gradient.sum(), pred, allow_unused=True, materialize_grads=True)
    assert bool(torch.isfinite(second).all())


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_worse_predictions_are_judged_worse(kind: type[Reduction]) -> None:
    generator = torch.Generator().manual_seed(0)
    true, noise = (torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(2))
    values = [float(kind()(true + size * noise, true)) for size in (0.0, 0.1, 0.2, 0.4, 3.0)]
    expected = sorted(values, reverse=kind.higher_is_better)
    assert values == expected
    assert len(set(values)) == 5


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_gradients_are_those_of_finite_differences(kind: type[Reduction]) -> None:
    generator = torch.Generator().manual_seed(1)
    pred, true = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p: kind()(p, true), (pred.requires_grad_(True),))


@pytest.mark.parametrize("kind", REDUCTIONS)
@given(data=st.data())
@settings(max_examples=40)
def test_streamed_is_whole(kind: type[Reduction], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=30))
    true = torch.tensor([t for t, _ in rows], dtype=torch.float64)
    pred = torch.tensor([p for _, p in rows], dtype=torch.float64)
    if float(true.std()) < 1e-3:
        true[0] += 1.0
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1), max_size=6)))
    parts = list(zip(np.split(np.arange(len(rows)), cuts), strict=True))
    loss = kind()
    state = None
    for (part,) in parts:
        new = loss.state(pred[part], true[part])
        assert all(entry.shape == () for entry in new)
        state = new if state is None else loss.merge(state, new)
    assert state is not None
    whole = float(loss(pred, true))
    streamed = float(loss.value(state))
    scale = abs(whole) if not kind.higher_is_better else max(1.0, abs(1.0 - whole))
    assert abs(streamed - whole) <= 1e-12 * scale


@pytest.mark.parametrize("kind", NODES)
def test_a_loss_of_a_node_compares_its_prediction_with_its_truth(kind: type[LossNode]) -> None:
    energy = objective().outputs["energy"]
    loss = kind.of_node(energy)
    assert loss.parents == (energy.pred, energy.true)
    assert loss.name == f"{kind.kind}_energy"


def test_an_l2_penalty_is_the_sum_of_squares_and_pulls_towards_zero() -> None:
    what = objective()
    (features,) = (node for node in _above(what.outputs["energy"]) if isinstance(node, NetworkNode))
    penalty = L2(features).module
    assert penalty is not None
    value = penalty()
    expected = sum(float((weight.detach() ** 2).sum()) for weight in what.network.penalised())
    assert float(value.detach()) == pytest.approx(expected, rel=1e-13)
    weights = what.network.penalised()
    for weight, gradient in zip(weights, torch.autograd.grad(value, weights), strict=True):
        assert torch.equal(gradient, 2 * weight)
    with torch.no_grad():
        for weight in weights:
            weight.zero_()
    assert float(penalty().detach()) == 0.0


def _above(node: object) -> list[object]:
    from forcefoundry.graph import Node, ordered_ancestors

    assert isinstance(node, Node)
    return list(ordered_ancestors([node]))
