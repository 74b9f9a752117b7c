"""PaiNN against loops over the paper's equations, what turns with a structure, and which arguments it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from forcefoundry.build import seeded
from forcefoundry.networks.painn import SOFTENING, PaiNN
from tests.builders import apart

CUTOFF = 3.0
Array = np.ndarray


def painn(**changes: Any) -> PaiNN:
    """A small network in float64 whose biases take part."""
    settings: dict[str, Any] = {"n_features": 6, "n_radial": 5, "cutoff": CUTOFF, "n_interactions": 3}
    with seeded(0):
        network = PaiNN([1, 6, 8], **settings | changes)
        for name, weight in network.named_parameters():
            if name.endswith(".bias"):
                torch.nn.init.normal_(weight, std=0.3)
    return network


def molecule() -> tuple[Array, Array]:
    """Eight atoms, of which some see each other, some do not, and the last sees nobody."""
    positions = apart(np.random.default_rng(0), 7, 3.6, 0.9)
    return np.array([1, 6, 8, 1, 1, 6, 8, 6]), np.concatenate([positions, [[20.0, 0.0, 0.0]]])


def pairs(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """All pairs within the cutoff as a network takes them."""
    vectors = positions[None] - positions[:, None]
    distances = (vectors**2).sum(-1)
    i, j = torch.nonzero((distances < CUTOFF**2) & (distances > 0), as_tuple=True)
    return i, j, vectors[i, j], torch.linalg.vector_norm(vectors[i, j], dim=1)


def features(network: PaiNN, species: Array, positions: Array) -> Array:
    """Level 1 of the atoms of an open structure."""
    level = network(torch.from_numpy(species), *pairs(torch.from_numpy(positions)))[1]
    values: Array = level.detach().numpy()
    return values


def silu(x: Array) -> Array:
    """x / (1 + e^-x)."""
    return np.asarray(x / (1.0 + np.exp(-x)))


def by_loops(network: PaiNN, species: Array, positions: Array) -> Array:
    """Level 1 from the weights alone: message and update blocks and the hidden layer of the readout, atom by atom."""
    w = {name: weight.detach().numpy() for name, weight in network.named_parameters()}
    F, n_blocks = network.embedding.weight.shape[0], len(network.messages)

    def linear(name: str, x: Array) -> Array:
        return np.asarray(w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0.0))

    s = [w["embedding.weight"][:, network.species.index(z)] for z in species]
    v = [np.zeros((3, F)) for _ in species]
    for block in range(n_blocks):
        heard, turned = [x.copy() for x in s], [x.copy() for x in v]
        for i, j in np.ndindex(len(species), len(species)):
            r = np.linalg.norm(positions[j] - positions[i])
            if i == j or r >= CUTOFF:
                continue
            cut = 0.5 * (math.cos(math.pi * r / CUTOFF) + 1.0)
            radial = np.array([math.sin(n * math.pi * r / CUTOFF) / r for n in range(1, network.n_radial + 1)])
            phi = linear(f"messages.{block}.output", silu(linear(f"messages.{block}.hidden", s[j])))
            x = [phi[p * F :][:F] * linear(f"messages.{block}.filters.{p}", radial) * cut for p in range(len(phi) // F)]
            heard[i] += x[0]
            for a in range(3):
                turned[i][a] += x[1] * (positions[j, a] - positions[i, a]) / r
                if len(x) == 3:
                    turned[i][a] += v[j][a] * x[2]
        s, v = heard, turned
        for i in range(len(species)):
            Uv = np.array([linear(f"updates.{block}.U", v[i][a]) for a in range(3)])
            Vv = np.array([linear(f"updates.{block}.V", v[i][a]) for a in range(3)])
            stacked = np.concatenate([s[i], np.sqrt((Vv**2).sum(axis=0) + SOFTENING)])
            a = linear(f"updates.{block}.output", silu(linear(f"updates.{block}.hidden", stacked)))
            s[i] = s[i] + a[:F] + a[F : 2 * F] * (Uv * Vv).sum(axis=0)
            if len(a) == 3 * F:
                v[i] = v[i] + a[2 * F :] * Uv
    return np.array([silu(linear("atomwise", x)) for x in s])


@pytest.mark.parametrize("n_interactions", [1, 2, 3])
def test_the_equations_of_the_paper(n_interactions: int) -> None:
    network, (species, positions) = painn(n_interactions=n_interactions), molecule()
    found = features(network, species, positions)
    expected = by_loops(network, species, positions)
    assert found.shape == expected.shape == (len(species), network.feature_sizes[1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert found.std(axis=0).min() > 1e-2


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_vectors_turn_and_scalars_stay(sign: float) -> None:
    network, (species, positions) = painn(), molecule()
    inner: list[tuple[torch.Tensor, torch.Tensor]] = []
    for part in (*network.messages, *network.updates):
        part.register_forward_hook(lambda module, arguments, result: inner.append(result))
    turn = sign * Rotation.random(random_state=1).as_matrix()
    features(network, species, positions)
    features(network, species, positions @ turn)
    half = len(inner) // 2
    assert half == 2 * len(network.messages)
    for (s, v), (s_turned, v_turned) in zip(inner[:half], inner[half:], strict=True):
        torch.testing.assert_close(s_turned, s, rtol=0, atol=1e-11)
        torch.testing.assert_close(v_turned, torch.einsum("naf,ab->nbf", v, torch.from_numpy(turn)), rtol=0, atol=1e-11)
        assert float(v[:-1].detach().abs().amax(dim=(1, 2)).min()) > 1e-3
        assert float(v[-1].detach().abs().max()) == 0.0  # the atom without neighbours


def test_one_block_tells_one_side_from_two() -> None:
    network, species = painn(n_interactions=1), np.array([8, 1, 1])
    bent = features(network, species, np.array([[0.0, 0, 0], [1.8, 0, 0], [0.3, 1.774824, 0]]))
    straight = features(network, species, np.array([[0.0, 0, 0], [1.8, 0, 0], [-1.8, 0, 0]]))
    assert np.abs(bent[0] - straight[0]).max() > 1e-3


def test_two_derivatives_are_continuous_at_the_cutoff() -> None:
    """What a neighbour adds shrinks as (R - r)³, eightfold when it is half as far inside the cutoff."""
    network, species = painn(), np.array([8, 6])

    def seen(r: float) -> Array:
        return features(network, species, np.array([[0.0, 0.0, 0.0], [r, 0.0, 0.0]]))

    added = [np.abs(seen(CUTOFF - inside) - seen(CUTOFF + 0.1)).max() for inside in (4e-3, 2e-3, 1e-3)]
    assert added[2] > 1e-12
    np.testing.assert_allclose([added[0] / added[1], added[1] / added[2]], 8.0, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_symmetry_makes_vectors_zero_two_derivatives_exist(dtype: torch.dtype) -> None:
    """An octahedron, whose centre sees no direction: energy, forces and what training makes of the forces."""
    network = painn().to(dtype)
    positions = torch.cat([torch.zeros(1, 3), 1.5 * torch.eye(3), -1.5 * torch.eye(3)]).to(dtype).requires_grad_()
    centre: list[torch.Tensor] = []
    network.messages[0].register_forward_hook(lambda module, arguments, result: centre.append(result[1][0]))
    energy = network(torch.tensor([8, 1, 1, 1, 1, 1, 1]), *pairs(positions))[1].sum()
    assert float(centre[0].detach().abs().max()) < 1e-6
    (forces,) = torch.autograd.grad(energy, positions, create_graph=True)
    gradients = torch.autograd.grad((forces**2).sum(), [positions, *network.parameters()], allow_unused=True)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients if gradient is not None)
    assert float(forces.detach().abs().max()) > 1e-3


@pytest.mark.parametrize("n_interactions", [1, 2, 3])
def test_every_weight_reaches_the_features(n_interactions: int) -> None:
    network, (species, positions) = painn(n_interactions=n_interactions), molecule()
    level = network(torch.from_numpy(species), *pairs(torch.from_numpy(positions)))[1]
    (level**2).sum().backward()
    for name, weight in network.named_parameters():
        rows = weight.grad.flatten(1) if weight.ndim > 1 else weight.grad
        assert bool((rows != 0).all()), name


def test_all_matrices_are_penalised() -> None:
    network = painn()
    found = {id(weight) for weight in network.penalised()}
    assert found == {id(weight) for weight in network.parameters() if weight.ndim == 2}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cutoff": 0.0}, r"cutoff is 0\.0, expected more than 0 Å"),
        ({"cutoff": float("nan")}, "cutoff is nan, expected more than 0 Å"),
        ({"n_features": 1}, "n_features is 1, expected at least 2"),
        ({"n_radial": 0}, "n_radial is 0, expected at least 1"),
        ({"n_interactions": 0}, "n_interactions is 0, expected at least 1"),
        ({"species": []}, "species are"),
    ],
)
def test_arguments_that_do_not_fit_are_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PaiNN(**{"species": [1, 8]} | changes)
