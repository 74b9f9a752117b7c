"""The laws of losses: zero at the truth and smooth there; exact when streamed; blind to what does not count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefoundry.losses.reduction import Reduction
from tests.losses.room import (
    COMPARISONS,
    NODES,
    REDUCTIONS,
    Tensors,
    batches,
    compares,
    labels,
    merged,
    numbers_of,
    pieces,
    random,
    scale,
    values,
)

Kind = type[Reduction[Any]]
WAYS = [
    pytest.param(w, m, id=f"{'weighted' if w else 'even'}-{'masked' if m else 'all'}") for w in (0, 1) for m in (0, 1)
]


def made(kind: Kind, weighted: bool = False) -> Reduction[Any]:
    """A reduction, told that weights come where they do."""
    return kind(weights="w" if weighted else None)


def test_the_room_is_not_empty() -> None:
    assert {param.id for param in REDUCTIONS} >= {
        "MeanSquaredError",
        "RootMeanSquaredError",
        "MeanAbsoluteError",
        "MeanHuberError",
        "CoefficientOfDetermination",
        "MeanValue",
        "MeanSquare",
    }
    assert {param.id for param in NODES} == {"MSE", "RMSE", "MAE", "R2", "Huber", "Mean", "MeanSq"}


@pytest.mark.parametrize("kind", COMPARISONS)
@pytest.mark.parametrize("shape", [(5,), (7, 3), (4, 3, 3)])
def test_perfect_at_the_truth_with_a_finite_gradient(kind: Kind, shape: tuple[int, ...]) -> None:
    true = random(*shape)
    pred = true.clone().requires_grad_(True)
    value = kind()(pred, true)
    assert value.shape == ()
    assert float(value.detach()) == (1.0 if kind.higher_is_better else 0.0)
    (gradient,) = torch.autograd.grad(value, pred, create_graph=True)
    assert bool(torch.isfinite(gradient).all())
    (second,) = torch.autograd.grad(gradient.sum(), pred, allow_unused=True, materialize_grads=True)
    assert bool(torch.isfinite(second).all())


@pytest.mark.parametrize("kind", COMPARISONS)
def test_worse_predictions_are_judged_worse(kind: Kind) -> None:
    true, noise = random(50, seed=0), random(50, seed=1)
    found = [float(kind()(true + size * noise, true)) for size in (0.0, 0.1, 0.2, 0.4, 3.0)]
    assert found == sorted(found, reverse=kind.higher_is_better)
    assert len(set(found)) == 5


@pytest.mark.parametrize(("weighted", "masked"), WAYS)
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_gradients_are_those_of_finite_differences(kind: Kind, weighted: bool, masked: bool) -> None:
    pred, *rest = values(kind, 4, 2, seed=1)
    further = [random(4, seed=9).abs()] if weighted else []
    if masked:
        rest = rest or labels(kind, [pred])[1:]
        rest[0][1:3, 0] = torch.nan
    rest = [*rest, *further] if compares(kind) else [*further, *rest]
    loss = made(kind, weighted)
    assert torch.autograd.gradcheck(lambda p: loss(p, *rest), (pred.requires_grad_(True),))
    assert torch.autograd.gradgradcheck(lambda p: loss(p, *rest), (pred,))


@pytest.mark.parametrize(("weighted", "masked"), WAYS)
@pytest.mark.parametrize("kind", REDUCTIONS)
@given(data=st.data())
@settings(max_examples=20)
def test_streamed_is_whole_in_any_batches_and_any_order(
    kind: Kind, weighted: bool, masked: bool, data: st.DataObject
) -> None:
    batch = data.draw(batches(kind, weighted, masked))
    n = len(batch[0])
    loss = made(kind, weighted)
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=6)))
    found = [loss.state(loss.see(*piece)) for piece in pieces(batch, cuts)]
    assert all(entry.shape == () and entry.dtype == torch.float64 for state in found for entry in state)
    states = data.draw(st.permutations([numbers_of(state) for state in found]))
    turns = data.draw(st.lists(st.integers(0, 9), min_size=len(states), max_size=len(states)))
    whole = float(loss(*batch))
    assert abs(merged(loss, states, turns) - whole) <= 1e-12 * scale(kind, batch, whole)
    rows = torch.tensor(data.draw(st.permutations(range(n))))
    shuffled = float(loss(*(tensor[rows] for tensor in batch)))
    assert abs(shuffled - whole) <= 1e-12 * scale(kind, batch, whole)


def without(batch: Tensors, rows: torch.Tensor) -> Tensors:
    """The batch less some rows."""
    return [tensor[~rows] for tensor in batch]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("fault", [0.0, 1e300, torch.nan, torch.inf])
def test_what_is_not_labelled_is_as_if_it_were_not_there(kind: Kind, weighted: bool, fault: float) -> None:
    batch = labels(kind, values(kind, 9))
    if weighted:
        batch.insert(kind.sees.n_compared, random(9, seed=7).abs())
    rows = torch.tensor([True, False, False, True, False, False, False, False, True])
    batch[1 if compares(kind) else -1][rows] = torch.nan
    batch[0][rows] = fault
    loss = made(kind, weighted)
    _same_without(loss, batch, rows)


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("fault", [0.0, 1e300, torch.nan, torch.inf])
def test_a_weight_of_zero_is_as_if_the_row_were_not_there(kind: Kind, fault: float) -> None:
    batch = [*values(kind, 6), torch.tensor([0.0, 2.0, 1.0, 0.0, 0.5, 3.0], dtype=torch.float64)]
    rows = batch[-1] == 0
    batch[0][rows] = fault
    _same_without(made(kind, True), batch, rows)


def _same_without(loss: Reduction[Any], batch: Tensors, rows: torch.Tensor) -> None:
    batch[0].requires_grad_(True)
    value, expected = loss(*batch), loss(*without(batch, rows))
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-14)
    got, wanted = (torch.autograd.grad(one, batch[0], create_graph=True)[0] for one in (value, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-16)
    assert bool((got[rows] == 0).all())
    if got.requires_grad:  # the mean has no second derivative
        got, wanted = (
            torch.autograd.grad((one * torch.arange(len(one))).sum(), batch[0], materialize_grads=True)[0]
            for one in (got, wanted)
        )
        torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-16)
        assert bool((got[rows] == 0).all())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_a_batch_in_which_nothing_counts_gives_exactly_zero(kind: Kind, weighted: bool) -> None:
    for shape in [(3,), (2, 3), (0,), (0, 3)]:
        batch = labels(kind, values(kind, *shape))
        batch[1 if compares(kind) else -1].fill_(torch.nan)
        if weighted:
            batch.insert(kind.sees.n_compared, torch.ones(shape[0], dtype=torch.float64))
        batch[0].requires_grad_(True)
        loss = made(kind, weighted)
        value = loss(*batch)
        (gradient,) = torch.autograd.grad(3.0 * value, batch[0], create_graph=True)
        assert float(value.detach()) == 0.0
        assert bool((gradient == 0).all())
        state = loss.state(loss.see(*batch))
        assert float(state[0]) == 0.0
        assert bool(loss.value(state).isnan())


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_a_prediction_that_is_not_a_number_stays_to_be_seen(kind: Kind) -> None:
    batch = labels(kind, values(kind, 5, 3))
    batch[0][2, 1] = torch.nan
    assert bool(kind()(*batch).isnan())
    batch[1][0] = torch.nan  # another row is not labelled
    loss = kind()
    assert bool(loss(*batch).isnan())
    states = [numbers_of(loss.state(loss.see(*piece))) for piece in pieces(batch, [1, 2, 4])]
    assert merged(loss, states) != merged(loss, states)


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_equal_weights_weigh_nothing_and_only_their_ratios_count(kind: Kind) -> None:
    batch, weights = values(kind, 8, 3), random(8, seed=5).abs()
    even = float(kind()(*batch))
    loss = made(kind, True)
    for weight in (1.0, 0.1, 7e3):
        assert float(loss(*batch, torch.full((8,), weight))) == pytest.approx(even, rel=1e-7)
        assert float(loss(*batch, torch.full((8,), weight).double())) == pytest.approx(even, rel=1e-13)
    weighted = float(loss(*batch, weights))
    assert weighted != pytest.approx(even, rel=1e-3)
    assert float(loss(*batch, 1e-5 * weights)) == pytest.approx(weighted, rel=1e-13)
    each = weights[:, None].expand(8, 3).clone()
    assert float(loss(*batch, weights[:, None])) == float(loss(*batch, each)) == weighted


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("wrong", [-1e-9, torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_none_are_refused_by_name(kind: Kind, wrong: float) -> None:
    weights = torch.ones(4, dtype=torch.float64)
    weights[2] = wrong
    loss = kind(weights="trust", called="some_loss")
    with pytest.raises(ValueError, match=r"'some_loss': a weight in 'trust' is (-1e-09|nan|-?inf), expected finite"):
        loss(*values(kind, 4), weights)
    batch = labels(kind, values(kind, 4))
    batch[1 if compares(kind) else -1][2] = torch.nan  # where nothing is labelled, no weight is asked for
    batch.insert(kind.sees.n_compared, weights)
    assert bool(loss(*batch).isfinite())


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_an_infinite_label_is_refused(kind: Kind) -> None:
    batch = labels(kind, values(kind, 4, 3))
    batch[1][2, 1] = -torch.inf
    with pytest.raises(ValueError, match="'some_loss': a true value is infinite"):
        kind(called="some_loss")(*batch)


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_states_are_float64_whatever_comes_in(kind: Kind) -> None:
    batch = values(kind, 100, 3)
    batch[0] = batch[0].float()
    loss = kind()
    state = loss.state(loss.see(*batch))
    assert {entry.dtype for entry in state} == {torch.float64}
    assert float(loss(*batch)) == float(loss(batch[0].double(), *batch[1:]))


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_weights_that_do_not_fit_are_told_not_broadcast(kind: Kind) -> None:
    loss = made(kind, True)
    for shape in [(3,), (5, 3), (3, 5), (1, 5)]:
        with pytest.raises(ValueError, match=r"weights or labels have shape .*expected \(5,\)"):
            loss(*values(kind, 5), torch.ones(shape))
