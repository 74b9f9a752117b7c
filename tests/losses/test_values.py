"""What losses are worth: against exact fractions, against torch, and by repetition."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from forcefoundry.losses.compare import (
    CoefficientOfDetermination,
    MeanAbsoluteError,
    MeanHuberError,
    MeanSquaredError,
    RootMeanSquaredError,
)
from forcefoundry.losses.counted import Differences
from forcefoundry.losses.reduction import Reduction
from forcefoundry.losses.statistics import MeanSquare, MeanValue
from tests.losses.room import compares, merged, numbers_of, pieces, random, values

Rows = list[tuple[Fraction, ...]]


def exact(batch: list[torch.Tensor]) -> Rows:
    """The numbers of a batch, without rounding; rows of weight zero and without label are left out."""
    rows = [[float(tensor[at]) for tensor in batch] for at in range(len(batch[0]))]
    return [tuple(map(Fraction, row)) for row in rows if not any(map(math.isnan, row)) and row[-1] != 0]


def mean(rows: Rows, number: Any) -> Fraction:
    """Σ w x / Σ w."""
    return Fraction(sum(row[-1] * number(*row[:-1]) for row in rows)) / sum(row[-1] for row in rows)


def huber(d: Fraction, delta: Fraction) -> Fraction:
    """Huber's function."""
    return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)


def determination(rows: Rows) -> Fraction:
    """R² with the variance of n values, weighted."""
    centre = mean(rows, lambda p, t: t)
    variance = mean(rows, lambda p, t: (t - centre) ** 2) * Fraction(len(rows), len(rows) - 1)
    return 1 - mean(rows, lambda p, t: (p - t) ** 2) / variance


EXACT: dict[type[Reduction[Any]], Any] = {
    MeanSquaredError: lambda rows: mean(rows, lambda p, t: (p - t) ** 2),
    MeanAbsoluteError: lambda rows: mean(rows, lambda p, t: abs(p - t)),
    MeanHuberError: lambda rows: mean(rows, lambda p, t: huber(p - t, Fraction(1))),
    CoefficientOfDetermination: determination,
    MeanValue: lambda rows: mean(rows, lambda v: v),
    MeanSquare: lambda rows: mean(rows, lambda v: v * v),
}


@pytest.mark.parametrize("away", [0.0, -1e4, 1e8])
@pytest.mark.parametrize("kind", EXACT)
def test_against_exact_fractions(kind: type[Reduction[Any]], away: float) -> None:
    batch = [tensor + away for tensor in values(kind, 60, seed=3)]
    weights = random(60, seed=4).abs()
    weights[::7] = 0.0
    if compares(kind):
        batch[1][5:9] = torch.nan
    for weighted in (False, True):
        w = weights if weighted else torch.ones(60, dtype=torch.float64)
        expected = EXACT[kind](exact([*batch, w]))
        loss = kind(weights="w" if weighted else None)
        given = [*batch, w] if weighted else batch
        states = [numbers_of(loss.state(loss.see(*piece))) for piece in pieces(given, [1, 2, 10, 30, 33])]
        # What R² is one short of is what is to be exact.
        scale = abs(1 - expected) if kind.higher_is_better else abs(expected)
        for found in (float(loss(*given)), merged(loss, states)):
            assert abs(Fraction(found) - expected) <= Fraction(1e-14) * scale + Fraction(1e-16), kind


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_take_only_what_counts_whatever_is_summed(weighted: bool) -> None:
    pred, true, weights = random(5), random(5, seed=1), torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0])
    true[1] = torch.nan
    counted = Differences((pred, true, weights) if weighted else (pred, true), "w" if weighted else None)
    number = torch.arange(1.0, 6.0, dtype=torch.float64)
    assert float(counted.sum(number)) == (1 + 9 + 25 if weighted else 1 + 3 + 4 + 5)
    assert float(counted.total) == (9 if weighted else 4)
    assert counted.number == (3 if weighted else 4)


def test_a_root_mean_square_is_the_root_and_has_no_steep_end() -> None:
    pred, true = random(7), random(7, seed=1)
    assert float(RootMeanSquaredError()(pred, true)) == math.sqrt(float(MeanSquaredError()(pred, true)))
    for at in (true, true + 1e-200):
        (gradient,) = torch.autograd.grad(RootMeanSquaredError()(p := at.clone().requires_grad_(), true), p)
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("delta", [1e-3, 0.5, 1.0, 40.0])
def test_huber_is_torchs_with_derivatives(delta: float) -> None:
    pred, true = 3 * random(200), random(200, seed=1)
    pred[:4] = true[:4] + torch.tensor([0.0, delta / 2, 2 * delta, -2 * delta])
    results = []
    for loss in (MeanHuberError(delta=delta), torch.nn.HuberLoss(delta=delta)):
        value = loss(p := pred.clone().requires_grad_(), true)
        (gradient,) = torch.autograd.grad(value, p, create_graph=True)
        (second,) = torch.autograd.grad((gradient * true).sum(), p)
        results.append((value, gradient, second))
    torch.testing.assert_close(results[0], results[1], rtol=1e-13, atol=1e-18)


@pytest.mark.parametrize("delta", [0.0, -1.0, math.inf, math.nan])
def test_a_huber_delta_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=r"'huber_e': delta is .*expected a finite number above 0"):
        MeanHuberError(called="huber_e", delta=delta)


@pytest.mark.parametrize("kind", [kind for kind in EXACT if not kind.higher_is_better])
def test_whole_weights_are_repetition(kind: type[Reduction[Any]]) -> None:
    batch, times = values(kind, 5), torch.tensor([3, 1, 0, 2, 7])
    repeated = [tensor.repeat_interleave(times) for tensor in batch]
    assert float(kind(weights="w")(*batch, times)) == pytest.approx(float(kind()(*repeated)), rel=1e-14)


def test_r2_of_energies_that_are_large_and_differ_little_merges_to_the_last_digits() -> None:
    true = -1e8 + 1e-2 * random(400)
    pred = true + 1e-3 * random(400, seed=1)
    loss = CoefficientOfDetermination()
    expected = determination(exact([pred, true, torch.ones(400)]))
    for cuts in ([], range(1, 400), range(7, 400, 7), [1], [399]):
        states = [numbers_of(loss.state(loss.see(*piece))) for piece in pieces([pred, true], list(cuts))]
        assert abs(Fraction(merged(loss, states)) - expected) <= Fraction(1e-12) * abs(1 - expected)


def test_r2_of_one_value_or_of_equal_ones_is_no_number() -> None:
    loss = CoefficientOfDetermination(weights="w")
    assert bool(loss(random(1), random(1, seed=1), torch.tensor([0.1])).isnan())
    assert bool(loss(random(3), random(3, seed=1), torch.tensor([0.0, 0.1, 0.0])).isnan())
    assert float(CoefficientOfDetermination()(random(3), torch.full((3,), 0.1))) == -math.inf
