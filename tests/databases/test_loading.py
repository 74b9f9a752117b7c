"""From files to columns: labels found where users put them, splits that stay put, and bad input named."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from forcefoundry.databases import Database
from forcefoundry.databases.loading import load_database
from tests.builders import tree_bytes
from tests.outside import data, files

EXTXYZ = files(data(), "mlearn/*.xyz")


def atoms(seed: int, n_atoms: int = 3, labelled: bool = True, name: str = "some", **info: Any) -> ase.Atoms:
    """A labelled structure whose calculator holds energy and forces."""
    rng = np.random.default_rng(seed)
    made = ase.Atoms(rng.choice([1, 6, 8], n_atoms), rng.uniform(0, 3, (n_atoms, 3)))
    made.info.update(name=name, **info)
    if labelled:
        made.calc = SinglePointCalculator(made, energy=float(seed), forces=rng.normal(0, 1, (n_atoms, 3)))
    return made


def write_xyz(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """Write extended XYZ; also what lies in a calculator."""
    ase.io.write(path, list(rows), format="extxyz")
    return path


def write_db(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """Write an ASE database; texts and numbers of info become key-value pairs."""
    with ase.db.connect(path, type="db") as connection:
        for row in rows:
            connection.write(row, **row.info)
    return path


def config(path: Path, format: str = "extxyz", **changes: Any) -> dict[str, Any]:
    """A database section."""
    split = {"seed": 0, "valid": 0.3, "test": 0.2, "held_out": []} | changes.pop("split", {})
    return {
        "path": str(path),
        "format": format,
        "files": None,
        "keys": {"energy": None, "forces": None},
        "group": None,
        "split": split,
        "label": None,
    } | changes


@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    """Twenty labelled structures of two groups."""
    rows = [atoms(seed, 2 + seed % 4, name="even" if seed % 2 == 0 else "odd") for seed in range(20)]
    return write_xyz(tmp_path / "twenty.xyz", rows)


# What comes in


def test_both_formats_give_the_same_columns(tmp_path: Path) -> None:
    rows = [atoms(seed, 2 + seed % 3) for seed in range(12)]
    energy, forces = rows[3].get_potential_energy(), rows[3].get_forces()
    rows[3].cell, rows[3].pbc = np.diag([4.0, 5.0, 6.0]), [True, True, False]
    rows[3].calc = SinglePointCalculator(rows[3], energy=energy, forces=forces)
    written = write_db(tmp_path / "a.db", rows)
    before = written.read_bytes()
    from_db, in_db = load_database(config(written, "ase_db"))
    assert tree_bytes(tmp_path) == {"a.db": before}  # reading leaves no trace
    from_xyz, in_xyz = load_database(config(write_xyz(tmp_path / "a.xyz", rows)))
    for name in ("n_atoms", "species", "pbc"):
        np.testing.assert_array_equal(from_db.columns[name], from_xyz.columns[name])
    for name in ("positions", "cell", "energy", "forces"):
        np.testing.assert_allclose(from_db.columns[name], from_xyz.columns[name], atol=1e-7)
        assert from_db.columns[name].dtype == np.float64
    np.testing.assert_array_equal(from_db.columns["energy"], np.arange(12.0))
    np.testing.assert_array_equal(from_db.columns["positions"], np.concatenate([row.positions for row in rows]))
    np.testing.assert_array_equal(from_db.columns["forces"], np.concatenate([row.get_forces() for row in rows]))
    assert in_db["n_structures"] == in_xyz["n_structures"] == 12
    assert in_db["periodic"] == in_xyz["periodic"] == "mixed"
    assert in_db["species"] == ["H", "C", "O"]
    same = {"where": "results", "count": 12, "factor": 1.0, "sign": None}
    assert in_db["properties"] == {
        "energy": {"key": "energy", "unit": "eV", "unit_read": "eV", **same},
        "forces": {"key": "forces", "unit": "eV/Å", "unit_read": "eV/Å", **same},
    }


@pytest.mark.parametrize("path", EXTXYZ)
def test_sets_from_outside(path: Path, tmp_path: Path) -> None:
    """Counted from the text of the file, without the reader that is tested; then once more through an ASE database."""
    lines = path.read_text().splitlines()
    counts, species, energies, stressed = [], collections.Counter[str](), [], 0
    at = 0
    while at < len(lines):
        counts.append(int(lines[at]))
        header = lines[at + 1]
        energies.append(float(re.search(r"(?<![\w_])energy=(\S+)", header)[1]))  # type: ignore[index]
        stressed += "stress=" in header
        species.update(line.split()[0] for line in lines[at + 2 : at + 2 + counts[-1]])
        at += 2 + counts[-1]
    base, summary = load_database(config(path, split={"test": 0.0}))
    np.testing.assert_array_equal(base.columns["n_atoms"], counts)
    np.testing.assert_array_equal(base.columns["energy"], energies)
    assert summary["n_atoms"] == sum(counts)
    assert set(summary["species"]) == set(species)
    assert summary["periodic"] == "periodic"
    assert sum(summary["splits"].values()) == len(counts)
    if stressed < len(counts):
        partly, told = load_database(config(path, keys={"stress": None}, split={"test": 0.0}))
        assert told["properties"]["stress"]["count"] == stressed
        absent = np.isnan(partly.columns["stress"])
        assert absent.all(axis=(1, 2)).sum() == absent.any(axis=(1, 2)).sum() == len(counts) - stressed
    rows = ase.io.read(path, ":")
    for row in rows:
        row.info.clear()
    again, repeated = load_database(config(write_db(tmp_path / "set.db", rows), "ase_db", split={"test": 0.0}))
    assert {name: values.tobytes() for name, values in again.columns.items()} == {
        name: values.tobytes() for name, values in base.columns.items()
    }
    assert repeated["splits"] == summary["splits"]
    assert repeated["digest"] == summary["digest"]


def test_saving_and_loading_columns_gives_equal_bytes(tmp_path: Path, twenty: Path) -> None:
    base, _ = load_database(config(twenty))
    base.save(tmp_path / "one")
    loaded = Database.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")
    assert list(loaded.splits) == list(base.splits)
    for name, values in base.columns.items():
        assert loaded.columns[name].dtype == values.dtype
        np.testing.assert_array_equal(loaded.columns[name], values)


def test_columns_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere holds no columns: run the load step first"):
        Database.load(tmp_path / "nowhere")


# Which label


def test_reference_labels_come_first(tmp_path: Path) -> None:
    rows = [atoms(seed, REF_energy=100.0 + seed) for seed in range(10)]
    for row in rows:
        row.arrays["REF_forces"] = np.full((3, 3), 0.5)
    base, summary = load_database(config(write_xyz(tmp_path / "a.xyz", rows)))
    assert base.columns["energy"].tolist() == [100.0 + seed for seed in range(10)]
    assert set(base.columns["forces"].ravel()) == {0.5}
    assert summary["properties"]["energy"]["key"] == "REF_energy"
    asked, _ = load_database(config(tmp_path / "a.xyz", keys={"energy": "energy"}))
    assert asked.columns["energy"].tolist() == [float(seed) for seed in range(10)]
    assert "forces" not in asked.columns


def test_aliases_are_found_last(tmp_path: Path) -> None:
    rows = [atoms(seed, labelled=False, energy_xtb=-3.0) for seed in range(10)]
    for row in rows:
        row.arrays["forces_xtb"] = np.ones((3, 3))
    base, summary = load_database(config(write_xyz(tmp_path / "a.xyz", rows)))
    assert {name: entry["key"] for name, entry in summary["properties"].items()} == {
        "energy": "energy_xtb",
        "forces": "forces_xtb",
    }
    assert set(base.columns["energy"]) == {-3.0}


def test_stress_from_voigt_from_nine_numbers_and_from_a_matrix(tmp_path: Path) -> None:
    full = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    voigt = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # ASE's order: xx, yy, zz, yz, xz, xy
    for number, given in enumerate((voigt, full.ravel(), full)):
        rows = []
        for seed in range(10):
            row = atoms(seed, labelled=False)
            row.cell, row.pbc = np.eye(3) * 9, True
            if given.shape == (6,):
                row.calc = SinglePointCalculator(row, stress=given)
            else:
                row.info["REF_stress"] = given
            rows.append(row)
        path = write_xyz(tmp_path / f"{number}.xyz", rows)
        base, _ = load_database(config(path, keys={"stress": None}))
        assert base.columns["stress"].shape == (10, 3, 3)
        np.testing.assert_array_equal(base.columns["stress"], np.broadcast_to(full, (10, 3, 3)))


def test_a_label_of_the_wrong_shape_is_told_with_its_row_not_scrambled(tmp_path: Path) -> None:
    rows = [atoms(seed, 4, labelled=False) for seed in range(10)]
    for row in rows:
        row.info["mine"] = np.arange(12.0).reshape(3, 4)  # transposed: has the right count of numbers
    path = write_xyz(tmp_path / "a.xyz", rows)
    if ase.io.read(path, 0).info["mine"].shape == (3, 4):
        with pytest.raises(ValueError, match=r"frame 0: forces \(key 'mine'\) has shape \(3, 4\), expected \(4, 3\)"):
            load_database(config(path, keys={"forces": "mine"}))
    for row in rows:
        row.info["mine"] = np.arange(5.0)
    with pytest.raises(ValueError, match=r"b\.xyz, frame 0: energy \(key 'mine'\) has shape \(5,\)"):
        load_database(config(write_xyz(tmp_path / "b.xyz", rows), keys={"energy": "mine"}))


def test_transposed_forces_in_an_ase_database_are_told(tmp_path: Path) -> None:
    rows = [atoms(seed, 4, labelled=False) for seed in range(10)]
    with ase.db.connect(tmp_path / "a.db", type="db") as connection:
        for row in rows:
            connection.write(row, data={"mine": np.arange(12.0).reshape(3, 4)})
    with pytest.raises(ValueError, match=r"row 1: forces \(key 'mine'\) has shape \(3, 4\), expected \(4, 3\)"):
        load_database(config(tmp_path / "a.db", "ase_db", keys={"forces": "mine"}))


# Splits


def digests(base: Database) -> dict[bytes, str]:
    """The split of each structure, found by its positions."""
    return {
        base.columns["positions"][base.atoms(int(at))].tobytes(): name
        for name, rows in base.splits.items()
        for at in rows
    }


def test_splits_stay_put_when_data_are_added(tmp_path: Path) -> None:
    rows = [atoms(seed) for seed in range(60)]
    small, _ = load_database(config(write_xyz(tmp_path / "small.xyz", rows[:40])))
    # More data, in another order.
    large, _ = load_database(config(write_xyz(tmp_path / "large.xyz", rows[::-1])))
    before, after = digests(small), digests(large)
    assert {key: after[key] for key in before} == before
    assert len(after) == 60
    assert set(before.values()) == {"train", "valid", "test"}


def test_the_seed_changes_the_split_and_the_shares_are_met(tmp_path: Path) -> None:
    path = write_xyz(tmp_path / "a.xyz", [atoms(seed, 1) for seed in range(400)])
    first, _ = load_database(config(path))
    other, _ = load_database(config(path, split={"seed": 1}))
    assert digests(first) != digests(other)
    for base in (first, other):
        assert len(base.split("valid")) == pytest.approx(120, abs=40)
        assert len(base.split("test")) == pytest.approx(80, abs=35)
        np.testing.assert_array_equal(np.sort(np.concatenate(list(base.splits.values()))), np.arange(400))


def test_a_structure_that_is_there_twice_is_on_one_side(tmp_path: Path) -> None:
    rows = [atoms(seed) for seed in range(30)]
    base, _ = load_database(config(write_xyz(tmp_path / "a.xyz", [*rows, *rows[::2], *rows[::-1]])))
    where: dict[bytes, set[str]] = collections.defaultdict(set)
    for name, members in base.splits.items():
        for at in members:
            where[base.columns["positions"][base.atoms(int(at))].tobytes()].add(name)
    assert len(where) == 30
    assert all(len(names) == 1 for names in where.values())


def test_groups_are_held_out_whole(twenty: Path) -> None:
    base, summary = load_database(config(twenty, group="name", split={"held_out": ["odd"]}))
    assert base.split("held_out").tolist() == list(range(1, 20, 2))
    assert summary["splits"]["held_out"] == 10
    assert not set(base.split("train")) & set(base.split("held_out"))


def test_official_files_are_the_splits(tmp_path: Path) -> None:
    rows = [atoms(seed) for seed in range(30)]
    write_xyz(tmp_path / "a.xyz", rows[:20])
    write_xyz(tmp_path / "b.xyz", rows[20:])
    chosen = config(tmp_path, files={"train": "a.xyz", "test": "b.xyz"}, split={"test": 0.0})
    base, summary = load_database(chosen)
    assert base.split("test").tolist() == list(range(20, 30))
    assert summary["splits"]["train"] + summary["splits"]["valid"] == 20


@pytest.mark.parametrize("format", ["extxyz", "ase_db"])
def test_a_key_that_only_a_later_row_carries_harms_nothing(tmp_path: Path, format: str) -> None:
    rows = [atoms(seed) for seed in range(20)]
    rows[1].info["note"] = "seen twice"
    write = write_xyz if format == "extxyz" else write_db
    _, summary = load_database(config(write(tmp_path / "some", rows), format))
    assert summary["n_structures"] == 20


def test_nothing_is_drawn_beside_an_official_split(tmp_path: Path) -> None:
    rows = [atoms(seed) for seed in range(30)]
    for name, part in (("a", rows[:20]), ("b", rows[20:25]), ("c", rows[25:])):
        write_xyz(tmp_path / f"{name}.xyz", part)
    three = {"train": "a.xyz", "valid": "b.xyz", "test": "c.xyz"}
    base, _ = load_database(config(tmp_path, files=three, split={"valid": 0.0, "test": 0.0}))
    assert [len(base.split(name)) for name in ("train", "valid", "test")] == [20, 5, 5]
    with pytest.raises(ValueError, match=r"'test' has a file of its own .*Set database.split.test=0"):
        load_database(config(tmp_path, files=three, split={"valid": 0.0, "test": 0.1}))
    with pytest.raises(ValueError, match=r"the split 'tset', which is none. Did you mean test\?"):
        load_database(config(tmp_path, files={"train": "a.xyz", "tset": "c.xyz"}))


def test_official_splits_that_share_structures_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [atoms(seed) for seed in range(20)]
    write_xyz(tmp_path / "a.xyz", rows)
    write_xyz(tmp_path / "c.xyz", [*rows[:2], atoms(77)])
    load_database(config(tmp_path, files={"train": "a.xyz", "test": "c.xyz"}, split={"test": 0.0}))
    assert "2 structures stand in two splits" in caplog.text
    assert re.search(r"c.xyz, frame 0 \(test\) is .*a.xyz, frame 0", caplog.text)


def test_a_virial_becomes_a_stress(tmp_path: Path) -> None:
    rows = []
    for seed in range(20):
        row = atoms(seed)
        row.cell, row.pbc = [4.0, 5.0, 6.0], True
        row.info["virial"] = np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T
        rows.append(row)
    base, _ = load_database(config(write_xyz(tmp_path / "v.xyz", rows), keys={"energy": None, "stress": "virial"}))
    np.testing.assert_allclose(base.columns["stress"][3], -rows[3].info["virial"] / 120.0, rtol=1e-12)


# Bad input


@pytest.mark.parametrize("name", ["positions", "n_atoms", "system_of_atom"])
def test_a_label_cannot_take_the_place_of_the_structure(twenty: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"database.keys names {name}, which is no label"):
        load_database(config(twenty, keys={"energy": None, name: "forces"}))


def test_a_group_key_that_no_row_carries(twenty: Path) -> None:
    with pytest.raises(ValueError, match=r"No row carries the key 'nmae' that database.group names"):
        load_database(config(twenty, group="nmae"))


def test_a_periodic_structure_without_a_cell_is_named(tmp_path: Path) -> None:
    rows = [atoms(seed) for seed in range(20)]
    rows[4].pbc = [True, True, False]
    rows[4].cell = [[3.0, 0, 0], [6.0, 0, 0], [0, 0, 9.0]]
    with pytest.raises(ValueError, match=r"row 5: it is periodic, but its periodic lattice vectors"):
        load_database(config(write_db(tmp_path / "p.db", rows), "ase_db"))


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.db does not exist\. Set database\.path"):
        load_database(config(tmp_path / "nowhere.db", "ase_db"))
    assert list(tmp_path.iterdir()) == []  # opening a database must not make one
    with pytest.raises(FileNotFoundError, match=r"missing\.xyz does not exist"):
        load_database(config(tmp_path, files={"train": "missing.xyz"}))


@pytest.mark.parametrize("format", ["extxyz", "ase_db"])
def test_a_key_that_no_row_carries_names_the_nearest(tmp_path: Path, format: str) -> None:
    rows = [atoms(seed, dft_energy=1.0) for seed in range(10)]
    write = {"extxyz": write_xyz, "ase_db": write_db}[format]
    path = write(tmp_path / "a", rows)
    with pytest.raises(
        ValueError, match=r"'dft_energie' that database\.keys\.energy names\. Did you mean dft_energy\?"
    ):
        load_database(config(path, format, keys={"energy": "dft_energie"}))
    with pytest.raises(ValueError, match=r"No row carries dipole .*Rows carry .*energy.*database\.keys\.dipole"):
        load_database(config(path, format, keys={"dipole": None}))


def test_a_property_that_is_no_column(twenty: Path) -> None:
    with pytest.raises(ValueError, match="energi"):
        load_database(config(twenty, keys={"energi": "energy"}))


def test_an_empty_database(tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "a.db", type="db") as connection:
        connection.write(atoms(0))
        connection.delete([1])
    with pytest.raises(ValueError, match=r"a\.db is empty.*Set database\.path"):
        load_database(config(tmp_path / "a.db", "ase_db"))
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(ValueError, match=r"a\.xyz"):
        load_database(config(tmp_path / "a.xyz"))


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\x00" + b"x" * 200])
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.db"):
        load_database(config(tmp_path / "a.db", "ase_db"))
    assert (tmp_path / "a.db").read_bytes() == content


def test_a_broken_frame_is_named_by_its_number(tmp_path: Path, twenty: Path) -> None:
    lines = twenty.read_text().splitlines()
    (tmp_path / "cut.xyz").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"cut\.xyz, frame 19: cannot be read as extended XYZ"):
        load_database(config(tmp_path / "cut.xyz"))
    lines[2] = "H 0.0 what 0.0 0 0 0"
    (tmp_path / "odd.xyz").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"odd\.xyz, frame 0: cannot be read"):
        load_database(config(tmp_path / "odd.xyz"))


@pytest.mark.parametrize("format", ["extxyz", "ase_db"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_position_that_is_no_number_is_named_by_file_and_row(tmp_path: Path, format: str, number: float) -> None:
    rows = [atoms(seed) for seed in range(10)]
    rows[4].positions[2, 1] = number
    path = {"extxyz": write_xyz, "ase_db": write_db}[format](tmp_path / "a", rows)
    row = {"extxyz": "frame 4", "ase_db": "row 5"}[format]
    with pytest.raises(ValueError, match=rf"{path}, {row}: the position of atom 2 is .*Repair or remove the row"):
        load_database(config(path, format))


def test_a_label_that_is_no_number_is_named(tmp_path: Path) -> None:
    rows = [atoms(seed, REF_energy=1.0) for seed in range(10)]
    rows[7].info["REF_energy"] = np.nan
    with pytest.raises(ValueError, match=r"frame 7: energy \(key 'REF_energy'\) is not finite"):
        load_database(config(write_xyz(tmp_path / "a.xyz", rows)))


def test_an_unknown_format_names_the_nearest(twenty: Path) -> None:
    with pytest.raises(ValueError, match=r"database\.format is 'extxzy'.*Did you mean extxyz"):
        load_database(config(twenty, "extxzy"))
    with pytest.raises(ValueError, match=r"Known are ase_db, .*extxyz"):
        load_database(config(twenty, "?"))


def test_a_group_that_is_not_in_the_data(twenty: Path) -> None:
    with pytest.raises(
        ValueError, match=r"held_out names 'benzene', which is no name in the data\. There are even, odd"
    ):
        load_database(config(twenty, group="name", split={"held_out": ["benzene"]}))
    with pytest.raises(ValueError, match=r"database\.group is null"):
        load_database(config(twenty, split={"held_out": ["odd"]}))


def test_a_split_that_leaves_nothing(twenty: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing to validate on: 0 of 20 .*Change database\.split\.valid"):
        load_database(config(twenty, split={"valid": 0.0}))
    with pytest.raises(ValueError, match=r"nothing to train on: 0 of 20"):
        load_database(config(twenty, group="name", split={"held_out": ["odd", "even"]}))


@pytest.mark.parametrize("split", [{"valid": 0.6, "test": 0.5}, {"valid": -0.1}, {"valid": 1.0, "test": 0.0}])
def test_shares_that_cannot_be(twenty: Path, split: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"database\.split takes shares of 0 or more that leave something"):
        load_database(config(twenty, split=split))


def test_a_structure_without_atoms_and_one_of_no_element(tmp_path: Path) -> None:
    rows = [atoms(seed, labelled=False) for seed in range(5)]
    rows[2].numbers[1] = 0
    with pytest.raises(ValueError, match="row 3: atomic number 0 is not an element"):
        load_database(config(write_db(tmp_path / "a.db", rows), "ase_db", keys={}))
    with pytest.raises(ValueError, match="row 2: the structure has no atoms"):
        load_database(config(write_db(tmp_path / "b.db", [rows[0], ase.Atoms()]), "ase_db", keys={}))
