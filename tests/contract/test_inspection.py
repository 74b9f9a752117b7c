"""A look at a file: counts, keys, choices, guesses with their evidence, and what is wrong, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet
from ase.units import Bohr, Debye, GPa, Hartree, fs, kB, kcal, mol

from forcefoundry.contract.guessing import Guess, proposed
from forcefoundry.contract.inspection import PROPERTIES, Inspection, inspect
from forcefoundry.contract.sniffing import guess_format
from forcefoundry.databases.formats import Address, place
from tests.databases.formats import writers
from tests.outside import data

ALL = 10**12
WRITERS = {name.removeprefix("write_"): one for name, one in vars(writers).items() if name.startswith("write_")}


def look(path: Path, rows: int = ALL, atoms: int = ALL, **asked: str) -> Inspection:
    return inspect(path, guess_format(path)[0], asked, rows, atoms)


def guess_of(found: Inspection, name: str) -> Guess:
    (one,) = [one for one in found.guesses if one.of == name]
    return one


def relabelled(path: Path, rows: list[ase.Atoms], energy: float = 1.0, forces: float = 1.0, **more: Any) -> Path:
    """Rows with labels in other units, and positions too where `length` says so."""
    made = []
    for row in rows:
        copy = ase.Atoms(row.numbers, row.positions * more.get("length", 1.0), cell=row.cell * more.get("length", 1.0))
        copy.pbc = row.pbc
        results = {"energy": row.get_potential_energy() * energy, "forces": row.get_forces() * forces}
        if "stress" in more:
            results["stress"] = row.get_stress() * more["stress"]
        copy.calc = SinglePointCalculator(copy, **results)
        made.append(copy)
    ase.io.write(path, made, format="extxyz")
    return path


@pytest.fixture(scope="module")
def trajectory() -> list[ase.Atoms]:
    """Sixty steps of copper at some temperature, with EMT's energies, forces and stresses."""
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.calc = EMT()
    scale = np.sqrt(atoms.get_masses() * kB * 800.0)[:, None]
    atoms.set_momenta(np.random.default_rng(0).normal(0, 1, (len(atoms), 3)) * scale)
    dynamics = VelocityVerlet(atoms, 2 * fs)
    made = []
    for _ in range(60):
        dynamics.run(1)
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(
            copy, energy=atoms.get_potential_energy(), forces=atoms.get_forces(), stress=atoms.get_stress()
        )
        made.append(copy)
    return made


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_format_is_known_by_itself_and_gives_the_same(name: str, tmp_path: Path) -> None:
    suffix = {"extxyz": "xyz", "ase_db": "db", "ase_lmdb": "aselmdb", "npz": "npz", "hdf5": "h5", "ase_folder": "d"}[
        name
    ]
    path = WRITERS[name](tmp_path / f"rows.{suffix}", writers.drawn())
    assert guess_format(path)[0] == name
    found = look(path)
    assert found.n_rows == len(found.where) == 24
    assert found.measures.n_atoms.sum() == sum(1 + at % 6 for at in range(24))
    assert found.measures.species == (1, 6, 8)
    assert {one: found.choices[one].key for one in ("energy", "forces", "dipole")} == {
        one: one for one in ("energy", "forces", "dipole")
    }
    assert (found.apart, found.stopped) == ([], "")
    assert found.measures.energy.min() == -9391.0
    assert (found.measures.pbc == [False] * 3).all()


