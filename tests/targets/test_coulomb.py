"""The bare Coulomb energy: plain loops where open, derivatives by differences, and the laws of any energy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from forcefoundry.databases import Database
from forcefoundry.graph import InputNode
from forcefoundry.inputs import Inputs
from forcefoundry.pairs import ReferenceFinder
from forcefoundry.pairs.cache import compute_table, use_cache
from forcefoundry.pairs.nodes import PairVectors
from forcefoundry.targets.coulomb import COULOMB_CONSTANT, CoulombEnergy, CoulombNode
from forcefoundry.targets.stress import ForcesAndStressNode
from tests.targets.charged import (
    Charged,
    drawn,
    graph,
    numeric_forces,
    numeric_stress,
    packed,
    run,
    tensors,
)

ATOM = np.array([[1.5, 0.2, -9.0]])
SYSTEMS = [
    drawn(1, 5, periodic=False),
    drawn(2, 4, periodic=True),
    Charged(np.array([-1.3]), ATOM),
    Charged(np.array([0.7]), ATOM, 3.3 * np.eye(3)),
    drawn(4, 6, periodic=True, neutral=True),
    Charged(np.zeros(2), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), 3.0 * np.eye(3)),
    Charged(np.array([1.0, -2.0, 0.5]), np.diag([0.0, 60.0, -35.0])),
    drawn(7, 3, periodic=True),
]
FINE = {"accuracy": 1e-12}


def close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    """Within a tolerance, relative to the largest entry."""
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


def test_the_constant() -> None:
    """e²/(4π ε₀) from the elementary charge, C, and ε₀ of CODATA 2022, F/m."""
    elementary, epsilon = 1.602176634e-19, 8.8541878188e-12
    assert math.isclose(COULOMB_CONSTANT, elementary / (4.0 * math.pi * epsilon) * 1e10, rel_tol=1e-11)


def test_open_systems_against_plain_loops() -> None:
    for system in [drawn(seed, 1 + 2 * seed, periodic=False) for seed in range(5)] + [SYSTEMS[6]]:
        expected = 0.0
        for i in range(len(system.charges)):
            for j in range(i):
                r = np.linalg.norm(system.positions[i] - system.positions[j])
                expected += COULOMB_CONSTANT * system.charges[i] * system.charges[j] / r
        (energy,) = run([graph(CoulombNode)[0]], packed([system]))
        assert math.isclose(energy[0], expected, rel_tol=1e-13)


def test_a_mixed_batch_is_each_alone() -> None:
    nodes = graph(CoulombNode)
    energy, forces = run(nodes, packed(SYSTEMS))
    alone = [run(nodes, packed([system])) for system in SYSTEMS]
    close(np.concatenate([one[0] for one in alone]), energy, 1e-14)
    close(np.concatenate([one[1] for one in alone]), forces, 1e-14)
    assert energy[2] == 0.0
    assert energy[5] == 0.0
    assert (np.abs(energy[[0, 1, 3, 4, 6, 7]]) > 0.01).all()


@pytest.mark.parametrize("at", [0, 1, 4, 6, 7])
def test_forces_are_minus_the_derivative_of_the_energy(at: int) -> None:
    energy, forces = graph(CoulombNode, **FINE)
    expected = numeric_forces(energy, SYSTEMS[at])
    close(run([forces], packed([SYSTEMS[at]]))[0], expected, 1e-8)


def test_stress_is_the_derivative_by_strain() -> None:
    strained = Inputs.new().strained()
    energy = CoulombNode(InputNode("charges"), 4.0, inputs=strained, **FINE)
    both = ForcesAndStressNode(energy)
    values, forces, stress = run([energy, both.output("forces"), both.output("stress")], packed(SYSTEMS))
    plain, plain_forces = run(graph(CoulombNode, **FINE), packed(SYSTEMS))
    close(values, plain, 1e-14)
    close(forces, plain_forces, 1e-14)
    for at in (1, 3, 4, 7):
        system = SYSTEMS[at]
        assert system.cell is not None
        close(stress[at], numeric_stress(graph(CoulombNode, **FINE)[0], system), 1e-7)
        # 1/r in every term, the background's as well: E(a r) = E(r)/a, so the trace is -E/V.
        assert math.isclose(np.trace(stress[at]), -values[at] / abs(np.linalg.det(system.cell)), rel_tol=1e-9)


def test_second_derivatives() -> None:
    base = packed([drawn(8, 2, periodic=False), drawn(9, 2, periodic=True)])
    names = ["charges", "positions", "cell", "pbc", "n_atoms", "system_of_atom"]
    charges, positions, cell, *rest = tensors(base, names)
    pairs = ReferenceFinder()(*(base.columns[name] for name in ("positions", "cell", "pbc")), 3.0, base.offsets)
    i, j, S = (torch.from_numpy(part) for part in (pairs.i, pairs.j, pairs.S))
    assert len(i) > 4
    module, between = CoulombEnergy(3.0, accuracy=1e-2), PairVectors()

    def energy(q: torch.Tensor, r: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        h = torch.cat([cell[:1], vectors])
        return module(q, r, h, *rest, i, j, between(r, h, rest[2], i, j, S)[1])

    leaves = tuple(tensor.clone().requires_grad_(True) for tensor in (charges, positions, cell[1:]))
    assert torch.autograd.gradcheck(energy, leaves)
    assert torch.autograd.gradgradcheck(energy, leaves)


def test_rotation_reflection_and_order_of_atoms() -> None:
    nodes = graph(CoulombNode)
    turn = -Rotation.random(random_state=5).as_matrix()
    rng = np.random.default_rng(6)
    for system in SYSTEMS:
        energy, forces = run(nodes, packed([system]))
        order = rng.permutation(len(system.charges))
        cell = None if system.cell is None else system.cell @ turn
        turned = Charged(system.charges[order], (system.positions @ turn)[order], cell)
        found, turned_forces = run(nodes, packed([turned]))
        np.testing.assert_allclose(found, energy, rtol=1e-11)
        np.testing.assert_allclose(turned_forces, (forces @ turn)[order], atol=1e-10)


def test_translation_also_by_lattice_vectors_atom_by_atom() -> None:
    nodes = graph(CoulombNode)
    rng = np.random.default_rng(7)
    for system in SYSTEMS:
        energy, forces = run(nodes, packed([system]))
        positions = system.positions + np.array([3.1, -20.7, 100.3])
        if system.cell is not None:
            positions = positions + rng.integers(-5, 6, positions.shape) @ system.cell
        found, moved_forces = run(nodes, packed([Charged(system.charges, positions, system.cell)]))
        np.testing.assert_allclose(found, energy, rtol=1e-11)
        np.testing.assert_allclose(moved_forces, forces, atol=1e-10)


def test_cached_pairs_give_the_same_bits() -> None:
    base, nodes = packed(SYSTEMS), graph(CoulombNode)
    energy, forces = run(nodes, base)
    assert use_cache(nodes, base, {4.0: compute_table(base, 4.0)}) == 1
    cached_energy, cached_forces = run(nodes, base)
    np.testing.assert_array_equal(cached_energy, energy)
    np.testing.assert_array_equal(cached_forces, forces)


@pytest.mark.parametrize("pbc", [[True, True, False], [False, True, False]])
def test_slabs_and_wires_are_refused_by_name(pbc: list[bool]) -> None:
    base = packed([SYSTEMS[0], SYSTEMS[1]])
    slab = Database({**base.columns, "pbc": np.array([[False] * 3, pbc])})
    with pytest.raises(ValueError, match=rf"System 1 is periodic in {sum(pbc)} of 3 directions.*ScreenedCoulombNode"):
        run([graph(CoulombNode)[0]], slab)


def test_what_is_no_charge_an_atom_is_refused() -> None:
    inputs = Inputs.new()
    with pytest.raises(ValueError, match=r"one number for each atom; 'energy' has .* each system\. Give a ChargesNode"):
        CoulombNode(InputNode("energy"), inputs=inputs)
    with pytest.raises(ValueError, match=r"'forces' has numbers of shape \(3,\) for each atom"):
        CoulombNode(InputNode("forces"), inputs=inputs)
