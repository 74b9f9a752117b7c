"""What the checks of units and signs say where truth is known: Lennard-Jones, and what no factor explains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forcefoundry.contract.agreement import bulk_modulus, work_factor
from forcefoundry.contract.checks.units import CHECKS
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measuring import measure
from forcefoundry.databases.units import unit
from tests.contract.lennard_jones import boxed, dynamics, measured, packed, slabs, strained

Columns = dict[str, NDArray[Any]]
KCAL, HARTREE, HARTREE_BOHR = (unit(name).factor for name in ("kcal/mol", "Hartree", "Hartree/Bohr"))


def found(columns: Columns, **factors: float) -> dict[str, Finding]:
    """What the checks of units find once some columns are multiplied, by name."""
    changed = {name: values * factors[name] if name in factors else values for name, values in columns.items()}
    measures = measured(changed)
    return {one.check: one for check in CHECKS if check.find for one in check.find(measures, check.options)}


@pytest.mark.parametrize("periodic", [True, False], ids=["crystal", "cluster"])
def test_dynamics_with_the_right_labels_are_left_alone(periodic: bool) -> None:
    columns = packed(dynamics(periodic))
    assert found(columns) == {}
    told = work_factor(measured(columns), np.arange(24))
    assert told is not None
    assert told.factor == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("periodic", [True, False], ids=["crystal", "cluster"])
@pytest.mark.parametrize(
    ("energy", "forces", "said"),
    [
        (1 / KCAL, 1.0, "{energy: kcal/mol} (a factor of 23.06)"),
        (1.0, 1 / KCAL, "{forces: kcal/mol/Å} (a factor of 0.04336)"),
        (1 / HARTREE, 1.0, "{energy: Hartree} (a factor of 0.03675)"),
        (1.0, 1 / HARTREE_BOHR, "{forces: Hartree/Bohr} (a factor of 51.42)"),
        (1 / HARTREE, 1 / HARTREE_BOHR, "{energy: Hartree, forces: Hartree/Bohr} (a factor of 1.89)"),
        (1000.0, 1.0, "{energy: meV} (a factor of 1000)"),
    ],
)
def test_factors_between_energies_and_forces_are_named(periodic: bool, energy: float, forces: float, said: str) -> None:
    told = found(packed(dynamics(periodic)), energy=energy, forces=forces)
    assert {"units_look_wrong"} <= set(told) <= {"units_look_wrong", "units_suspect"}
    assert said in told["units_look_wrong"].remedy
    assert told["units_look_wrong"].row is None


def test_a_factor_that_no_unit_explains_is_said_to_be_so() -> None:
    told = found(packed(dynamics(True)), forces=1 / 7.0)
    assert "No usual units explain it" in told["units_look_wrong"].remedy


@pytest.mark.parametrize("periodic", [True, False], ids=["crystal", "cluster"])
@pytest.mark.parametrize("of", ["energy", "forces"])
def test_signs_that_contradict_each_other_are_told(periodic: bool, of: str) -> None:
    told = found(packed(dynamics(periodic)), **{of: -1.0})
    # Energies of the other sign are far above zero besides.
    assert set(told) == {"forces_are_gradients"} | ({"units_suspect"} if of == "energy" else set())
    assert "database.signs: {forces: gradients}" in told["forces_are_gradients"].remedy


def test_lengths_in_bohr_are_told_by_the_work() -> None:
    """Forces in eV/Å beside positions in Bohr: the work is 1.89 times what it should be."""
    told = found(packed(dynamics(True)), positions=1 / unit("Bohr").factor, cell=1 / unit("Bohr").factor)
    assert "{length: Bohr" in told["units_look_wrong"].remedy


@pytest.mark.parametrize("by", ["split", "config_type"])
def test_a_small_part_of_another_sign_is_named(by: str) -> None:
    """One row in nine: all rows together agree very well."""
    good, bad = packed(dynamics(True)), packed(dynamics(True, 60)[-24:])
    columns = {name: np.concatenate([good[name]] * 8 + [bad[name]]) for name in good}
    columns["forces"][-24 * 32 :] *= -1.0
    names: list[str | None] = ["first"] * 192 + ["second"] * 24
    nothing: list[str | None] = [None] * 216
    measures = measure(columns, nothing if by == "split" else names, names if by == "split" else nothing)
    whole = work_factor(measures, np.arange(216))
    assert whole is not None
    assert whole.factor == pytest.approx(1.0, abs=0.1)
    (told,) = [one for check in CHECKS if check.find for one in check.find(measures, check.options)]
    assert told.check == "forces_are_gradients"
    assert "'second'" in told.what


def test_random_structures_say_nothing_of_factors() -> None:
    columns = packed(strained(40, most=0.0, shaken=0.4))
    assert np.isnan(measured(columns).step_work).all()
    for factors in ({}, {"forces": -1.0}, {"energy": 1 / KCAL}):
        assert not {"forces_are_gradients", "units_look_wrong"} & set(found(columns, **factors))


@pytest.mark.parametrize("n", [8, 12, 20])
def test_energies_that_have_nothing_to_do_with_the_forces_make_no_factor(n: int) -> None:
    """Chance makes a factor of few steps now and then: in less than one set of a hundred."""
    rng = np.random.default_rng(n)
    sets = [SimpleNamespace(step_energy=rng.normal(size=n), step_work=rng.normal(size=n)) for _ in range(2000)]
    told = [held for held in sets if work_factor(held, np.arange(n)) is not None]  # type: ignore[arg-type]
    assert len(told) < 20


# Stress.


def test_stress_of_strained_crystals_is_left_alone() -> None:
    columns = packed(strained(30))
    assert found(columns) == {}
    modulus = bulk_modulus(measured(columns))
    assert modulus is not None
    assert 1.0 < modulus.factor < 2.5


def test_compression_that_counts_as_positive_is_told() -> None:
    told = found(packed(strained(30)), stress=-1.0)
    assert set(told) == {"stress_sign"}
    assert "database.signs: {stress: pressure}" in told["stress_sign"].remedy


@pytest.mark.parametrize("name", ["GPa", "kbar"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_stress_in_another_unit_is_told(name: str, sign: float) -> None:
    told = found(packed(strained(30)), stress=sign / unit(name).factor)
    assert set(told) == {"stress_units_look_wrong"} | ({"stress_sign"} if sign < 0 else set())
    assert f"database.units: {{stress: {name}}}" in told["stress_units_look_wrong"].remedy


def test_matter_as_hard_as_under_the_pressure_of_a_planet_is_left_alone() -> None:
    """A modulus of 10 eV/Å³ that energies have, too; in GPa it is told all the same."""
    columns = packed(strained(30), depth=2.4)
    modulus = bulk_modulus(measured(columns))
    assert modulus is not None
    assert modulus.factor > 8.0
    stresses = [found(columns, stress=factor) for factor in (1.0, 1 / unit("GPa").factor)]
    assert ["stress_units_look_wrong" in told for told in stresses] == [False, True]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_vacuum_says_nothing_of_the_sign(sign: float) -> None:
    """The tension of a surface, or of a bond, is spread over the vacuum: it falls as cells grow."""
    for frames in (slabs(np.linspace(4.5, 14, 30)), boxed(np.linspace(8, 14, 30))):
        columns = packed(frames)
        slope = np.polyfit(np.log(measured(columns).volume), measured(columns).pressure, 1)[0]
        assert slope < 0.0
        assert not {"stress_sign", "stress_units_look_wrong"} & set(found(columns, stress=sign))


def test_crystals_that_are_torn_apart_are_left_alone() -> None:
    """Beyond the strongest pull tension falls as cells grow; energies rise, as they must under tension."""
    columns = packed(strained(30, stretch=1.25))
    modulus = bulk_modulus(measured(columns))
    assert modulus is not None
    assert modulus.factor < 0.0
    assert (measured(columns).gap < 5.0).all()
    assert "stress_sign" not in found(columns)


def test_crystals_are_judged_beside_surfaces() -> None:
    columns = packed([*strained(20), *slabs(np.linspace(4.5, 14, 40))])
    assert not {"stress_sign", "stress_units_look_wrong"} & set(found(columns))
    assert "stress_sign" in found(columns, stress=-1.0)
