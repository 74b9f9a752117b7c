"""Penalties on the weights of a network."""

from __future__ import annotations

import copy

import pytest
import torch

from forcefoundry.graph import ordered_ancestors
from forcefoundry.losses import L1, L2, MSE
from forcefoundry.networks.base import NetworkNode
from forcefoundry.objectives import Objective
from tests.builders import objective

POWERS = {L1: 1, L2: 2}


def features(what: Objective) -> NetworkNode:
    """The network's node."""
    (node,) = (n for n in ordered_ancestors([what.outputs["energy"]]) if isinstance(n, NetworkNode))
    return node


@pytest.mark.parametrize("kind", POWERS)
def test_a_sum_over_the_weights_that_pulls_towards_zero(kind: type[L1 | L2]) -> None:
    what = objective()
    node = kind(features(what))
    assert node.name == f"{kind.kind}_network"
    penalty, weights = node.module, what.network.penalised()
    assert penalty is not None
    value = penalty()
    expected = sum(float((weight.detach().abs() ** POWERS[kind]).sum()) for weight in weights)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-13)
    for weight, gradient in zip(weights, torch.autograd.grad(value, weights), strict=True):
        assert torch.equal(gradient, 2 * weight if kind is L2 else weight.sign())
    with torch.no_grad():
        for weight in weights:
            weight.zero_()
    value = penalty()
    assert float(value.detach()) == 0.0
    assert not any(bool(gradient.any()) for gradient in torch.autograd.grad(value, weights))


@pytest.mark.parametrize("kind", POWERS)
def test_float32_weights_are_summed_in_float64_and_a_copy_sees_later_weights(kind: type[L1 | L2]) -> None:
    what = objective()
    what.network.float()
    penalty = kind(features(what)).module
    assert penalty is not None
    copied = copy.deepcopy(penalty)
    with torch.no_grad():
        for weight in what.network.penalised():
            weight.mul_(3.0)
    value = float(penalty().detach())
    expected = sum(float((weight.detach().double().abs() ** POWERS[kind]).sum()) for weight in what.network.penalised())
    assert value == pytest.approx(expected, rel=1e-7)
    assert penalty().dtype == torch.float64
    assert float(copied().detach()) == value
    assert not list(penalty.parameters())


@pytest.mark.parametrize("kind", POWERS)
def test_what_is_no_network_is_refused(kind: type[L1 | L2]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} got .*expected the node of a network"):
        kind(MSE.of_node(objective().outputs["energy"]))  # type: ignore[arg-type]
