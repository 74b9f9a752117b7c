"""The quarantine keeps each row whole, to the last bit or byte, and is there whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import sqlite3
import struct
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from forcefoundry.contract.quarantine import STATES, Quarantine, accounting
from forcefoundry.files import DiskFullError
from tests.contract.quarantine_room import IDS, RAW, ROWS, columns, filled, finding
from tests.outside import data, files


def read(text: str | None) -> Any:
    (atoms,) = ase.io.read(io.StringIO(text or ""), index=":", format="extxyz")
    return atoms


def bits(values: Any) -> bytes:
    return np.asarray(values, dtype=np.float64).tobytes()


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    with Quarantine.open(filled(tmp_path / "q.sqlite", {1: "rejected", 2: "accepted"})) as quarantine:
        rows = list(quarantine)
        assert [row.id for row in rows] == IDS
        assert [(row.file, row.where) for row in rows] == [(file, where) for file, where, _, _ in ROWS]
        assert [row.state for row in rows] == ["quarantined", "rejected", "accepted", "quarantined", "quarantined"]
        assert rows[1].checks == ("force_outlier", "close_atoms")
        assert [one.told() for one in rows[1].findings] == [one.told() for one in ROWS[1][2]]
        assert {one.row for one in rows[1].findings} == {None}
        assert quarantine.counts() == dict(zip(STATES, (3, 1, 1), strict=True))
        assert [(row.structure, row.raw) for row in quarantine.listed()] == [(None, None)] * 5
        assert [row.id for row in quarantine.listed()] == IDS


def test_every_number_of_a_row_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    with Quarantine.open(filled(tmp_path / "q.sqlite")) as quarantine:
        for at, row in enumerate(list(quarantine)[:3]):
            back, put = read(row.extxyz()), columns(at)
            assert bits(back.positions) == bits(put["positions"])
            assert bits(back.cell) == bits(put["cell"])
            assert bits(back.calc.results["forces"]) == bits(put["forces"])
            assert bits(back.calc.results["energy"]) == bits(put["energy"])
            assert back.info["config_type"] == "melt"
            assert back.info["quarantine_id"] == row.id
            assert back.info["quarantine_origin"] == f"{row.file}, {row.where}"
            assert back.info["quarantine_checks"] == ",".join(row.checks)


@pytest.mark.parametrize("path", files(data(), "*/*.xyz", lambda path: path.stat().st_size < 5e6))
def test_rows_of_real_files_come_back_to_the_last_bit(path: Path, tmp_path: Path) -> None:
    put = ase.io.read(path, index=":5", format="extxyz")
    with Quarantine.create(tmp_path / "q.sqlite") as writer:
        for at, atoms in enumerate(put):
            writer.add(f"{at:012x}", path.name, f"frame {at}", [finding("force_outlier")], atoms)
    with Quarantine.open(tmp_path / "q.sqlite") as quarantine:
        for atoms, row in zip(put, quarantine, strict=True):
            back = read(row.structure)
            assert bits(back.positions) == bits(atoms.positions)
            results = {**(atoms.calc.results if atoms.calc else {}), **atoms.arrays}
            for name in (name for name, values in results.items() if np.asarray(values).dtype.kind == "f"):
                assert bits(back.arrays[name] if name in back.arrays else back.calc.results[name]) == bits(
                    results[name]
                ), name


def test_a_row_that_cannot_be_read_keeps_its_bytes(tmp_path: Path) -> None:
    with Quarantine.open(filled(tmp_path / "q.sqlite")) as quarantine:
        *_, broken, unread = quarantine
        assert (unread.structure, unread.raw, unread.extxyz()) == (None, RAW, None)
        assert np.isnan(read(broken.structure).positions[1, 2])


def test_ids_are_found_by_their_beginnings(tmp_path: Path) -> None:
    with Quarantine.open(filled(tmp_path / "q.sqlite")) as quarantine:
        for at, name in enumerate(IDS):
            (row,) = quarantine.find(name[:8].upper())
            assert row.where == ROWS[at][1]
        assert len(quarantine.find("")) == 5
        assert quarantine.find("%") == quarantine.find("_" * 12) == quarantine.find(IDS[0] + "0") == []


def test_the_file_can_be_read_without_this_program(tmp_path: Path) -> None:
    connection = sqlite3.connect(filled(tmp_path / "q.sqlite"))
    names = [name for _, name, *_ in connection.execute("PRAGMA table_info(rows)")]
    assert names == ["number", "id", "file", "place", "state", "reasons", "structure", "raw"]
    ((reasons, structure),) = connection.execute("SELECT reasons, structure FROM rows WHERE number = 1").fetchall()
    assert set(json.loads(reasons)[0]) == {"check", "what", "got", "expected", "remedy"}
    assert read(structure).get_global_number_of_atoms() == len(columns(0)["species"])
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_names_of_files_that_are_no_text_are_kept_as_text(tmp_path: Path) -> None:
    with Quarantine.create(tmp_path / "q.sqlite") as writer:
        writer.add(IDS[0], "a\udcff.xyz", "frame 0", [], b"")
    with Quarantine.open(tmp_path / "q.sqlite") as quarantine:
        assert [row.file for row in quarantine] == ["a\\udcff.xyz"]


def test_a_quarantine_that_is_not_finished_leaves_the_one_before(tmp_path: Path) -> None:
    path = filled(tmp_path / "q.sqlite")
    before = path.read_bytes()
    rows = [(IDS[0], "a.xyz", "frame 0", [], RAW), (IDS[0], "a.xyz", "frame 1", [], RAW, "kept")]
    with pytest.raises(ValueError, match="The state"), Quarantine.create(path) as writer:
        [writer.add(*row) for row in rows]
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["q.sqlite"]


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    assert filled(tmp_path / "a").read_bytes() == filled(tmp_path / "b").read_bytes()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def small(*words: Any, **more: Any) -> sqlite3.Connection:
        connection = real(*words, **more)
        connection.execute("PRAGMA max_page_count = 8")  # SQLite raises here what it raises on a full disk
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    told = r"The disk is full: .*q\.sqlite could not be written"
    with pytest.raises(DiskFullError, match=told) as caught, Quarantine.create(tmp_path / "q.sqlite") as writer:
        writer.add(IDS[0], "a.xyz", "frame 0", [], b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_an_unknown_state_is_refused(tmp_path: Path) -> None:
    told = "The state of a row is 'kept', expected one of quarantined, rejected, accepted"
    with pytest.raises(ValueError, match=told), Quarantine.create(tmp_path / "q.sqlite") as writer:
        writer.add(IDS[0], "a.xyz", "frame 0", [], RAW, "kept")


def _other_version(path: Path) -> None:
    path.write_bytes(filled(path).read_bytes()[:60] + struct.pack(">I", 2) + path.read_bytes()[64:])


def _other_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b"no database at all, but long enough to be taken for one" * 20), "is no quara"),
        (lambda path: path.write_bytes(b""), r"is no quarantine \(no such table: rows\)"),
        (_other_table, r"is no quarantine \(no such table: rows\)"),
        (_other_version, "is a quarantine of version 2, expected 1"),
    ],
)
def test_a_file_that_is_none_is_told(make: Any, told: str, tmp_path: Path) -> None:
    make(tmp_path / "q.sqlite")
    told = rf"q\.sqlite {told}.*Run `python -m pipeline load` again\."
    with pytest.raises(ValueError, match=told), Quarantine.open(tmp_path / "q.sqlite"):
        pass


def test_one_that_is_not_there_and_one_that_is_damaged_are_told(tmp_path: Path) -> None:
    told = r"There is no quarantine at .* yet: run `python -m pipeline load`"
    with pytest.raises(FileNotFoundError, match=told), Quarantine.open(tmp_path / "q.sqlite"):
        pass
    path = filled(tmp_path / "q.sqlite")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))  # its first page alone
    with Quarantine.open(path) as quarantine, pytest.raises(ValueError, match=r"q\.sqlite is damaged \(.*\)\. Run"):
        list(quarantine)


def test_a_name_with_signs_of_addresses_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=rw#x%41" / "q.sqlite"
    with Quarantine.open(filled(path)) as quarantine:
        assert len(list(quarantine)) == 5


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ((1157, 2, 1), "structures in 1 160 = 1 157 kept + 2 quarantined + 1 rejected"),
        ((0, 2, 0), "structures in 2 = 0 kept + 2 quarantined"),
        ((5, 0, 0), "structures in 5 = 5 kept, none set apart"),
        ((0, 0, 0), "structures in 0: the files have no rows"),
    ],
)
def test_the_accounting_says_where_all_rows_are(counts: tuple[int, int, int], told: str) -> None:
    assert accounting(*counts) == told
