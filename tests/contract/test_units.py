"""Units and signs that are wrong as a whole, planted into the real sets that can tell; silence where all is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forcefoundry.contract.agreement import bulk_modulus, work_factor
from forcefoundry.contract.checks.units import CHECKS
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures, joined
from forcefoundry.contract.measuring import measure
from forcefoundry.databases.units import unit
from tests.contract.real_sets import measured, read_set, real_sets
from tests.outside import data

# Sets in which enough rows are near one another, and those whose cells are strained.
MOVING = ["mlearn_Mo", "mlearn_Si", "nbmotaw_NbW", "nbmotaw_Ta", "solvent_xtb", "acac_300K", "acac_600K"]
MOVING += ["rmd17_aspirin", "rmd17_benzene", "rmd17_ethanol", "h2co"]
STRAINED = ["mlearn_Li", "mlearn_Si", "nbmotaw_MoTa", "nbmotaw_NbW", "nbmotaw_Ta"]
QUICK = ("mlearn_Si", "nbmotaw_Ta", "acac_600K", "rmd17_ethanol")

needs_data = pytest.mark.skipif(not (data() / "mlearn").is_dir(), reason=f"{data()} is absent")


def found(measures: Measures) -> dict[str, Finding]:
    """What the checks of units find, with their defaults, by name."""
    return {one.check: one for check in CHECKS if check.find for one in check.find(measures, check.options)}


def planted(name: str, **factors: float) -> dict[str, Finding]:
    """What is found once some columns are multiplied."""
    columns, kinds, given = read_set(name)
    changed = {label: values * factors.get(label, 1.0) for label, values in columns.items() if values.dtype.kind == "f"}
    return found(measure({**columns, **changed}, kinds, given))


@pytest.mark.parametrize("name", real_sets())
def test_nothing_is_found_where_units_and_signs_are_right(name: str) -> None:
    assert {check: one.told() for check, one in found(measured(name)).items()} == {}


@needs_data
@pytest.mark.parametrize("name", MOVING)
def test_energies_and_forces_of_real_sets_agree(name: str) -> None:
    factor = work_factor(measured(name), np.arange(len(measured(name))))
    assert factor is not None
    assert 0.85 < factor.factor < 1.1


@needs_data
@pytest.mark.parametrize("name", QUICK)
def test_gradients_are_told_from_forces(name: str) -> None:
    told = planted(name, forces=-1.0)
    assert set(told) == {"forces_are_gradients"}
    assert "{forces: gradients}" in told["forces_are_gradients"].remedy


@needs_data
@pytest.mark.parametrize(
    ("energy", "forces", "declare"),
    [
        ("eV", "kcal/mol/Å", "{forces: kcal/mol/Å} (a factor of 0.04336)"),
        ("kcal/mol", "eV/Å", "{energy: kcal/mol} (a factor of 23.06)"),
        ("Hartree", "eV/Å", "{energy: Hartree} (a factor of 0.03675)"),
        ("eV", "Hartree/Bohr", "{forces: Hartree/Bohr} (a factor of 51.42)"),
        ("Hartree", "Hartree/Bohr", "{energy: Hartree, forces: Hartree/Bohr} (a factor of 1.89)"),
        ("kJ/mol", "eV/Å", "{energy: kJ/mol} (a factor of 96.49)"),
        ("eV", "meV/Å", "{forces: meV/Å} (a factor of 0.001)"),
    ],
)
@pytest.mark.parametrize("name", QUICK)
def test_units_that_contradict_each_other_are_named(name: str, energy: str, forces: str, declare: str) -> None:
    """The numbers that a file in these units holds, read as eV and eV/Å."""
    told = planted(name, energy=1 / unit(energy).factor, forces=1 / unit(forces).factor)
    remedy = told["units_look_wrong"].remedy
    assert declare in remedy or f"a factor of {unit(forces).factor / unit(energy).factor:.4g}" in remedy
    assert "forces_are_gradients" not in told


@needs_data
@pytest.mark.parametrize("name", ["acac_600K", "rmd17_ethanol"])
def test_energies_of_one_atom_in_place_of_totals_are_told(name: str) -> None:
    n_atoms = float(np.median(read_set(name)[0]["n_atoms"]))
    assert "those of one atom" in planted(name, energy=1 / n_atoms)["units_look_wrong"].remedy


@needs_data
@pytest.mark.parametrize("name", ["mlearn_Si", "acac_600K", "rmd17_ethanol"])
def test_units_that_agree_and_are_of_an_unusual_size_are_suspected(name: str) -> None:
    factor = 1 / unit("kcal/mol").factor
    columns, kinds, given = read_set(name)
    scaled = {label: columns[label] * factor for label in ("energy", "forces")}
    held = measure({**columns, **scaled}, kinds, given)
    told = [one for check in CHECKS if check.find for one in check.find(held, check.options)]
    assert {one.check for one in told} == {"units_suspect"}
    assert "In kcal/mol/Å it would be" in told[0].remedy


@needs_data
@pytest.mark.parametrize(("length", "name"), [("Bohr", "acac_600K"), ("nm", "acac_600K"), ("pm", "mlearn_Si")])
def test_lengths_in_another_unit_are_suspected(length: str, name: str) -> None:
    factor = 1 / unit(length).factor
    columns, kinds, given = read_set(name)
    scaled = {label: columns[label] * factor for label in ("positions", "cell")}
    bare = {label: values for label, values in columns.items() if label not in ("energy", "forces", "stress")}
    one = found(measure({**bare, **scaled}, kinds, given))
    if length == "pm":
        assert one == {}  # no two atoms are within reach of one another: the volume tells
    else:
        assert length in one["units_suspect"].remedy


@needs_data
def test_energies_of_all_electrons_in_hartree_are_suspected() -> None:
    told = planted("acac_600K", energy=1 / unit("Hartree").factor, forces=1 / unit("Hartree").factor)
    assert "{energy: Hartree}" in told["units_suspect"].remedy


@needs_data
@pytest.mark.parametrize("name", STRAINED)
def test_stress_of_the_other_sign_and_of_other_units(name: str) -> None:
    columns, kinds, given = read_set(name)
    modulus = bulk_modulus(measured(name))
    assert modulus is not None
    assert 0.05 < modulus.factor < 2.0  # lithium 0.09 eV/Å³, 14 GPa; tungsten alloys 1.6, 256 GPa

    def changed(factor: float) -> dict[str, Finding]:
        return found(measure({**columns, "stress": columns["stress"] * factor}, kinds, given))

    assert set(changed(-1.0)) == {"stress_sign"}
    for name_of_unit in ("GPa", "kbar"):
        told = changed(1 / unit(name_of_unit).factor)
        assert set(told) == {"stress_units_look_wrong"}
        assert "database.units: {stress: " in told["stress_units_look_wrong"].remedy
    assert "{stress: kbar}" in changed(1 / unit("kbar").factor)["stress_units_look_wrong"].remedy


@needs_data
def test_one_split_of_another_sign_is_named() -> None:
    columns, kinds, given = read_set("rmd17_benzene")
    forces = columns["forces"].copy()
    first = given.index("test")
    atoms = int(columns["n_atoms"][:first].sum())
    forces[atoms:] *= -1.0
    of_atoms = ("species", "positions", "forces")
    parts = [
        measure(
            {label: values[part if label in of_atoms else rows] for label, values in held.items()},
            kinds[rows],
            given[rows],
        )
        for held in [{**columns, "forces": forces}]
        for rows, part in ((slice(0, first), slice(0, atoms)), (slice(first, None), slice(atoms, None)))
    ]
    told = found(joined(parts))
    assert "'test'" in told["forces_are_gradients"].what


# Where truth is known: three atoms on springs.


def springs(n: int, seed: int = 0, turned: bool = False) -> dict[str, NDArray[Any]]:
    """n frames of a shaken triangle, E = ½ Σ k (r - 1.5)² with k = 20 eV/Å²."""
    rng = np.random.default_rng(seed)
    base = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [0.75, 1.3, 0.0]])
    positions, energies, forces = [], [], []
    for _ in range(n):
        r = base + rng.normal(0.0, 0.03, (3, 3))
        if turned:
            axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
            r = r @ (axes * np.sign(np.linalg.det(axes))) + rng.normal(0.0, 5.0, 3)
        force, energy = np.zeros((3, 3)), 0.0
        for i in range(3):
            for j in range(i):
                d = r[j] - r[i]
                length = float(np.linalg.norm(d))
                energy += 10.0 * (length - 1.5) ** 2
                pull = 20.0 * (length - 1.5) * d / length
                force[i] += pull
                force[j] -= pull
        positions.append(r)
        energies.append(energy)
        forces.append(force)
    return {
        "n_atoms": np.full(n, 3),
        "species": np.tile([8, 8, 6], n),
        "positions": np.concatenate(positions),
        "cell": np.zeros((n, 3, 3)),
        "pbc": np.zeros((n, 3), dtype=bool),
        "energy": np.array(energies),
        "forces": np.concatenate(forces),
    }


def measures_of(columns: Mapping[str, NDArray[Any]]) -> Measures:
    n = len(columns["n_atoms"])
    return measure(columns, [None] * n, [None] * n)


@pytest.mark.parametrize("turned", [False, True])
def test_the_work_of_known_forces_is_the_change_of_energy(turned: bool) -> None:
    held = measures_of(springs(200, turned=turned))
    told = np.isfinite(held.step_energy)
    assert told.sum() > 150
    np.testing.assert_allclose(held.step_energy[told], held.step_work[told], atol=0.01)
    factor = work_factor(held, np.arange(200))
    assert factor is not None
    assert abs(factor.factor - 1) < 0.01


def test_a_few_wrong_rows_do_not_move_the_factor() -> None:
    columns = springs(200)
    columns["energy"][::20] += 50.0
    columns["forces"][:30] *= -1.0
    factor = work_factor(measures_of(columns), np.arange(200))
    assert factor is not None
    assert abs(factor.factor - 1) < 0.05


def test_rows_that_are_no_neighbours_say_nothing() -> None:
    columns = springs(100)
    columns["species"] = np.concatenate([np.roll([8, 6, 1], at % 3) for at in range(100)])  # numbered otherwise
    columns["positions"] = columns["positions"] * np.repeat(np.linspace(1, 60, 100), 3)[:, None]
    held = measures_of(columns)
    assert np.isnan(held.step_energy).all()
    assert work_factor(held, np.arange(100)) is None
    same = {label: np.concatenate([values, values]) for label, values in springs(1).items()}
    assert np.isnan(measures_of(same).step_energy).all()  # the same structure twice is no step
