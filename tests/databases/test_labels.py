"""Labels from rows to columns: which key is taken, what is said of another, units, signs, and rows that have none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from forcefoundry.databases import Database
from forcefoundry.databases.labels import ALIASES, Choice, available, carried_by, choose_key
from forcefoundry.databases.loading import load_database

HARTREE, BOHR = 27.211386245988, 0.529177210903  # eV and Å, CODATA 2018
KCAL_MOL = 0.0433641042418  # eV


def water(seed: int, results: Mapping[str, Any] | None = None, **info: Any) -> ase.Atoms:
    """A shaken, periodic water molecule with some results of a calculator; all its numbers follow from the seed."""
    rng = np.random.default_rng(seed)
    made = ase.Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[4.0, 5.0, 6.0], pbc=True)
    made.positions += rng.normal(0, 0.05, (3, 3))
    made.info.update(info)
    given = {"energy": -380.0 - seed, "forces": rng.normal(0, 1, (3, 3))} if results is None else results
    made.calc = SinglePointCalculator(made, **given) if given else None
    return made


def load(folder: Path, rows: Sequence[ase.Atoms], **changes: Any) -> tuple[Database, dict[str, Any]]:
    """The rows by way of an ASE database, which keeps every bit, with a small share to steer training by."""
    path = folder / "rows.db"
    path.unlink(missing_ok=True)
    with ase.db.connect(path, type="db") as connection:
        for row in rows:
            connection.write(row, data={**row.info, **{k: v for k, v in row.arrays.items() if k not in BORN_WITH}})
    config = {
        "path": str(path),
        "format": "ase_db",
        "files": None,
        "keys": {"energy": None, "forces": None},
        "group": None,
        "split": {"seed": 0, "valid": 0.3, "test": 0.0, "held_out": []},
    }
    return load_database(config | changes)


BORN_WITH = ("numbers", "positions")


# Which key


def test_the_order_is_reference_then_calculator_then_aliases() -> None:
    rows = [water(seed, REF_energy=1.0, free_energy=2.0) for seed in range(3)]
    carried = carried_by(rows)
    assert choose_key("energy", None, carried) == Choice("REF_energy", ("energy", "free_energy"))
    assert choose_key("energy", "free_energy", carried) == Choice("free_energy")
    assert choose_key("forces", None, carried) == Choice("forces")
    assert dict(carried["energy"]) == {"results": 3}
    assert dict(carried["REF_energy"]) == {"info": 3}


def test_the_noisy_labels_of_rmd17_are_never_taken_by_default() -> None:
    row = ase.Atoms("O", info={"energies": -1.0, "old_energies": -2.0})
    row.arrays["forces"], row.arrays["old_forces"] = np.zeros((1, 3)), np.ones((1, 3))
    assert choose_key("energy", None, carried_by([row])) == Choice("energies")
    assert choose_key("forces", None, carried_by([row])) == Choice("forces")
    assert not any("old" in key for keys in ALIASES.values() for key in keys)
    bare = ase.Atoms("O", info={"old_energies": -2.0})
    with pytest.raises(ValueError, match=r"No row carries energy .*old_energies"):
        choose_key("energy", None, carried_by([bare]))


def test_a_calculators_energies_of_single_atoms_are_no_energy() -> None:
    row = water(0, {"energies": np.zeros(3)})
    with pytest.raises(ValueError, match="No row carries energy"):
        choose_key("energy", None, carried_by([row]))


def test_what_is_none_is_not_carried() -> None:
    assert "energy" not in available(ase.Atoms("O", info={"energy": None}))


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("energy", "dft_enrgy", "'dft_enrgy' that database.keys.energy names. Did you mean dft_energy?"),
        ("energy", None, "No row carries energy under one of the usual keys (REF_energy, energy, free_energy"),
        ("energy", None, "Did you mean my_energy_pbe or dft_energies? Name the key in database.keys.energy"),
        ("dipole", None, "Rows carry dft_energies, my_energy_pbe. Name the key in database.keys.dipole"),
        ("dipol", None, "'dipol' is not a column. Did you mean dipole?"),
    ],
)
def test_asked_for_and_found_nowhere(name: str, asked: str | None, told: str) -> None:
    keys = ("dft_energy",) if asked else ("my_energy_pbe", "dft_energies")
    rows = [ase.Atoms("O", info=dict.fromkeys(keys, 1.0))]
    with pytest.raises(ValueError, match=r".") as caught:
        choose_key(name, asked, carried_by(rows))
    assert told in str(caught.value)


# Two candidates


def test_two_keys_that_differ_are_said_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [water(seed, REF_energy=-380.0 - seed + (0.25 if seed == 4 else 0.0)) for seed in range(12)]
    base, summary = load(tmp_path, rows)
    assert summary["properties"]["energy"]["key"] == "REF_energy"
    assert base.columns["energy"][4] == -383.75
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert said.getMessage() == (
        "energy stands under two keys, and 'REF_energy' is read, not 'energy'; 1 of 12 rows that have both differ, by "
        "up to 0.25 eV. If another is meant, name it in database.keys.energy"
    )
    caplog.clear()
    load(tmp_path, rows, keys={"energy": "energy"})
    assert not caplog.records


def test_rows_that_only_have_the_other_key_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [water(seed, **({"REF_energy": -1.0} if seed < 9 else {})) for seed in range(12)]
    base, summary = load(tmp_path, rows)
    assert summary["properties"]["energy"]["count"] == 9
    assert np.isnan(base.columns["energy"][9:]).all()
    assert "3 rows have 'energy' alone and count as unlabelled" in caplog.text


def test_two_keys_that_say_the_same_need_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = []
    for seed in range(12):
        row = water(seed)
        stress = np.diag([1.0, 2.0, 3.0]) * 0.01 * (seed + 1)
        row.info["stress"], row.info["dft_virial"] = stress, -stress * 120.0
        rows.append(row)
    base, _ = load(tmp_path, rows, keys={"energy": None, "stress": None})
    assert not [record for record in caplog.records if "differ" in record.getMessage()]
    np.testing.assert_array_equal(base.columns["stress"][0], np.diag([0.01, 0.02, 0.03]))


# Units and signs


def atomic(row: ase.Atoms) -> ase.Atoms:
    """The same structure in Hartree and Bohr."""
    energy, forces = row.get_potential_energy(), row.get_forces()
    row.positions /= BOHR
    row.cell = row.cell.array / BOHR
    row.calc = SinglePointCalculator(row, energy=energy / HARTREE, forces=forces / HARTREE * BOHR)
    return row


def test_everything_in_atomic_units_becomes_canonical(tmp_path: Path) -> None:
    stress = np.array([[3.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 2.0]]) * 1e-2
    dipole = np.array([0.1, -0.2, 0.3])

    def rows(convert: Callable[[ase.Atoms], ase.Atoms], energy: float, length: float) -> list[ase.Atoms]:
        made = [convert(water(seed)) for seed in range(10)]
        for row in made:
            row.info |= {"REF_stress": stress / energy * length**3, "dipole": dipole / length, "Q": 1.0}
        return made

    keys = {"energy": None, "forces": None, "stress": None, "dipole": None, "charge": None}
    plain, _ = load(tmp_path, rows(lambda row: row, 1.0, 1.0), keys=keys)
    units = {"energy": "Hartree", "length": "Bohr"}
    found, summary = load(tmp_path, rows(atomic, HARTREE, BOHR), keys=keys, units=units)
    for name in ("positions", "cell", *keys):
        np.testing.assert_allclose(found.columns[name], plain.columns[name], rtol=2e-10, atol=1e-12)
    told = {name: entry["unit_read"] for name, entry in summary["properties"].items()}
    assert told == {
        "energy": "Hartree",
        "forces": "Hartree/Bohr",
        "stress": "Hartree/Bohr^3",
        "dipole": "e·Bohr",
        "charge": "e",
    }
    assert summary["properties"]["forces"]["factor"] == pytest.approx(51.422067476, rel=1e-9)
    assert summary["length"] == {"unit": "Bohr", "factor": pytest.approx(BOHR, rel=1e-9)}


def test_what_is_not_converted_keeps_its_bits(tmp_path: Path) -> None:
    rows = [water(seed) for seed in range(10)]
    plain, _ = load(tmp_path, rows)
    said, _ = load(tmp_path, rows, units={"energy": "eV", "length": "Å", "forces": "eV/A"}, signs={"forces": "forces"})
    for name, values in plain.columns.items():
        assert said.columns[name].tobytes() == values.tobytes()


def test_gradients_and_pressures_change_their_sign(tmp_path: Path) -> None:
    rows = [water(seed) for seed in range(10)]
    for row in rows:
        row.info["REF_stress"] = np.eye(3)
    base, summary = load(
        tmp_path,
        rows,
        keys={"forces": None, "stress": None},
        units={"forces": "kcal/mol/Å", "stress": "GPa"},
        signs={"forces": "gradients", "stress": "pressure"},
    )
    given = np.concatenate([row.get_forces() for row in rows])
    np.testing.assert_allclose(base.columns["forces"], -KCAL_MOL * given, rtol=1e-10)
    np.testing.assert_allclose(base.columns["stress"][0], -np.eye(3) / 160.2176634, rtol=1e-10)
    assert summary["properties"]["stress"]["sign"] == "pressure"


@pytest.mark.parametrize("declared", [True, False])
def test_a_virial_by_its_key_or_declared(tmp_path: Path, declared: bool) -> None:
    virial = np.array([[3.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 2.0]])
    key = "W" if declared else "dft_virial"
    rows = [water(seed) for seed in range(10)]
    for row in rows:
        row.info[key] = virial
    signs = {"stress": "virial"} if declared else None
    base, summary = load(tmp_path, rows, keys={"energy": None, "stress": key}, units={"energy": "Hartree"}, signs=signs)
    np.testing.assert_allclose(base.columns["stress"][7], -virial * HARTREE / 120.0, rtol=1e-10)
    assert summary["properties"]["stress"]["unit_read"] == "Hartree"


def test_a_virial_without_a_volume_names_its_row(tmp_path: Path) -> None:
    rows = [water(seed) for seed in range(10)]
    for row in rows:
        row.info["virial"] = np.eye(3)
    rows[6].cell, rows[6].pbc = None, False
    with pytest.raises(ValueError, match=r"row 7: stress \(key 'virial'\) is a virial, but .* no volume"):
        load(tmp_path, rows, keys={"stress": None})


# Rows without a label


def test_partial_labels_are_masked_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    without = (3, 8)
    rows = [water(seed, {"energy": 1.0} if seed in without else None) for seed in range(10)]
    base, summary = load(tmp_path, rows)
    lacking = np.array([np.isnan(base.columns["forces"][base.atoms(at)]).all() for at in range(10)])
    assert np.flatnonzero(lacking).tolist() == list(without)
    assert np.isnan(base.columns["forces"]).sum() == 2 * 9
    assert not np.isnan(base.columns["energy"]).any()
    assert summary["properties"]["forces"]["count"] == 8
    assert "2 of 10 rows carry no forces (key 'forces') and count as unlabelled, never as zero" in caplog.text
    assert "rows.db, row 4" in caplog.text


def test_an_energy_may_be_absent_too(tmp_path: Path) -> None:
    rows = [water(seed, {"forces": np.ones((3, 3))} if seed % 4 == 0 else None) for seed in range(12)]
    base, summary = load(tmp_path, rows)
    np.testing.assert_array_equal(np.isnan(base.columns["energy"]), [seed % 4 == 0 for seed in range(12)])
    assert summary["properties"]["energy"]["count"] == 9
    base.save(tmp_path / "columns")
    again = Database.load(tmp_path / "columns")
    assert again.columns["energy"].tobytes() == base.columns["energy"].tobytes()


def test_a_label_that_is_there_and_no_number_is_still_an_error(tmp_path: Path) -> None:
    rows = [water(seed) for seed in range(10)]
    rows[3].calc = None  # without a label
    rows[5].calc.results["forces"][1, 2] = np.nan
    with pytest.raises(ValueError, match=r"rows\.db, row 6: forces \(key 'forces'\) is not finite"):
        load(tmp_path, rows)


def test_a_weight_may_not_be_absent(tmp_path: Path) -> None:
    rows = [water(seed, config_weight=2.0) for seed in range(10)]
    base, _ = load(tmp_path, rows, keys={"energy": None, "weight": None})
    assert set(base.columns["weight"]) == {2.0}
    del rows[4].info["config_weight"]
    with pytest.raises(ValueError, match=r"1 of 10 rows lack weight .*row 5\. A weight is no label that may be absent"):
        load(tmp_path, rows, keys={"energy": None, "weight": None})


def test_a_split_in_which_nothing_is_labelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def loaded(labelled: str) -> None:
        for name in ("train", "valid"):
            results = None if labelled == name else {"energy": 1.0}
            ase.io.write(tmp_path / f"{name}.xyz", [water(seed + len(name), results) for seed in range(6)])
        load_database(
            {
                "path": str(tmp_path),
                "format": "extxyz",
                "files": {"train": "train.xyz", "valid": "valid.xyz"},
                "keys": {"energy": None, "forces": None},
                "group": None,
                "split": {"seed": 0, "valid": 0.0, "test": 0.0, "held_out": []},
            }
        )

    with pytest.raises(
        ValueError,
        match=r"No structure of the split 'train' has forces \(key 'forces'; 0 of 6 in train, 6 of 6 in valid\)",
    ):
        loaded("valid")
    loaded("train")
    assert "no structure of the split 'valid' has forces (6 of 6 in train, 0 of 6 in valid)" in caplog.text


# Isolated atoms


def lone(kind: str, energy: float) -> ase.Atoms:
    """One atom of oxygen."""
    made = ase.Atoms("O", info={"config_type": kind})
    made.calc = SinglePointCalculator(made, energy=energy, forces=np.zeros((1, 3)))
    return made


@pytest.mark.parametrize("kind", ["IsolatedAtom", "isolated_atom"])
def test_isolated_atoms_are_in_no_split_unless_they_are_to_be_trained_on(tmp_path: Path, kind: str) -> None:
    rows = [lone(kind, -430.0), *(water(seed, config_type="MD") for seed in range(12)), lone(kind, -430.0)]
    base, summary = load(tmp_path, rows)
    assert len(base) == 14  # nothing is dropped
    assert summary["isolated_atoms"] == 2
    assert np.concatenate(list(base.splits.values())).tolist() != []
    assert sorted(np.concatenate(list(base.splits.values())).tolist()) == list(range(1, 13))
    trained, told = load(tmp_path, rows, isolated_atoms="train")
    assert told["isolated_atoms"] == 0
    assert sum(told["splits"].values()) == 14
    assert sorted(np.concatenate(list(trained.splits.values())).tolist()) == list(range(14))


def test_isolated_atoms_do_not_move_the_splits(tmp_path: Path) -> None:
    rows = [water(seed, config_type="MD") for seed in range(12)]
    before, _ = load(tmp_path, rows)
    after, _ = load(tmp_path, [*rows, lone("IsolatedAtom", -430.0)])
    for name, members in before.splits.items():
        np.testing.assert_array_equal(after.split(name), members)


def test_isolated_atoms_that_are_held_out_by_name_are_judged(tmp_path: Path) -> None:
    rows = [lone("IsolatedAtom", -430.0), *(water(seed, config_type="MD") for seed in range(12))]
    split = {"seed": 0, "valid": 0.3, "test": 0.0, "held_out": ["IsolatedAtom"]}
    base, summary = load(tmp_path, rows, group="config_type", split=split)
    assert base.split("held_out").tolist() == [0]
    assert summary["isolated_atoms"] == 0


def test_a_word_that_says_nothing_of_isolated_atoms(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"database\.isolated_atoms is 'drop', expected keep_out or train"):
        load(tmp_path, [water(seed) for seed in range(10)], isolated_atoms="drop")
