"""Columns in shards on disk: the same numbers and keys as in memory, labels that some shards lack, errors in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from forcefoundry.batches import Packer
from forcefoundry.columns import COLUMNS, Axis
from forcefoundry.databases import Database
from forcefoundry.databases import database as database_module
from forcefoundry.databases.folder import INDEX, MANIFEST, read_folder, write_folder
from forcefoundry.databases.keys import keys_of
from forcefoundry.databases.loading import digest
from forcefoundry.databases.mapped import MappedColumns
from forcefoundry.databases.shards import ShardWriter, open_shard
from tests.builders import database

ROWS = [range(40), [], [0], [39], [0, 1, 2, 7, 8, 30, 39], [5, 5, 3, 4], range(0, 40, 2)]
IDS = ["all", "none", "first", "last", "runs", "any order", "every other"]


@pytest.fixture
def base() -> Database:
    """Forty structures in two splits, one of which is in no order."""
    made = database(40)
    splits = {"train": np.array([7, 3, 39, 0]), "valid": np.arange(10, 20)}
    return Database(dict(made.columns), splits)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of some structures each."""
    monkeypatch.setattr(database_module, "_ATOMS_AT_ONCE", 10)
    monkeypatch.setattr(ShardWriter.__init__, "__defaults__", (3000,))


@pytest.fixture
def opened(base: Database, small_shards: None, tmp_path: Path) -> Database:
    """The same out of the folder that it was saved into."""
    base.save(tmp_path / "columns")
    return Database.load(tmp_path / "columns")


