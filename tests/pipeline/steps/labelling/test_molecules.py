"""Molecules' labels: right by finite differences, and each its own molecule's alone."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from tblite.ase import TBLite

from pipeline.steps.labelling import molecules
from pipeline.steps.labelling.molecules import Settings
from pipeline.steps.labelling.rows import Labelled, LeftOut

SHORT = Settings(
    seed=0,
    frames=3,
    temperature=800,
    timestep=1.2,
    stride=4,
    friction=0.02,
    min_atoms=3,
    max_atoms=4,
    max_molecules=2,
    max_force=40,
)


def labelled(name: str, settings: Settings = SHORT) -> list[Atoms]:
    rows = molecules._labelled((name, settings))
    assert [(row.name, row.frame) for row in rows] == [(name, frame) for frame in range(settings.frames)]
    return [row.atoms for row in rows if isinstance(row, Labelled)]


def test_forces_are_minus_the_slope_of_the_energy() -> None:
    atoms, step = labelled("HCN")[-1], 2e-4
    calculator = TBLite(verbosity=0, accuracy=0.01)
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * step
            energies.append(calculator.get_potential_energy(moved))
        slope = (energies[0] - energies[1]) / (2 * step)
        assert atoms.get_forces()[1, axis] == pytest.approx(-slope, abs=2e-5)


def test_water_has_its_dipole_in_electron_angstrom() -> None:
    waters = labelled("H2O")
    assert len(waters) == 3
    for water in waters:
        assert 0.25 < np.linalg.norm(water.get_dipole_moment()) < 0.65  # 0.386 is measured at rest
        assert water.get_charges()[0] < -0.3 < 0 < water.get_charges()[1]  # e; oxygen first


def test_a_molecule_does_not_depend_on_its_company() -> None:
    before = labelled("HCN")
    labelled("H2O")
    for one, again in zip(before, labelled("HCN"), strict=True):
        assert np.array_equal(one.positions, again.positions)
        assert one.get_potential_energy() == again.get_potential_energy()


def test_radicals_triplets_and_other_elements_stay_out() -> None:
    names = molecules.chosen(Settings(**vars(SHORT) | {"max_atoms": 14, "max_molecules": None}))
    assert len(names) == len(set(names)) >= 50
    assert not {"CH3", "NO2", "CH2_s3B1d", "CH3SH", "H2", "N2"} & set(names)


def test_dynamics_that_stop_leave_out_what_was_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count()

    def forces(self: object, positions: np.ndarray) -> np.ndarray:
        if next(calls) > SHORT.stride:
            raise CalculationFailed("SCF not converged")
        return np.zeros_like(positions)

    monkeypatch.setattr(molecules._Driver, "forces", forces)
    first, *others = molecules._labelled(("H2O", SHORT))
    assert isinstance(first, Labelled)
    reason = "the dynamics stopped on the way to it: SCF not converged"
    assert others == [LeftOut("H2O", 1, reason), LeftOut("H2O", 2, reason)]


def test_a_frame_that_fails_is_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = count()

    class Failing(TBLite):  # type: ignore[misc]  # tblite has no types
        def calculate(self, atoms: Atoms) -> None:
            if next(frames) == 1:
                raise CalculationFailed("SCF not converged")
            super().calculate(atoms)

    monkeypatch.setattr(molecules._Driver, "forces", lambda self, positions: np.zeros_like(positions))
    monkeypatch.setattr(molecules, "TBLite", Failing)
    kinds = [type(row) for row in molecules._labelled(("H2O", SHORT))]
    assert kinds == [Labelled, LeftOut, Labelled]
