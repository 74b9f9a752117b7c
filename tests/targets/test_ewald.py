"""Ewald's sum: known constants of crystals, other ways of summing, and independence of how the sum is split."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from forcefoundry.targets.coulomb import COULOMB_CONSTANT, CoulombNode
from forcefoundry.targets.ewald import Splitting
from tests.targets.charged import Charged, drawn, graph, packed, run

FACES = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
CENTRES = np.concatenate([[np.zeros(3)], FACES])


def crystal(anion: np.ndarray, cell: np.ndarray, lattice: np.ndarray, edge: float) -> Charged:
    """A cation at each lattice point and an anion beside it; all in units of the cubic cell's edge, Å."""
    points = np.concatenate([lattice, lattice + anion])
    charges = np.repeat([1.0, -1.0], len(lattice))
    return Charged(charges, points * edge, cell * edge)


ONE = np.zeros((1, 3))
# Distance of neighbours over the edge of the cubic cell, anion, primitive cell, points of the cubic cell, constant.
CRYSTALS = {
    "NaCl": (0.5, np.array([0.5, 0.0, 0.0]), FACES, CENTRES, 1.747564594633182),
    "CsCl": (math.sqrt(0.75), np.full(3, 0.5), np.eye(3), ONE, 1.762674773070991),
    "zincblende": (math.sqrt(3) / 4, np.full(3, 0.25), FACES, CENTRES, 1.638055053388789),
}


def primitive(name: str, edge: float) -> Charged:
    """Two ions."""
    _, anion, cell, _, _ = CRYSTALS[name]
    return crystal(anion, cell, ONE, edge)


def conventional(name: str, edge: float) -> Charged:
    """The cubic cell."""
    _, anion, _, points, _ = CRYSTALS[name]
    return crystal(anion, np.eye(3), points, edge)


def doubled(name: str, edge: float) -> Charged:
    """The primitive cell twice in each direction."""
    one = primitive(name, edge)
    assert one.cell is not None
    steps = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 1, 3) @ one.cell
    return Charged(np.tile(one.charges, 8), (one.positions + steps).reshape(-1, 3), 2 * one.cell)


def skewed(name: str, edge: float) -> Charged:
    """The primitive lattice by other, longer vectors, and the anion in another cell than its cation."""
    one = primitive(name, edge)
    assert one.cell is not None
    cell = np.array([[1, 2, 0], [0, 1, -1], [0, 0, 1]]) @ one.cell
    return Charged(one.charges, one.positions + np.array([[0, 0, 0], [5, -3, 2]]) @ cell, cell)


def left_handed(name: str, edge: float) -> Charged:
    """Lattice vectors in the other order."""
    one = primitive(name, edge)
    assert one.cell is not None
    return Charged(one.charges, one.positions, one.cell[[1, 0, 2]])


@pytest.mark.parametrize("shape", [primitive, conventional, doubled, skewed, left_handed])
@pytest.mark.parametrize("name", CRYSTALS)
def test_madelung_constants(name: str, shape: Callable[[str, float], Charged]) -> None:
    edges = [3.1, 5.64]
    neighbour, *_, constant = CRYSTALS[name]
    for cutoff in (2.2, 3.7, 6.0, 8.5):
        systems = [shape(name, edge) for edge in edges]
        (energy,) = run([graph(CoulombNode, cutoff)[0]], packed(systems))
        ions = np.array([len(system.charges) / 2 for system in systems])
        found = -energy / ions * neighbour * np.array(edges) / COULOMB_CONSTANT
        np.testing.assert_allclose(found, constant, rtol=2e-8)


@pytest.mark.parametrize("accuracy", [1e-4, 1e-6, 1e-8, 1e-10])
def test_the_error_is_within_the_accuracy(accuracy: float) -> None:
    systems = [drawn(seed, 1 + seed % 9, periodic=True) for seed in range(12)]
    base = packed(systems)
    (exact,) = run([graph(CoulombNode, 7.0, accuracy=1e-15)[0]], base)
    scale = COULOMB_CONSTANT * np.array([(system.charges**2).sum() for system in systems])
    for cutoff in (2.5, 4.1, 6.7):
        (energy,) = run([graph(CoulombNode, cutoff, accuracy=accuracy)[0]], base)
        assert (np.abs(energy - exact) < accuracy * scale).all()
        assert (energy != exact).all()


