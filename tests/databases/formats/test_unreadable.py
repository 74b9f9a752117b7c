"""One damaged row among good ones in every other format: it alone is Unreadable; and files one by one."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import pytest

from forcefoundry.databases.formats import Unreadable, ase_db, hdf5, read_rows, sources
from tests.builders import tree_bytes
from tests.databases.formats.writers import WRITERS, drawn, same, write_ase_db, write_ase_lmdb
from tests.outside import arrays, data, files

ROWS = drawn(12)
H2CO = files(data(), "h2co/*.npz")


def check(found: list[tuple[str, Any]], bad: dict[int, str]) -> list[Unreadable]:
    """That the rows of these numbers, and no others, are Unreadable, for these reasons; the rest is ROWS."""
    assert len(found) == len(ROWS)
    assert {at for at, (_, atoms) in enumerate(found) if isinstance(atoms, Unreadable)} == set(bad)
    for at, (_, atoms) in enumerate(found):
        if at in bad:
            assert bad[at] in atoms.reason
            assert 0 < len(atoms.raw) <= 65536
        else:
            assert same(atoms, ROWS[at])
    return [found[at][1] for at in sorted(bad)]


DAMAGE = {
    2: ("positions = X'00'", "buffer size must be a multiple"),
    3: ("positions = NULL", "positions of shape ()"),
    5: ("numbers = X'0100000001000000'", "atomic numbers of shape (2,)"),
    6: ("key_value_pairs = '{\"molecule\": '", "Expecting value"),
    8: ("data = X'07'", ""),
    9: ("key_value_pairs = CAST(X'7B22FF227D' AS TEXT)", "key_value_pairs holds bytes that are no UTF-8"),
    11: ("forces = X'0000000000000000'", "cannot reshape"),
}


@pytest.mark.parametrize("page", [1000, 5, 1])
def test_rows_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(ase_db, "ROWS", page)
    path = write_ase_db(tmp_path / "a.db", ROWS)
    with closing(sqlite3.connect(path)) as connection, connection:
        for at, (change, _) in DAMAGE.items():
            connection.execute(f"UPDATE systems SET {change} WHERE id = {at + 1}")
    before = tree_bytes(tmp_path)
    found = list(read_rows("ase_db", path, unreadable="yield"))
    assert [where for where, _ in found] == [f"row {at + 1}" for at in range(12)]
    bad = check(found, {at: told for at, (_, told) in DAMAGE.items()})
    assert b"numbers=" in bad[0].raw
    assert tree_bytes(tmp_path) == before
    with pytest.raises(ValueError, match=r"a\.db, row 3: cannot be read as an ASE database \(.*\)\.$"):
        list(read_rows("ase_db", path))


def test_rows_that_sqlite_hides_are_counted(tmp_path: Path) -> None:
    path = write_ase_db(tmp_path / "a.db", ROWS)
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'systems'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    held = bytearray(path.read_bytes())
    page = size * (root - 1)
    while held[page] == 5:  # a page of pages: the last of them is named at byte 8
        page = size * (int.from_bytes(held[page + 8 : page + 12]) - 1)
    assert held[page] == 13  # a page of rows: how many they are stands at byte 3
    held[page + 3 : page + 5] = (int.from_bytes(held[page + 3 : page + 5]) - 1).to_bytes(2)
    path.write_bytes(held)
    with pytest.raises(ValueError, match=r"12 rows are counted in it, but 11 come"):
        list(read_rows("ase_db", path, unreadable="yield"))


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("CREATE TABLE other (a)")
    before = tree_bytes(tmp_path)
    with pytest.raises(ValueError, match=r"a\.db: cannot be read as an ASE database \(it holds no tables of ASE's\)"):
        list(read_rows("ase_db", tmp_path / "a.db"))
    assert tree_bytes(tmp_path) == before


def test_entries_of_lmdb(tmp_path: Path) -> None:
    path = write_ase_lmdb(tmp_path / "a.aselmdb", ROWS)
    put = {0: b"no zlib", 4: zlib.compress(b"[1]"), 11: zlib.compress(b'{"numbers": [1], "positions": [[0]]}')}
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        for at, entry in put.items():
            transaction.put(str(at + 1).encode(), entry)
    found = list(read_rows("ase_lmdb", path, unreadable="yield"))
    bad = check(found, {0: "decompress", 4: "no structure", 11: "positions of shape"})
    assert [one.raw for one in bad] == list(put.values())


def test_structures_of_npz(tmp_path: Path) -> None:
    path = WRITERS["npz"](tmp_path / "a", ROWS)
    held = arrays(path)
    held["Z"] = held["Z"].astype(float)
    held["Z"][1, 0], held["N"][7], held["Z"][9, 1] = 1.5, 99, 5000
    np.savez(tmp_path / "a.npz", **held)
    found = list(read_rows("npz", tmp_path / "a.npz", unreadable="yield"))
    bad = check(found, {1: "expected atomic numbers", 7: "N says 99 atoms", 9: "expected atomic numbers"})
    assert held["R"][1].tobytes() in bad[0].raw
    with pytest.raises(ValueError, match=r"a\.npz, structure 1: cannot be read as an npz file \(Z holds"):
        list(read_rows("npz", tmp_path / "a.npz"))


@pytest.mark.parametrize("path", H2CO)
def test_structures_of_a_real_npz(tmp_path: Path, path: Path) -> None:
    held = arrays(path)
    whole = [atoms for _, atoms in read_rows("npz", path)]
    wrong = [0, 17, 4000]
    held["N"][wrong] += 1
    np.savez(tmp_path / "a.npz", **held)
    found = list(read_rows("npz", tmp_path / "a.npz", unreadable="yield"))
    assert [at for at, (_, atoms) in enumerate(found) if isinstance(atoms, Unreadable)] == wrong
    kept = [at for at in range(4001) if at not in wrong]
    np.testing.assert_array_equal([found[at][1].positions for at in kept], [whole[at].positions for at in kept])


def test_conformations_and_groups_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    positions = np.random.default_rng(0).normal(size=(6, 2, 3))
    with h5py.File(path, "w") as file:
        for name in "abcd":
            file[f"{name}/species"] = np.array([[1, 8]] * 6)
            file.create_dataset(f"{name}/coordinates", data=positions, chunks=(1, 2, 3), fletcher32=True)
        file["a/species"][2] = 5000
        del file["c/coordinates"]
        at = file["b/coordinates"].id.get_chunk_info(4).byte_offset
        del file["d/species"]
        file["d/species"] = np.array([b"H", b"Hx"])
    held = bytearray(path.read_bytes())
    held[at + 3] ^= 1
    path.write_bytes(held)
    found = dict(read_rows("hdf5", path, unreadable="yield"))
    bad = {where: atoms.reason for where, atoms in found.items() if isinstance(atoms, Unreadable)}
    lost = [*(f"group /d, conformation {at}" for at in range(6)), "group /c"]
    assert set(bad) == {"group /a, conformation 2", "group /b, conformation 4", *lost}
    assert "expected atomic numbers" in bad["group /a, conformation 2"]
    assert "dataset coordinates: Can't" in bad["group /b, conformation 4"]
    assert "there are no positions" in bad["group /c"]
    assert "'Hx', which is no element" in bad["group /d, conformation 0"]
    kept = {f"group /{name}, conformation {at}" for name in "ab" for at in range(6)} - set(bad)
    assert kept == set(found) - set(bad)
    for where in kept:
        np.testing.assert_array_equal(found[where].positions, positions[int(where[-1])])
    assert found["group /a, conformation 2"].raw.startswith(b"coordinates=")
    assert hdf5.NOT not in "".join(bad.values())


def test_files_of_a_folder(tmp_path: Path) -> None:
    path = WRITERS["ase_folder"](tmp_path / "runs", ROWS)
    (path / "run0004/b.traj").write_bytes((path / "run0004/b.traj").read_bytes()[:-40])
    (path / "run0005").mkdir()
    (path / "run0005/README").write_text("How these came to be\n")
    text = (path / "run0000/a@1.xyz").read_text()
    lines = text.splitlines(keepends=True)
    lines[4] = "H x\n"  # the one after the first frame's comment and atom, and the second's count
    (path / "run0000/a@1.xyz").write_text("".join([*lines[:5], "H x\n", *lines[6:]]))
    found = dict(read_rows("ase_folder", path, unreadable="yield"))
    bad = {where for where, atoms in found.items() if isinstance(atoms, Unreadable)}
    assert bad == {"run0000/a@1.xyz, frame 1", "run0004/b.traj, frame 0", "run0005/README, frame 0"}
    assert found["run0005/README, frame 0"].raw == b"How these came to be\n"
    good = [atoms for atoms in found.values() if not isinstance(atoms, Unreadable)]
    assert all(same(one, other) for one, other in zip(good, [*ROWS[:1], *ROWS[2:7], *ROWS[8:]], strict=True))


@pytest.mark.parametrize("format", WRITERS)
def test_sources_give_the_rows_one_after_another(tmp_path: Path, format: str) -> None:
    path = WRITERS[format](tmp_path / "some", ROWS)
    if format == "ase_lmdb":
        path = tmp_path / "folder"
        path.mkdir()
        for part in (0, 1):
            write_ase_lmdb(path / f"{part}.aselmdb", ROWS[6 * part : 6 * part + 6])
    files = sources(format, path)
    assert all(file.is_file() for file in files)
    assert files == sorted(files)
    assert (len(files) > 1) == path.is_dir()
    rows = [atoms for file in files for _, atoms in read_rows(format, file)]
    assert all(same(one, other) for one, other in zip(rows, ROWS, strict=True))


def test_sources_of_an_address_are_none_and_of_a_folder_of_lmdb_its_file(tmp_path: Path) -> None:
    assert sources("ase_postgres", "postgresql://me@host/name") == []  # type: ignore[arg-type]
    path = write_ase_lmdb(tmp_path / "a", ROWS)
    (tmp_path / "b").mkdir()
    path.rename(tmp_path / "b/data.mdb")
    assert sources("ase_lmdb", tmp_path / "b") == [tmp_path / "b/data.mdb"]
    assert [where for where, _ in read_rows("ase_lmdb", tmp_path / "b")] == [f"row {at}" for at in range(1, 13)]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        sources("npz", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"unreadable is 'skip', expected 'raise' or 'yield'"):
        read_rows("ase_lmdb", tmp_path / "b", unreadable="skip")
