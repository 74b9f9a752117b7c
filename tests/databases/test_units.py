"""Units and signs: every factor against a number that was worked out by hand, every mistake named."""

from __future__ import annotations

import pytest

from forcefoundry.databases.units import Conversion, declared, unit

# CODATA 2018: eV = 1.602176634e-19 J and mol = 6.02214076e23 exactly; Hartree and Bohr as below.
HARTREE, BOHR = 27.211386245988, 0.529177210903
KJ_MOL = 1000 / 6.02214076e23 / 1.602176634e-19  # eV
GPA = 1e9 * 1e-30 / 1.602176634e-19  # eV/Å³


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("eV", 1.0),
        ("meV", 0.001),
        ("Hartree", HARTREE),
        ("Ha", HARTREE),
        ("Rydberg", 13.605693122994),
        ("Ry", HARTREE / 2),
        ("kJ/mol", KJ_MOL),
        ("kJ/mol", 0.010364269656),
        ("kcal/mol", 4.184 * KJ_MOL),
        ("kcal/mol", 0.043364104242),
        ("Å", 1.0),
        ("\u212b", 1.0),  # the Ångström sign
        ("angstrom", 1.0),
        ("Bohr", BOHR),
        ("nm", 10.0),
        ("pm", 0.01),
        ("eV/Å", 1.0),
        ("eV/A", 1.0),
        ("meV/Å", 0.001),
        ("Hartree/Bohr", HARTREE / BOHR),
        ("Hartree/Bohr", 51.422067476),
        ("kcal/mol/Å", 0.043364104242),
        ("kcal·mol^-1·Å^-1", 0.043364104242),
        ("kJ/mol/nm", 0.0010364269656),
        ("GPa", GPA),
        ("GPa", 1 / 160.2176634),
        ("kbar", 1 / 1602.176634),
        ("bar", 1 / 1602176.634),
        ("eV/Å^3", 1.0),
        ("eV/Å³", 1.0),
        ("eV/Å**3", 1.0),
        ("eV·Å⁻³", 1.0),
        ("Hartree/Bohr^3", HARTREE / BOHR**3),
        ("Hartree/Bohr^3", 183.63153644),
        ("e", 1.0),
        ("e·Å", 1.0),
        ("e*Å", 1.0),
        ("e Å", 1.0),
        ("Debye", 0.2081943327),
        ("e·Bohr", BOHR),
        ("2.5417 e·Å", 2.5417),
        ("1e-3 eV", 0.001),
        ("27.2114eV", 27.2114),
        ("2 * Hartree / Bohr", 2 * HARTREE / BOHR),
    ],
)
def test_a_unit_in_canonical_ones(text: str, factor: float) -> None:
    assert unit(text).factor == pytest.approx(factor, rel=3e-10)