def test_charges_in_a_background_do_not_depend_on_alpha_either() -> None:
    systems = [drawn(seed, 3, periodic=True) for seed in range(4)]
    assert max(abs(system.charges.sum()) for system in systems) > 1.0
    energies = [run([graph(CoulombNode, cutoff, accuracy=1e-13)[0]], packed(systems))[0] for cutoff in (2.0, 3.3, 7.9)]
    for energy in energies[1:]:
        np.testing.assert_allclose(energy, energies[0], rtol=1e-11)


def test_one_charge_in_a_background() -> None:
    """The constants of the simple cubic, body-centred and face-centred lattices (Wigner 1934; Fuchs 1935), edge 1."""
    volumes = np.array([1.0, 0.5, 0.25])
    cells = [np.eye(3), 0.5 * (1.0 - 2.0 * np.eye(3)), FACES]
    systems = [Charged(np.array([2.0]), np.array([[0.3, -7.0, 1.9]]), 3.0 * cell) for cell in cells]
    (energy,) = run([graph(CoulombNode, 4.0, accuracy=1e-10)[0]], packed(systems))
    # E = -ξ/2 k_e q²/L, L the edge of a cube of the volume of one ion.
    found = -2.0 * energy * 3.0 * np.cbrt(volumes) / (4.0 * COULOMB_CONSTANT)
    np.testing.assert_allclose(found, [2.837297479, 2.888461503, 2.888282119], rtol=1e-8)


def test_against_plain_sums_over_growing_blocks_of_cells() -> None:
    """Without charge and, by an inversion centre, without dipole, plain sums converge to the same energy."""
    half = drawn(3, 4, periodic=True, neutral=True)
    assert half.cell is not None
    positions = np.concatenate([half.positions, -half.positions])
    charges = np.tile(half.charges, 2)
    system = Charged(charges, positions, half.cell)
    (energy,) = run([graph(CoulombNode, 5.0, accuracy=1e-12)[0]], packed([system]))
    found = []
    reaches = np.array([4, 8, 16])
    for reach in reaches:
        line = np.arange(-reach, reach + 1)
        steps = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3) @ half.cell
        total = 0.0
        for i, j in np.ndindex(len(charges), len(charges)):
            r = np.linalg.norm(positions[j] - positions[i] + steps, axis=1)
            total += 0.5 * charges[i] * charges[j] * (1.0 / r[r > 1e-9]).sum()
        found.append(COULOMB_CONSTANT * total)
    # What is left out are quadrupoles: it falls off with the square of the block's size, and even powers of it.
    limit = np.linalg.solve((reaches[:, None] + 0.5) ** np.array([0.0, -2.0, -4.0]), found)[0]
    assert abs(found[-1] - energy[0]) > 1e-4 * abs(energy[0])
    np.testing.assert_allclose(energy[0], limit, rtol=1e-6)


def test_systems_computed_together_or_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = [drawn(seed, 9 - seed, periodic=True) for seed in range(8)] + [doubled("NaCl", 5.64)]
    nodes, base = graph(CoulombNode), packed(systems)
    usual = run(nodes, base)
    for at_once in (1, 20_000, 10**9):
        monkeypatch.setattr("forcefoundry.targets.ewald._PRODUCTS_AT_ONCE", at_once)
        energy, forces = run(nodes, base)
        np.testing.assert_allclose(energy, usual[0], rtol=1e-12)
        np.testing.assert_allclose(forces, usual[1], atol=1e-12)


@pytest.mark.parametrize("accuracy", [0.0, 1.0, -1e-6, math.nan])
def test_an_accuracy_that_is_none(accuracy: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        Splitting.of(5.0, accuracy)


@pytest.mark.parametrize("cutoff", [0.0, -3.0, math.nan])
def test_a_cutoff_that_is_none(cutoff: float) -> None:
    with pytest.raises(ValueError, match="expected a length above 0"):
        graph(CoulombNode, cutoff)