def test_a_file_without_an_ending_is_known_by_how_it_begins(tmp_path: Path) -> None:
    for name in ("ase_db", "hdf5", "npz", "ase_lmdb", "extxyz"):
        suffix = {"ase_lmdb": "aselmdb", "npz": "npz"}.get(name, "x")
        written = WRITERS[name](tmp_path / f"{name}.{suffix}", writers.drawn(6))
        bare = written.rename(tmp_path / name)
        assert guess_format(bare)[0] == name, name
    assert guess_format(place("postgresql://me@host/name"))[0] == "ase_postgres"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.dat", b"what is this", r"What format .*a\.dat has cannot be told from its beginning or its name\. Say it"),
        ("empty", b"", "cannot be told from its beginning"),
        ("gone.xyz", None, r"gone\.xyz does not exist: give a file or folder of structures"),
    ],
)
def test_what_cannot_be_known_is_told(name: str, content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        guess_format(tmp_path / name)


def test_keys_are_shown_with_where_they_lie_their_shapes_and_their_ends(tmp_path: Path) -> None:
    rows = writers.drawn(4)
    for at, row in enumerate(rows):
        row.info |= {"REF_energy": float(at), "name": f"n{at % 2}", "vector": np.arange(3.0) - at, "done": True}
        row.arrays["tags_of_mine"] = np.arange(len(row))
        row.info |= {"only_here": 5} if at == 2 else {}
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    keys = {one.key: one for one in look(tmp_path / "a.xyz").keys}
    assert (keys["REF_energy"].low, keys["REF_energy"].high, keys["REF_energy"].shapes) == (0, 3, {"number": 4})
    assert keys["forces"].places == {"results": 4}
    assert keys["forces"].shapes == {"N × 3": 4}
    assert keys["name"].words == {"n0": 2, "n1": 2}
    assert (keys["vector"].shapes, keys["vector"].low, keys["vector"].high) == ({"3": 4}, -3.0, 2.0)
    assert keys["tags_of_mine"].shapes == {"N": 4}
    assert keys["done"].shapes == {"true or false": 4}
    assert keys["only_here"].rows == 1


def test_keys_are_chosen_as_the_loader_chooses_and_rivals_are_kept(tmp_path: Path) -> None:
    rows = writers.drawn(4)
    for row in rows:
        row.info |= {"REF_energy": 1.0, "dft_energy": 2.0, "mine": 3.0}
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    found = look(tmp_path / "a.xyz")
    assert (found.choices["energy"].key, found.choices["energy"].rivals) == ("REF_energy", ("energy", "dft_energy"))
    assert (found.measures.energy == 1.0).all()
    assert "stress" not in found.choices
    assert (look(tmp_path / "a.xyz", energy="mine").measures.energy == 3.0).all()
    with pytest.raises(ValueError, match=r"No row carries the key 'mien' .* Did you mean mine"):
        look(tmp_path / "a.xyz", energy="mien")


def test_rows_that_are_wrong_are_counted_and_named_and_the_others_are_looked_at(tmp_path: Path) -> None:
    rows = writers.drawn(12)
    rows[3].positions[0] = np.nan
    rows[4].pbc = True
    rows[7].calc.results["energy"] = np.inf
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    lines = (tmp_path / "a.xyz").read_text().splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if line.strip().isdigit()][9]
    lines[at + 2] = "Xx 1.0 what\n"
    (tmp_path / "a.xyz").write_text("".join(lines))
    found = look(tmp_path / "a.xyz")
    assert found.n_rows == 12
    assert [where for where, _ in found.apart] == ["frame 3", "frame 4", "frame 7", "frame 9"]
    told = dict(found.apart)
    assert "the position of atom 0" in told["frame 3"]
    assert "periodic" in told["frame 4"]
    assert told["frame 7"] == "energy (key 'energy') is not finite. Repair or remove the row."
    assert told["frame 9"].startswith("cannot be read as extended XYZ (")
    assert len(found.where) == 9  # frame 7 is a structure, without an energy
    assert np.isnan(found.measures.energy[found.where.index("frame 7")])


def test_a_label_that_is_wrong_under_a_key_that_is_not_taken_harms_nobody(tmp_path: Path) -> None:
    rows = writers.drawn(4)
    for row in rows:
        row.info |= {"REF_energy": 1.0}
    rows[1].calc.results["energy"] = np.nan
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    assert look(tmp_path / "a.xyz").apart == []