def test_canonical_units_are_exactly_one() -> None:
    for text in ("eV", "Å", "eV/Å", "eV/Å^3", "e", "e·Å"):
        assert unit(text).factor == 1.0
    bare = declared(None, None)
    for name in ("energy", "forces", "stress", "charge", "charges", "dipole", "positions", "cell", "weight"):
        assert bare.of(name).factor == 1.0
        assert bare.of(name).sign is None
    assert bare.of("weight").unit == "1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Hartre", "'Hartre' is no unit that is known here. Did you mean Hartree?"),
        ("ev", "Did you mean eV?"),
        ("MeV", "Did you mean meV?"),  # a million times as much, so it is not guessed
        ("kcal/mole", "Did you mean mol?"),
        ("eV/Angstroem", "Did you mean angstrom?"),
        ("eV/atom", "a label is one of the whole structure"),
        ("xyzzy", "Known are eV, meV,"),
        ("kcal/(mol Å)", "write it like kcal/mol/Å"),
        ("", "cannot be read as a unit"),
        ("2.5417", "write it like kcal/mol/Å, eV/Å^3 or 2.5417 e·Å"),
        ("0 eV", "cannot be read"),
        ("-1 eV", "cannot be read"),
        ("/eV", "cannot be read"),
        ("eV/", "cannot be read"),
    ],
)
def test_what_is_no_unit(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        unit(text)
    assert told in str(caught.value)


def test_forces_stress_and_dipole_follow_energy_length_and_charge() -> None:
    found = declared({"energy": "kcal/mol", "length": None}, None)
    assert found.of("forces") == Conversion("kcal/mol/Å", pytest.approx(0.043364104242, rel=1e-9))
    assert found.of("stress") == Conversion("kcal/mol/Å^3", pytest.approx(0.043364104242, rel=1e-9))
    assert found.of("dipole").factor == 1.0
    atomic = declared({"energy": "Hartree", "length": "Bohr"}, {})
    assert atomic.of("forces") == Conversion("Hartree/Bohr", pytest.approx(51.422067476, rel=1e-9))
    assert atomic.of("stress") == Conversion("Hartree/Bohr^3", pytest.approx(183.63153644, rel=1e-9))
    assert atomic.of("dipole") == Conversion("e·Bohr", pytest.approx(0.529177210903, rel=1e-9))
    assert atomic.of("positions").factor == atomic.of("cell").factor == pytest.approx(0.529177210903, rel=1e-9)
    mixed = declared({"energy": "Hartree", "length": "Bohr", "forces": "eV/Å", "stress": "kbar", "dipole": "D"}, {})
    assert mixed.of("forces") == Conversion("eV/Å", 1.0)
    assert mixed.of("stress") == Conversion("kbar", pytest.approx(1 / 1602.176634, rel=1e-9))
    assert mixed.of("dipole") == Conversion("D", pytest.approx(0.2081943327, rel=1e-9))


def test_signs() -> None:
    found = declared({"stress": "GPa"}, {"forces": "gradients", "stress": "pressure"})
    assert found.of("forces") == Conversion("eV/Å", -1.0, "gradients")
    assert found.of("stress") == Conversion("GPa", pytest.approx(-1 / 160.2176634, rel=1e-9), "pressure")
    plain = declared({}, {"forces": "forces", "stress": "tension"})
    assert plain.of("forces") == Conversion("eV/Å", 1.0)
    assert plain.of("stress", "my_virial") == Conversion("eV/Å³", 1.0)  # what is declared beats the key's name


def test_a_virial_is_an_energy() -> None:
    by_name = declared({"energy": "Hartree", "length": "Bohr"}, None).of("stress", "dft_virial")
    assert by_name == Conversion("Hartree", pytest.approx(183.63153644, rel=1e-9), "virial", is_virial=True)
    said = declared({"stress": "meV"}, {"stress": "virial"}).of("stress", "W")
    assert said == Conversion("meV", 0.001, "virial", is_virial=True)
    with pytest.raises(ValueError, match=r"units\.stress is kbar, but what is read is a virial, .* an energy"):
        declared({"stress": "kbar"}, None).of("stress", "virial")
    with pytest.raises(ValueError, match=r"units\.stress is eV, an energy, .*database\.signs\.stress=virial"):
        declared({"stress": "eV"}, None).of("stress", "stress")


@pytest.mark.parametrize(
    ("units", "signs", "told"),
    [
        ({"energi": "eV"}, {}, "database.units names 'energi'. Did you mean energy?"),
        (
            {"energy": "Hartre"},
            {},
            "database.units.energy: 'Hartre' is no unit that is known here. Did you mean Hartree?",
        ),
        ({"energy": "Å"}, {}, "database.units.energy is Å, which is no unit of energy: give one of eV, meV, Hartree"),
        ({"energy": "kcal"}, {}, "database.units.energy is kcal, which is no unit of energy"),
        ({"forces": "kcal/mol"}, {}, "database.units.forces is kcal/mol, which is no unit of forces: give one of eV/Å"),
        ({"dipole": 2.5417}, {}, "database.units.dipole: '2.5417' cannot be read as a unit: write it like"),
        ({}, {"forces": "gradient"}, "database.signs.forces is 'gradient'. Did you mean gradients?"),
        ({}, {"stres": "pressure"}, "database.signs names 'stres'. Did you mean stress?"),
        ({}, {"energy": "negative"}, "database.signs names 'energy'. Known are forces, stress."),
    ],
)
def test_mistakes_in_the_configuration(units: dict[str, str], signs: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        declared(units, signs)
    assert str(caught.value).startswith(told)
