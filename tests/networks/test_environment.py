"""Sums over neighbours against loops over pairs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from forcefoundry.networks.environment import Neighbourhood

CUTOFF = 3.0


@dataclass(frozen=True)
class Pairs:
    """Made-up pairs of atoms of which some have no neighbours."""

    i: torch.Tensor
    j: torch.Tensor
    vector: torch.Tensor

    def near(self, n_atoms: int, l_max: int) -> Neighbourhood:
        """The pairs laid out."""
        distance = torch.linalg.vector_norm(self.vector, dim=1)
        return Neighbourhood(self.i, self.j, self.vector, distance, n_atoms, CUTOFF, l_max)


def some_pairs(counts: tuple[int, ...] = (2, 0, 5, 1, 0)) -> Pairs:
    """So many neighbours an atom, at 0.5 to 2.9 Å."""
    generator = torch.Generator().manual_seed(0)
    i = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    j = torch.randint(0, len(counts), (len(i),), generator=generator)
    away = torch.randn(len(i), 3, generator=generator, dtype=torch.float64)
    length = torch.rand(len(i), 1, generator=generator, dtype=torch.float64) * 2.4 + 0.5
    return Pairs(i, j, away / away.norm(dim=1, keepdim=True) * length)


def radial(near: Neighbourhood, n_weights: int) -> torch.Tensor:
    """Some radial functions (N, ν, width) that end at the cutoff."""
    return torch.cat([near.inverse ** (k + 1) for k in range(n_weights)], dim=1) * near.window


def tensor(u: torch.Tensor, order: int) -> torch.Tensor:
    """Order 0, 1 or 2 of a unit vector: 1, u, and u uᵀ - 1/3 with all nine numbers."""
    full = (torch.ones(1, dtype=u.dtype), u, torch.outer(u, u) - torch.eye(3, dtype=u.dtype) / 3.0)
    return full[order].flatten()


@pytest.mark.parametrize("l_max", [0, 1, 2])
@pytest.mark.parametrize(("n_weights", "n_features"), [(4, 2), (2, 4), (3, 3), (3, 1)])
def test_sums_are_those_over_pairs(l_max: int, n_weights: int, n_features: int) -> None:
    pairs, n_atoms = some_pairs(), 5
    near = pairs.near(n_atoms, l_max)
    features = torch.randn(n_atoms, n_features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = near.sum(radial(near, n_weights), features)
    assert found.shape == (n_atoms, (l_max + 1) ** 2, n_weights * n_features)
    for order in range(l_max + 1):
        expected = torch.zeros(n_atoms, 3**order, n_weights, n_features, dtype=torch.float64)
        for i, j, D in zip(pairs.i.tolist(), pairs.j.tolist(), pairs.vector, strict=True):
            r = D.norm()
            s = torch.stack([r ** -(k + 1) for k in range(n_weights)]) * torch.cos(torch.pi * r / (2 * CUTOFF)) ** 2
            expected[i] += torch.einsum("c,n,f->cnf", tensor(D / r, order), s, features[j])
        expected = expected.flatten(2)
        part = found[:, order**2 : (order + 1) ** 2]
        if order < 2:
            torch.testing.assert_close(part, expected, rtol=1e-13, atol=1e-14)
        # Five numbers stand for nine: all scalar products between the sums agree, lengths among them.
        gram = (torch.einsum("ica,icb->iab", each, each) for each in (part, expected))
        torch.testing.assert_close(*gram, rtol=1e-13, atol=1e-14)
    assert bool((found[[1, 4]] == 0.0).all())


@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_empty_slots_have_derivatives_and_change_nothing(l_max: int) -> None:
    """A sixth atom with many neighbours widens the slots of the others; to their sums it brings exactly nothing."""
    few = some_pairs()
    crowd = some_pairs((0, 0, 0, 0, 0, 40))
    features = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def derivatives(i: torch.Tensor, j: torch.Tensor, vector: torch.Tensor, n_atoms: int) -> list[torch.Tensor]:
        vector.requires_grad_()
        near = Pairs(i, j, vector).near(n_atoms, l_max)
        sums = near.sum(radial(near, 3), features[:n_atoms])[:5]
        (once,) = torch.autograd.grad((sums**3).sum(), vector, create_graph=True)
        (twice,) = torch.autograd.grad((once**2).sum(), vector)
        return [sums.detach(), once.detach(), twice]

    n = len(few.i)
    alone = derivatives(few.i, few.j, few.vector.clone(), 5)
    both = (torch.cat([getattr(few, name), getattr(crowd, name)]) for name in ("i", "j", "vector"))
    beside = derivatives(*both, 6)
    for found, expected in zip(beside, alone, strict=True):
        assert bool(torch.isfinite(found).all())
        assert bool((expected != 0.0).any())
        torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-12, atol=1e-13)
    assert all(bool((one[n:] == 0.0).all()) for one in beside[1:])
