"""Screened Coulomb energies: the formulas in plain loops, smooth ends, derivatives by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.graph import InputNode
from forcefoundry.inputs import Inputs
from forcefoundry.targets.coulomb import COULOMB_CONSTANT, CoulombNode
from forcefoundry.targets.screened import SCREENINGS, DampedShiftedForce, ScreenedCoulombNode
from forcefoundry.targets.stress import ForcesAndStressNode
from tests.targets.charged import Charged, drawn, graph, numeric_forces, numeric_stress, packed, run
from tests.targets.test_ewald import doubled

CUTOFF = 4.0
SYSTEMS = [drawn(11, 6, periodic=False), drawn(12, 4, periodic=True), Charged(np.array([1.0]), np.zeros((1, 3)))]


def by_formula(name: str, r: float) -> float:
    """What stands in place of 1/r, 1/Å."""
    if name == "cosine":
        return math.cos(0.5 * math.pi * r / CUTOFF) ** 2 / r
    alpha = {"damped_shifted_force": 0.2, "shifted_force": 0.0}[name]
    ends = math.erfc(alpha * CUTOFF)
    slope = ends / CUTOFF**2 + 2 * alpha / math.sqrt(math.pi) * math.exp(-((alpha * CUTOFF) ** 2)) / CUTOFF
    return math.erfc(alpha * r) / r - ends / CUTOFF + slope * (r - CUTOFF)


@pytest.mark.parametrize("local_radius", [None, 2.5])
@pytest.mark.parametrize("name", SCREENINGS)
def test_against_plain_loops_over_images(name: str, local_radius: float | None) -> None:
    """An open system, a crystal and a slab."""
    base = packed([*SYSTEMS[:2], SYSTEMS[1]])
    pbc = np.array([[False] * 3, [True] * 3, [True, False, True]])
    base = Database({**base.columns, "pbc": pbc})
    (energy,) = run([graph(ScreenedCoulombNode, CUTOFF, screening=name, local_radius=local_radius)[0]], base)
    for s in range(3):
        atoms = base.atoms(s)
        positions, charges = base.columns["positions"][atoms], base.columns["charges"][atoms]
        reach = [range(-3, 4) if periodic else range(1) for periodic in pbc[s]]
        expected = 0.0
        for shift in np.stack(np.meshgrid(*reach), axis=-1).reshape(-1, 3):
            for i, j in np.ndindex(len(charges), len(charges)):
                r = float(np.linalg.norm(positions[j] - positions[i] + shift @ base.columns["cell"][s]))
                if 0 < r < CUTOFF:
                    local = 1.0
                    if local_radius is not None and r < local_radius:
                        local = 1.0 - math.cos(0.5 * math.pi * r / local_radius) ** 2
                    expected += 0.5 * COULOMB_CONSTANT * charges[i] * charges[j] * by_formula(name, r) * local
        assert math.isclose(energy[s], expected, rel_tol=1e-11), f"system {s}"


@pytest.mark.parametrize("local_radius", [None, 1.7])
@pytest.mark.parametrize("name", SCREENINGS)
def test_value_and_force_are_continuous(name: str, local_radius: float | None) -> None:
    """At the cutoff both go to zero; at the local radius both go over into those without damping."""
    h = 1e-6

    def pairs(screening: str, radius: float | None, *distances: float) -> tuple[np.ndarray, np.ndarray]:
        base = packed([Charged(np.array([1.0, -2.0]), np.array([[0.0, 0.0, 0.0], [0.0, r, 0.0]])) for r in distances])
        energy, forces = run(graph(ScreenedCoulombNode, CUTOFF, screening=screening, local_radius=radius), base)
        return energy, forces[1::2, 1]

    energy, force = pairs(name, local_radius, CUTOFF - h, CUTOFF, CUTOFF + h, CUTOFF - 0.5)
    # Value and slope are zero at the cutoff, so they grow with the square of the distance from it and with itself.
    assert (np.abs(energy[:3]) < 50.0 * h * h).all()
    assert (np.abs(force[:3]) < 50.0 * h).all()
    assert abs(energy[3]) > 0.1
    if local_radius is not None:
        at = (local_radius - h, local_radius + h)
        for damped, bare in zip(pairs(name, local_radius, *at), pairs(name, None, *at), strict=True):
            np.testing.assert_allclose(damped, bare, atol=100.0 * h)
        energy, _ = pairs(name, local_radius, 0.01)
        assert abs(energy[0]) < 1.0, "1/r is damped away"


@pytest.mark.parametrize("local_radius", [None, 2.5])
@pytest.mark.parametrize("name", SCREENINGS)
def test_forces_and_stress_against_differences(name: str, local_radius: float | None) -> None:
    strained = Inputs.new().strained()
    options = {"screening": name, "local_radius": local_radius}
    energy = ScreenedCoulombNode(InputNode("charges"), CUTOFF, inputs=strained, **options)
    both = ForcesAndStressNode(energy)
    for system in SYSTEMS:
        forces, stress = run([both.output("forces"), both.output("stress")], packed([system]))
        numeric = numeric_forces(energy, system, step=1e-4)
        np.testing.assert_allclose(forces, numeric, atol=1e-6 * max(1.0, np.abs(numeric).max()))
        if system.cell is not None:
            numeric = numeric_stress(energy, system, step=1e-5)
            np.testing.assert_allclose(stress[0], numeric, atol=1e-6 * np.abs(numeric).max())


def test_a_mixed_batch_is_each_alone() -> None:
    nodes = graph(ScreenedCoulombNode, CUTOFF)
    energy, forces = run(nodes, packed(SYSTEMS))
    alone = [run(nodes, packed([system])) for system in SYSTEMS]
    np.testing.assert_allclose(np.concatenate([one[0] for one in alone]), energy, rtol=1e-13)
    np.testing.assert_allclose(np.concatenate([one[1] for one in alone]), forces, atol=1e-13)
    assert energy[2] == 0.0


def test_damped_shifted_force_comes_near_to_ewald_in_a_crystal_shaken() -> None:
    """In an ionic crystal its forces are those of Ewald's sum within some hundredths, which is what it is for."""
    crystal = doubled("NaCl", 5.64)
    shaken = crystal.positions + np.random.default_rng(0).normal(0.0, 0.1, crystal.positions.shape)
    base = packed([Charged(crystal.charges, shaken, crystal.cell)])
    exact = run(graph(CoulombNode, 8.0), base)[1]
    screened = run(graph(ScreenedCoulombNode, 12.0, screening=DampedShiftedForce(12.0, alpha=0.2)), base)[1]
    assert np.linalg.norm(screened - exact) < 0.03 * np.linalg.norm(exact)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"which is not known\. Did you mean 'shifted_force'"):
        graph(ScreenedCoulombNode, screening="shifted_forces")
    with pytest.raises(ValueError, match=r"which is not known\. Known are damped_shifted_force, "):
        graph(ScreenedCoulombNode, screening="xyz")
    with pytest.raises(ValueError, match=r"screening ends at 5.0 Å and the pairs at 4.0 Å"):
        graph(ScreenedCoulombNode, 4.0, screening=DampedShiftedForce(5.0))
    for radius in (0.0, -1.0, 4.5, math.nan):
        with pytest.raises(ValueError, match="expected above 0 and within the cutoff"):
            graph(ScreenedCoulombNode, 4.0, local_radius=radius)
    for alpha in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="damping alpha"):
            DampedShiftedForce(4.0, alpha)
    with pytest.raises(ValueError, match="Give a ChargesNode"):
        ScreenedCoulombNode(InputNode("dipole"), 4.0, inputs=Inputs.new())
