"""What HIP-NN makes of single atoms and of small arrangements, and which arguments it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional

from forcefoundry.build import seeded
from forcefoundry.networks.activations import ACTIVATIONS
from forcefoundry.networks.hipnn import HIPNN
from tests.builders import network

NO_PAIRS = (torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, 3, dtype=torch.float64)


def features(net: HIPNN, vectors: torch.Tensor) -> torch.Tensor:
    """The last features of an atom (oxygen) that has neighbours (hydrogen) at the given vectors (P, 3)."""
    n = len(vectors)
    species = torch.tensor([8] + [1] * n)
    i, j = torch.zeros(n, dtype=torch.int64), torch.arange(1, n + 1)
    last: torch.Tensor = net(species, i, j, vectors, torch.linalg.vector_norm(vectors, dim=1))[-1]
    return last[0].detach()


def shell(*rows: tuple[float, float, float], r: float = 1.7) -> torch.Tensor:
    """Neighbours in the given directions, all at r, Å."""
    u = torch.tensor(rows, dtype=torch.float64)
    return r * u / u.norm(dim=1, keepdim=True)


LINE = shell((0, 0, 1), (0, 0, -1), (0, 0, 1), (0, 0, -1))
SQUARE = shell((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))
TETRAHEDRON = shell((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
ONE_SIDE = shell((0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1))


@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_what_an_atom_sees_of_directions(l_max: int) -> None:
    """One layer: distances see no shape; vectors see a lopsided one; quadrupoles tell line, square and ball apart."""
    net = network(n_interactions=1, l_max=l_max)
    for needed, first, second in ((1, ONE_SIDE, LINE), (2, LINE, SQUARE), (2, SQUARE, TETRAHEDRON)):
        a, b = features(net, first), features(net, second)
        if l_max >= needed:
            assert float((a - b).abs().max()) > 1e-3
        else:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("l_max", [1, 2])
def test_turned_and_mirrored_neighbours_are_seen_alike(l_max: int) -> None:
    """An arrangement without symmetry, so that no tensor is 0; each tensor counts, and none tells the turn."""
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    vectors *= 1.5 / vectors.norm(dim=1, keepdim=True)
    net = network(n_interactions=1, l_max=l_max)
    expected = features(net, vectors)
    for seed in range(3):
        turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix()) * (-1.0) ** seed
        torch.testing.assert_close(features(net, vectors @ turn), expected, rtol=1e-12, atol=1e-12)
    for order in range(1, l_max + 1):
        scale = getattr(net.blocks[0].interaction, f"t{order}")
        kept = scale.detach().clone()
        with torch.no_grad():
            scale.zero_()
            assert float((features(net, vectors) - expected).abs().max()) > 1e-3
            scale.copy_(kept)


@pytest.mark.parametrize(("cusp", "resnet"), [(1e-6, True), (0.25, True), (0.25, False)])
def test_an_atom_without_pairs_has_the_cusp(cusp: float, resnet: bool) -> None:
    net = network(n_interactions=1, n_atom_layers=0, l_max=2, cusp=cusp, resnet=resnet, activation="tanh")
    (i, j), vectors = NO_PAIRS
    z, found = net(torch.tensor([8, 1]), i, j, vectors, vectors[:, 0])
    layer = net.blocks[0].interaction
    a = layer.self_interaction(z) + (layer.t1 + layer.t2) * cusp**0.5
    expected = torch.tanh(a)
    if resnet:
        expected = layer.residual.output(expected) + layer.residual.skip(z)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_without_the_residual_form_layers_are_plain() -> None:
    net = network(n_interactions=2, n_atom_layers=2, resnet=False)
    assert {name.rpartition(".")[2] for name, _ in net.named_parameters()} == {"V", "weight", "bias", "mu", "sigma"}
    assert not [name for name, _ in net.named_parameters() if "output" in name or "skip" in name]
    (i, j), vectors = NO_PAIRS
    z, *levels = net(torch.tensor([1, 6, 8]), i, j, vectors, vectors[:, 0])
    for block, found in zip(net.blocks, levels, strict=True):
        z = functional.softplus(block.interaction.self_interaction(z))
        for layer in block.atom_layers:
            z = functional.softplus(layer.linear(z))
        torch.testing.assert_close(found, z, rtol=1e-14, atol=1e-14)


def test_scales_of_tensors_start_as_standard_normal_numbers_and_are_not_penalised() -> None:
    net = network(n_features=4000, n_interactions=1, n_atom_layers=0, l_max=2, resnet=False)
    layer = net.blocks[0].interaction
    drawn = torch.cat([layer.t1, layer.t2]).detach()
    assert abs(float(drawn.mean())) < 0.05
    assert abs(float(drawn.std()) - 1.0) < 0.05
    assert not torch.equal(layer.t1, layer.t2)
    penalised = {id(weight) for weight in net.penalised()}
    assert penalised.isdisjoint({id(layer.t1), id(layer.t2)})
    assert id(layer.V) in penalised


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_reach_the_layers_and_their_slopes_do_not_jump(name: str) -> None:
    x = torch.linspace(-30.0, 30.0, 600_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name](x).sum(), x)
    assert float(slope.diff().abs().max()) < 2e-4  # steps of 1e-4, curvatures below 2; a kink would make 1
    net = network(n_interactions=1, n_atom_layers=1, activation=name, resnet=False)
    (i, j), vectors = NO_PAIRS
    z, found = net(torch.tensor([8]), i, j, vectors, vectors[:, 0])
    f, block = ACTIVATIONS[name], net.blocks[0]
    torch.testing.assert_close(found, f(block.atom_layers[0].linear(f(block.interaction.self_interaction(z)))))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"l_max": 3}, r"l_max is 3, expected 0 \(distances\), 1"),
        ({"l_max": -1}, "l_max is -1"),
        ({"cusp": 0.0}, "cusp is 0.0, expected a small number above 0"),
        ({"cusp": float("nan"), "l_max": 1}, "cusp is nan"),
        ({"cusp": float("inf")}, "cusp is inf"),
        ({"n_inner": 5, "resnet": False}, "n_inner is 5, but without the residual form"),
        (
            {"activation": "sofplus"},
            r"'sofplus', expected one of softplus, silu.*Did you mean softplus\?",
        ),
        ({"activation": "relu"}, "activation is 'relu', expected one of"),
        ({"activation": "cube"}, "kink"),
        ({"activation": None}, "activation is None"),
    ],
)
def test_a_wrong_argument_is_told(arguments: dict[str, Any], told: str) -> None:
    with seeded(0), pytest.raises(ValueError, match=told):
        HIPNN([1, 8], **arguments)
