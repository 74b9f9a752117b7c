"""Crystals' labels: right by finite differences, with tension positive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from pipeline.steps.labelling import crystals
from pipeline.steps.labelling.crystals import Settings
from pipeline.steps.labelling.rows import Labelled

SMALL = Settings(seed=0, structures=10, max_atoms=16, strain=0.04, rattle=0.08, max_force=40)


@pytest.fixture(scope="module")
def rows() -> list[Labelled]:
    return [row for row in crystals.label(SMALL, processes=1) if isinstance(row, Labelled)]


def test_every_family_is_made(rows: list[Labelled]) -> None:
    assert [row.name for row in rows] == list(crystals.FAMILIES)
    by_name = {row.name: row.atoms for row in rows}
    assert set(by_name["alloy"].numbers) == {29, 79}
    assert len(by_name["vacancy"]) in (14, 15)
    assert 4 * (by_name["Cu3Au"].numbers == 79).sum() == len(by_name["Cu3Au"])
    assert all(row.atoms.pbc.all() and len(row.atoms) <= SMALL.max_atoms for row in rows)


def test_forces_and_stress_are_slopes_of_the_energy(rows: list[Labelled]) -> None:
    for atoms in (rows[2].atoms, rows[-1].atoms):
        forces = [-slope(partial(moved, atoms, (1, axis))) for axis in range(3)]
        np.testing.assert_allclose(atoms.get_forces()[1], forces, atol=1e-5)
        stress = [slope(partial(strained, atoms, pair)) for pair in np.ndindex(3, 3)]
        per_volume = np.reshape(stress, (3, 3)) / atoms.get_volume()
        np.testing.assert_allclose(atoms.get_stress(voigt=False), per_volume, atol=1e-6)


def test_a_stretched_crystal_is_under_tension() -> None:
    atoms = bulk("Cu", "fcc", a=crystals.LATTICE[crystals.COPPER] * 1.03)
    atoms.calc = EMT()
    assert np.all(atoms.get_stress()[:3] > 0)


def slope(energy: Callable[[float], float], step: float = 1e-4) -> float:
    return (energy(step) - energy(-step)) / (2 * step)


def moved(atoms: Atoms, move: tuple[int, int], step: float) -> float:
    copy = atoms.copy()
    copy.positions[move] += step
    return float(EMT().get_potential_energy(copy))


def strained(atoms: Atoms, pair: tuple[int, ...], step: float) -> float:
    strain = np.eye(3)
    strain[pair] += step / 2
    strain[pair[::-1]] += step / 2
    copy = atoms.copy()
    copy.set_cell(atoms.cell @ strain, scale_atoms=True)
    return float(EMT().get_potential_energy(copy))
