"""Laws of the readers: what was written comes back in order, with its labels; what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases.formats import Address, known_formats, place, read_rows
from forcefoundry.databases.loading import load_database
from tests.builders import tree_bytes
from tests.databases.formats.writers import WRITERS, drawn, label, same
from tests.databases.test_loading import config
from tests.outside import data, files

EXTXYZ = files(data(), "*/*.xyz")


def test_every_reader_has_its_writer_here() -> None:
    assert set(known_formats()) == {*WRITERS, "ase_postgres"}  # which has a server, and a file of tests, of its own


@pytest.mark.parametrize("format", WRITERS)
def test_what_was_written_comes_back(tmp_path: Path, format: str) -> None:
    rows = drawn()
    path = WRITERS[format](tmp_path / "some", rows)
    before = tree_bytes(tmp_path)
    found = list(read_rows(format, path))
    assert tree_bytes(tmp_path) == before  # reading leaves no trace
    assert len(found) == len(rows)
    assert all(same(atoms, row) for (_, atoms), row in zip(found, rows, strict=True))
    assert len({where for where, _ in found}) == len(rows)
    for _, atoms in found:
        assert atoms.positions.dtype == np.float64
        assert label(atoms, "forces").dtype == label(atoms, "dipole").dtype == np.float64
        assert isinstance(label(atoms, "energy").item(), float)
    assert [str(atoms.info["molecule"]) for _, atoms in found] == [row.info["molecule"] for row in rows]


@pytest.mark.parametrize("format", WRITERS)
def test_the_loader_gives_the_same_columns_from_every_format(tmp_path: Path, format: str) -> None:
    rows = drawn(30)
    keys = {"energy": None, "forces": None, "dipole": None}
    path = WRITERS[format](tmp_path / "some", rows)
    base, summary = load_database(config(path, format, keys=keys, group="molecule", split={"held_out": ["m1"]}))
    np.testing.assert_array_equal(base.columns["energy"], [label(row, "energy") for row in rows])
    np.testing.assert_array_equal(base.columns["forces"], np.concatenate([label(row, "forces") for row in rows]))
    np.testing.assert_array_equal(base.columns["dipole"], [label(row, "dipole") for row in rows])
    np.testing.assert_array_equal(base.split("held_out"), np.arange(1, 30, 3))
    assert summary["n_structures"] == 30


@pytest.mark.parametrize("path", EXTXYZ)
def test_real_sets_have_the_rows_that_their_text_counts(path: Path, tmp_path: Path) -> None:
    """Counted without a reader, and through a folder that holds the file alone."""
    lines, at, counts = path.read_text().splitlines(), 0, []
    while at < len(lines):
        counts.append(int(lines[at]))
        at += 2 + counts[-1]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / path.name).symlink_to(path)
    assert [len(atoms) for _, atoms in read_rows("ase_folder", tmp_path / "folder")] == counts


@pytest.mark.parametrize("format", sorted({*WRITERS} - {"ase_folder"}))
@pytest.mark.parametrize("held", [b"", b"\0" * 5000, b"2\n\nH 0 0 0\n", b"PK\x03\x04 no archive", b"SQLite format 3\0"])
def test_what_is_none_of_the_format_is_told_with_its_name(tmp_path: Path, format: str, held: bytes) -> None:
    path = tmp_path / "none.xyz"
    path.write_bytes(held)
    if format == "extxyz" and not held:
        assert list(read_rows(format, path)) == []  # which the loader refuses
        return
    with pytest.raises(ValueError, match=r"none\.xyz"):
        list(read_rows(format, path))
    assert tree_bytes(tmp_path) == {"none.xyz": held}


def test_paths_and_addresses_are_told_apart() -> None:
    address = place("postgresql://me:se:cr@et/1@host:5432/name?sslmode=require")
    assert isinstance(address, Address)
    assert str(address) == "postgresql://me:***@host:5432/name?sslmode=require"
    assert "se:cr" not in repr(address)
    assert place(Path("postgresql://me@host/name")) == Address("postgresql://me@host/name")  # a Path has lost a slash
    assert place("data/a.db") == Path("data/a.db")
    assert place("C:/data/a.db") == Path("C:/data/a.db")
    with pytest.raises(ValueError, match=r"database.path is the address postgresql://me:\*\*\*@host.*files=null"):
        address / "a.xyz"
    with pytest.raises(ValueError, match=r"Set database.format=ase_postgres"):
        read_rows("extxyz", address)
    with pytest.raises(ValueError, match=r"'a.db', but database.format=ase_postgres takes an address"):
        read_rows("ase_postgres", Path("a.db"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.h5 does not exist"):
        read_rows("hdf5", Path("nowhere.h5"))
    with pytest.raises(ValueError, match=r"'npy', which is not known. Did you mean npz\?"):
        read_rows("npy", Path("a"))