def shards(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.arrow")) if path.name != INDEX]


def test_a_saved_database_is_the_same_database(base: Database, opened: Database, tmp_path: Path) -> None:
    assert len(shards(tmp_path / "columns")) > 3
    assert list(opened.columns) == list(base.columns)
    for name, values in base.columns.items():
        assert opened.columns[name].dtype == values.dtype
        np.testing.assert_array_equal(opened.columns[name], values)
        assert not opened.columns[name].flags.writeable
    for name, rows in base.splits.items():
        np.testing.assert_array_equal(opened.split(name), rows)
    assert opened.species == base.species
    assert digest(opened) == digest(base)
    np.testing.assert_array_equal(opened.keys(), keys_of(base.columns))
    with pytest.raises(KeyError):
        opened.columns["dipole"]


def test_equal_databases_give_equal_bytes(base: Database, small_shards: None, tmp_path: Path) -> None:
    for name in ("one", "two"):
        base.save(tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("rows", ROWS, ids=IDS)
def test_what_is_taken_is_what_memory_gives(base: Database, opened: Database, rows: Any) -> None:
    chosen = np.array(rows, dtype=np.int64)
    for got, expected in zip(opened.take(chosen), base.take(chosen), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    for name in base.columns:
        np.testing.assert_array_equal(opened.columns.take(name, chosen), base.columns.take(name, chosen))


@pytest.mark.parametrize("rows", [rows for rows in ROWS if len(rows)], ids=[one for one in IDS if one != "none"])
def test_batches_out_of_shards_are_those_out_of_memory(base: Database, opened: Database, rows: Any) -> None:
    names = [*base.columns, "system_of_atom"]
    got, expected = (Packer(one, names).pack(np.array(rows)) for one in (opened, base))
    for name in names:
        assert got[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(got[name].numpy(), expected[name].numpy())


def test_rows_out_of_shards_of_which_some_lack_a_label(tmp_path: Path) -> None:
    first, second = database(5), database(6, seed=1)
    writer = ShardWriter(tmp_path, most=1)
    bare = {name: values for name, values in second.columns.items() if name not in ("forces", "energy")}
    writer.add(dict(first.columns))
    writer.add(bare)
    writer.flush()
    piece, row = np.array([1, 0, 1, 0]), np.array([5, 0, 2, 4])
    opened = [open_shard(path) for path in writer.paths]
    names = {name: name for name in first.columns}
    columns = MappedColumns(opened, names, piece, row)
    keys = np.stack([keys_of((first, second)[at].columns)[of] for at, of in zip(piece, row, strict=True)])
    n_atoms = np.diff(columns.offsets)
    write_folder(tmp_path / "made", writer.paths, names, (piece, row), n_atoms, keys, {}, ["forces", "energy"], [1])
    found = Database.load(tmp_path / "made")
    np.testing.assert_array_equal(keys_of(found.columns), found.keys())
    packed = Packer(found, ["energy", "forces", "positions"]).pack(np.array([0, 1, 2, 3]))
    energy = first.columns["energy"]
    np.testing.assert_array_equal(packed["energy"].numpy(), [np.nan, energy[0], np.nan, energy[4]])
    forces = np.full((int(n_atoms.sum()), 3), np.nan)
    for structure, of in ((1, 0), (3, 4)):
        forces[found.atoms(structure)] = first.columns["forces"][first.atoms(of)]
    np.testing.assert_array_equal(packed["forces"].numpy(), forces)
    np.testing.assert_array_equal(found.columns["forces"], forces)


def test_columns_of_all_kinds_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = dict(database(9).columns)
    n_atoms = int(made["n_atoms"].sum())
    for name, known in COLUMNS.items():
        if name not in made and known.dtype is np.float64 and name != "strain":
            made[name] = rng.normal(size=(n_atoms if known.axis is Axis.ATOM else 9, *known.shape))
    Database(made).save(tmp_path / "columns")
    found = Database.load(tmp_path / "columns")
    for name, values in made.items():
        np.testing.assert_array_equal(found.columns[name], values)


def test_nothing_at_all(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "none",
        [],
        {"n_atoms": "n_atoms"},
        (np.zeros(0, np.int64), np.zeros(0, np.int64)),
        np.zeros(0, np.int64),
        np.zeros((0, 32), np.uint8),
        {},
        [],
        [],
    )
    found = Database.load(tmp_path / "none")
    assert len(found) == 0
    assert found.keys().shape == (0, 32)


def test_pyarrow_alone_reads_a_shard(base: Database, tmp_path: Path) -> None:
    base.save(tmp_path / "columns")
    with pa.memory_map(str(shards(tmp_path / "columns")[0])) as source:
        rows = pa.ipc.open_file(source).read_all()
    assert rows["energy"].to_pylist() == base.columns["energy"].tolist()
    forces = [base.columns["forces"][base.atoms(at)].tolist() for at in range(40)]
    assert rows["forces"].to_pylist() == forces
    assert rows["pbc"].to_pylist() == base.columns["pbc"].astype(int).tolist()


def test_who_has_the_folder_open_sees_the_files_of_one_moment(base: Database, opened: Database, tmp_path: Path) -> None:
    database(7, seed=1).save(tmp_path / "columns")
    np.testing.assert_array_equal(keys_of(opened.columns), keys_of(base.columns))


def test_memory_that_was_mapped_is_given_back(opened: Database) -> None:
    assert isinstance(opened.columns, MappedColumns)
    before = opened.columns["positions"]
    for shard in read_shards(opened):
        shard.forget()
    np.testing.assert_array_equal(opened.columns["positions"], before)


def test_more_shards_than_files_may_be_open(base: Database, opened: Database, tmp_path: Path) -> None:
    """Few may be, unless a process asks for more; where it may not have more, that is what is said."""
    program = (
        "import os, resource, sys; from forcefoundry.databases.folder import read_folder; "
        "used = len(os.listdir('/proc/self/fd')); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, int(sys.argv[2]) or used + 4)); "
        "print(len(read_folder(sys.argv[1]).columns['energy']))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "columns")]
    assert len(shards(tmp_path / "columns")) > 3
    assert subprocess.run([*command, "512"], check=True, capture_output=True, text=True).stdout == "40\n"
    told = subprocess.run([*command, "0"], check=False, capture_output=True, text=True).stderr
    assert "Too many open files" in told.splitlines()[-1]


def read_shards(opened: Database) -> Any:
    assert isinstance(opened.columns, MappedColumns)
    return opened.columns._shards


def test_a_flipped_bit_is_found_before_keys_are_believed(opened: Database, tmp_path: Path) -> None:
    path = shards(tmp_path / "columns")[1]
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(held))
    with pytest.raises(ValueError, match=rf"{path.name} is damaged.*Run the load step again"):
        Database.load(tmp_path / "columns").keys()


@pytest.mark.parametrize("cut", [1, 100, 10**6])
@pytest.mark.parametrize("which", ["shard", "index"])
def test_a_file_cut_short(opened: Database, tmp_path: Path, which: str, cut: int) -> None:
    path = shards(tmp_path / "columns")[0] if which == "shard" else tmp_path / "columns" / INDEX
    held = path.read_bytes()
    path.unlink()
    path.write_bytes(held[:-cut])
    with pytest.raises(ValueError, match=rf"{path.name} is no .*Run the load step again"):
        Database.load(tmp_path / "columns")


@pytest.mark.parametrize("which", ["shard", "index", "manifest"])
def test_a_file_that_is_not_there(opened: Database, tmp_path: Path, which: str) -> None:
    folder = tmp_path / "columns"
    path = {"shard": shards(folder)[2], "index": folder / INDEX, "manifest": folder / MANIFEST}[which]
    os.unlink(path)
    with pytest.raises(FileNotFoundError, match="load step"):
        Database.load(folder)


def test_another_format_is_said(opened: Database, tmp_path: Path) -> None:
    path = tmp_path / "columns" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 7}))
    with pytest.raises(ValueError, match=r"columns of format 7, expected 1\. Run the load step again"):
        Database.load(tmp_path / "columns")


def test_an_index_of_other_shards_is_refused(opened: Database, base: Database, tmp_path: Path) -> None:
    Database({**base.columns}).save(tmp_path / "other")
    manifest = json.loads((tmp_path / "columns" / MANIFEST).read_text())
    manifest["shards"] = manifest["shards"][:1]
    (tmp_path / "columns" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="names rows that its shards do not have"):
        read_folder(tmp_path / "columns")