def test_reading_ends_after_so_many_rows_or_atoms(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.xyz", writers.drawn(24), format="extxyz")
    found = look(tmp_path / "a.xyz", rows=10)
    assert (found.n_rows, found.stopped) == (10, "only the first 10 rows were looked at (31 atoms)")
    found = look(tmp_path / "a.xyz", atoms=6)
    assert (found.n_rows, found.stopped) == (3, "only the first 3 rows were looked at (6 atoms)")
    assert look(tmp_path / "a.xyz", rows=24).stopped == ""


def test_a_file_that_breaks_off_is_looked_at_as_far_as_it_goes(tmp_path: Path) -> None:
    path = writers.write_hdf5(tmp_path / "a.h5", writers.drawn(24))
    whole = look(path).n_rows
    ase.io.write(tmp_path / "a.xyz", writers.drawn(24), format="extxyz")
    text = (tmp_path / "a.xyz").read_text()
    (tmp_path / "a.xyz").write_text(text[: len(text) // 2])
    found = look(tmp_path / "a.xyz")
    assert 8 < found.n_rows < whole
    assert "the file ends" in found.apart[-1][1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "0\nProperties=species:S:1:pos:R:3\n" * 2,
            "holds no structure that can be looked at; frame 0: the structure has",
        ),
        ("3\n\nH 0 0 0\n", "holds no structure that can be looked at; frame 0: cannot be read as extended XYZ"),
        ("\n\n", "holds no structure that can be looked at; it has no rows"),
    ],
)
def test_where_there_is_nothing_to_look_at_that_is_told(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(content)
    with pytest.raises(ValueError, match=told):
        look(tmp_path / "a.xyz")


def test_damage_that_ends_all_reading_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\0" + b"\x07" * 4000)
    with pytest.raises(ValueError, match=r"a\.db"):
        look(tmp_path / "a.db")


@pytest.mark.parametrize(("unit", "name"), [(1.0, None), (Hartree, "Hartree"), (kcal / mol, "kcal/mol")])
def test_units_of_totals_of_all_electrons_are_told_by_the_atoms(unit: float, name: str | None) -> None:
    path = data() / "acac" / "train_300K.xyz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    rows = ase.io.read(path, ":30")
    made = relabelled(Path("rows.xyz"), rows, 1 / unit, 1 / unit)
    found = look(made)
    assert guess_of(found, "energy").unit == name
    assert "× what all electrons of the atoms have in Hartree" in guess_of(found, "energy").evidence
    np.testing.assert_allclose(found.measures.energy, [row.get_potential_energy() for row in rows], rtol=1e-7)
    np.testing.assert_allclose(found.columns["forces"], np.concatenate([row.get_forces() for row in rows]), atol=1e-6)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("length", "name"), [(1.0, None), (Bohr, "Bohr"), (10.0, "nm"), (0.01, "pm")])
def test_lengths_are_told_by_bonds(length: float, name: str | None, trajectory: list[ase.Atoms]) -> None:
    found = look(relabelled(Path("rows.xyz"), trajectory, forces=length, length=1 / length))
    assert guess_of(found, "length").unit == name
    assert "of their covalent radii apart" in guess_of(found, "length").evidence
    np.testing.assert_allclose(found.columns["positions"], np.concatenate([r.positions for r in trajectory]), atol=1e-5)
    np.testing.assert_allclose(found.measures.volume, trajectory[0].get_volume(), rtol=1e-5)


@pytest.mark.parametrize(
    ("energy", "forces", "unit", "sign"),
    [
        (1.0, 1.0, None, None),
        (1.0, -1.0, None, "gradients"),
        (1.0, Bohr / Hartree, "Hartree/Bohr", None),
        (1.0, -mol / kcal, "kcal/mol/Å", "gradients"),
    ],
)
def test_forces_are_told_by_their_work_along_a_trajectory(
    energy: float, forces: float, unit: str | None, sign: str | None, trajectory: list[ase.Atoms]
) -> None:
    found = look(relabelled(Path("rows.xyz"), trajectory, energy, forces))
    guess = guess_of(found, "forces")
    assert (guess.unit, guess.sign) == (unit, sign)
    assert "the work of the forces" in guess.evidence
    np.testing.assert_allclose(found.columns["forces"], np.concatenate([r.get_forces() for r in trajectory]), atol=1e-6)


@pytest.mark.parametrize(
    ("energy", "forces", "told"),
    [
        (mol / kcal, 1.0, "perhaps eV/Å with energies in kcal/mol or "),
        (1 / Hartree, Bohr / Hartree, "Hartree/Bohr with energies in Hartree"),
        (1.0, Bohr, "eV/Bohr with energies in eV or Hartree/Bohr with energies in Hartree"),
        (1.0, 1 / 300.0, "unclear: no unit fits"),
    ],
)
def test_what_work_does_not_decide_is_told_and_not_declared(
    energy: float, forces: float, told: str, trajectory: list[ase.Atoms]
) -> None:
    guess = guess_of(look(relabelled(Path("rows.xyz"), trajectory, energy, forces)), "forces")
    assert told in guess.told
    assert (guess.unit, guess.sign) == (None, None)


def test_a_few_wrong_forces_do_not_speak_for_all(trajectory: list[ase.Atoms]) -> None:
    rows = [row.copy() for row in trajectory]
    for at, (row, known) in enumerate(zip(rows, trajectory, strict=True)):
        row.calc = SinglePointCalculator(row, **{**known.calc.results})
        row.calc.results["forces"] = known.get_forces() * (1e5 if at == 7 else 1.0)
    guess = guess_of(look(relabelled(Path("rows.xyz"), rows)), "forces")
    assert (guess.told, guess.unit, guess.sign) == ("as energy and length say", None, None)


def test_rows_that_are_no_trajectory_say_nothing_of_forces(trajectory: list[ase.Atoms]) -> None:
    rng = np.random.default_rng(0)
    apart = [
        ase.Atoms(row.numbers, row.positions + rng.normal(0, 0.3, (32, 3)), cell=row.cell, pbc=True)
        for row in trajectory
    ]
    for row in apart:
        row.calc = SinglePointCalculator(row, energy=1.0, forces=rng.normal(0, 1, (32, 3)))
    found = look(relabelled(Path("rows.xyz"), apart))
    assert (guess_of(found, "forces").unit, guess_of(found, "forces").sign) == (None, None)


@pytest.mark.parametrize(("stress", "word"), [(1.0, "taken for eV/Å³"), (1 / GPa, "GPa"), (10 / GPa, "kbar")])
def test_the_size_of_stresses_is_told(stress: float, word: str, trajectory: list[ase.Atoms]) -> None:
    strained = []
    for row in trajectory[:12]:
        copy = row.copy()
        copy.set_cell(row.cell * 0.97, scale_atoms=True)
        copy.calc = EMT()
        strained.append(copy)
    guess = guess_of(look(relabelled(Path("rows.xyz"), strained, stress=stress)), "stress")
    assert word in guess.told
    assert guess.unit is None  # suspected, never declared


def test_the_unit_of_dipoles_is_left_to_people_with_a_hint(tmp_path: Path) -> None:
    rows = [molecule("H2CO"), molecule("H2O"), molecule("CH3OH")]
    for row, length in zip(rows, (0.1, 0.169, 0.3), strict=True):
        row.calc = SinglePointCalculator(row, energy=-1.0, dipole=np.array([0.0, 0.0, length]))
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    found = look(tmp_path / "a.xyz")
    guess = guess_of(found, "dipole")
    assert (guess.told, guess.unit) == ("unclear", None)
    assert (
        f"above 0.169, which as e·Å would be {0.169 / Debye:.3g} Debye or {0.169 / Bohr:.3g} e·Bohr" in guess.evidence
    )
    assert (found.columns["dipole"] == [row.calc.results["dipole"] for row in rows]).all()


def test_isolated_atoms_kinds_and_idle_cells_are_seen(tmp_path: Path) -> None:
    rows = [row for row in writers.drawn(12) if len(row) > 1]
    for row in rows:
        row.cell = np.eye(3) * 50.0
    rows[0].info["config_type"] = "cluster"
    rows.append(ase.Atoms("H", info={"config_type": "IsolatedAtom", "energy": -13.6}))
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    found = look(tmp_path / "a.xyz")
    assert found.isolated == 1
    assert found.measures.kinds == ("cluster", "IsolatedAtom")
    assert found.columns["cell"].any(axis=(1, 2)).sum() == len(rows) - 1


def test_suspicious_rows_are_found_with_their_places(tmp_path: Path, trajectory: list[ase.Atoms]) -> None:
    rows = [row.copy() for row in trajectory[:20]]
    for row, known in zip(rows, trajectory, strict=False):
        row.calc = SinglePointCalculator(row, **known.calc.results)
    rows[5].positions[1] = rows[5].positions[0] + 0.1
    rows[9].calc.results["forces"] = rows[9].calc.results["forces"] * 1000
    rows.append(rows[3])
    ase.io.write(tmp_path / "a.xyz", rows, format="extxyz")
    found = {(one.check, where): one for where, one in look(tmp_path / "a.xyz").findings}
    assert ("close_atoms", "frame 5") in found
    assert ("force_outlier", "frame 9") in found
    assert "that of frame 3" in found["exact_duplicate", "frame 20"].got


def test_what_would_be_declared_is_what_was_guessed() -> None:
    guesses = [
        Guess("length", "x", "y", "Bohr"),
        Guess("forces", "x", "y", None, "gradients"),
        Guess("energy", "x", "y"),
    ]
    assert proposed(guesses) == ({"length": "Bohr"}, {"forces": "gradients"})
    assert set(PROPERTIES) >= {"energy", "forces", "stress", "charge", "spin", "charges", "dipole"}
    assert isinstance(place("postgresql://me@host/name"), Address)
