"""ASE-LMDB as fairchem's sets come, and folders of whatever ASE reads."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path

import ase
import ase.db
import ase.io
import lmdb
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import mydecode

from forcefoundry.databases.formats import ase_lmdb, read_rows, sources
from tests.databases.formats.writers import drawn, same, write_ase_folder, write_ase_lmdb


def changed(path: Path, key: str, value: bytes | None) -> Path:
    """The same database with one entry put or taken away."""
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        if value is None:
            transaction.delete(key.encode())
        else:
            transaction.put(key.encode(), value)
    return path


def test_rows_that_were_deleted_and_files_in_a_folder(tmp_path: Path) -> None:
    rows = drawn(12)
    write_ase_lmdb(tmp_path / "data.0001.aselmdb", rows[6:])
    write_ase_lmdb(tmp_path / "data.0000.aselmdb", rows[:6])
    with ase.db.connect(tmp_path / "data.0001.aselmdb", type="aselmdb") as database:
        database.delete([2, 3])
    found = list(read_rows("ase_lmdb", tmp_path))
    assert [where for where, _ in found] == [f"data.0000.aselmdb, row {at}" for at in range(1, 7)] + [
        f"data.0001.aselmdb, row {at}" for at in (1, 4, 5, 6)
    ]
    expected = [*rows[:7], *rows[9:]]
    assert all(same(atoms, row) for (_, atoms), row in zip(found, expected, strict=True))


def test_stress_cell_and_data(tmp_path: Path) -> None:
    row = ase.Atoms("Si", cell=[3, 4, 5], pbc=[True, True, False])
    row.calc = SinglePointCalculator(row, energy=-1.5, stress=np.arange(6.0))
    with ase.db.connect(tmp_path / "a.aselmdb", type="aselmdb") as database:
        database.write(row, config_type="bulk", data={"REF_forces": np.ones((1, 3)), "sid": "x7", "charge": 1})
    ((where, atoms),) = read_rows("ase_lmdb", tmp_path / "a.aselmdb")
    assert where == "row 1"
    assert atoms.pbc.tolist() == [True, True, False]
    np.testing.assert_array_equal(atoms.calc.results["stress"], np.arange(6.0))
    np.testing.assert_array_equal(atoms.info["REF_forces"], np.ones((1, 3)))
    assert (atoms.info["sid"], atoms.info["charge"], atoms.info["config_type"]) == ("x7", 1, "bulk")


def test_pieces_hand_over_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ase_lmdb, "PIECE", 1000)
    pieces = list(ase_lmdb.pieces(write_ase_lmdb(tmp_path / "a", drawn(9))))
    assert len(pieces) > 2
    assert [number for piece in pieces for number, _ in piece] == list(range(1, 10))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("3", None, r"counts 5 rows, but has 4 entries"),
        ("7", zlib.compress(b"{}"), r"counts 5 rows, but has 6 entries"),
        ("nextid", None, r"it has no entry 'nextid'"),
        ("4", b"no zlib", r"a\.aselmdb, row 4: cannot be read as an ASE-LMDB database"),
        ("4", zlib.compress(b"[1]"), r"row 4: .*the entry is no structure"),
        ("4", zlib.compress(b'{"numbers": [1, 1], "positions": [[0, 0, 0]]}'), r"row 4: .*positions of shape \(1, 3\)"),
    ],
)
def test_a_damaged_entry_is_named(tmp_path: Path, key: str, value: bytes | None, told: str) -> None:
    path = changed(write_ase_lmdb(tmp_path / "a.aselmdb", drawn(5)), key, value)
    with pytest.raises(ValueError, match=told):
        list(read_rows("ase_lmdb", path))


def test_books_of_which_the_newer_are_lost_are_not_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.aselmdb"
    database = ase.db.connect(path, type="aselmdb")
    for row in drawn(5):  # a transaction each
        database.write(row)
    database.close()
    held = bytearray(path.read_bytes())
    newer = max((0, 4096), key=lambda page: int.from_bytes(held[page + 144 : page + 152], "little"))
    held[newer + 144] ^= 64 | 16  # the number of the transaction: the other one is the newest now
    path.write_bytes(held)
    with pytest.raises(ValueError, match=r"its last transactions are numbered|rows, but has"):
        list(read_rows("ase_lmdb", path))


@pytest.mark.parametrize(
    "text",
    [
        "5",
        '"text"',
        "[1, 2.5, null, true]",
        '{"1": {"2": [3]}, "a": {"__complex__": [1, 2]}}',
        '{"numbers": {"__ndarray__": [[2, 1], "float64", [0.1, 4.9e-324]]}}',
        '[{"__complex_ndarray__": [[1.0, 2.0], [0.0, 1.0]]}, {"__datetime__": "2024-01-02T03:04:05.6"}]',
        '{"cell": {"array": {"__ndarray__": [[3, 3], "float64", [1, 0, 0, 0, 1, 0, 0, 0, 1]]}, '
        '"__ase_objtype__": "cell"}}',
        '{"whole": 123456789012345678901234567890}',
        '{"whole": [-9223372036854775809, 18446744073709551616]}',
        '{"numbers": {"__ndarray__": [[1], "float64", [123456789012345678901234567890]]}, "a": [[1e200]]}',
        '{"large": 1E400, "none": NaN, "less": -Infinity}',
        '{"twice": 1, "twice": 2}',
        '{"surrogate": "\\ud800"}',
    ],
)
def test_json_is_decoded_as_by_ase(text: str) -> None:
    decoded, expected = ase_lmdb._decoded(text.encode()), mydecode(text)
    assert repr(decoded) == repr(expected)
    assert pickle.dumps(decoded) == pickle.dumps(expected)


def test_a_folder_without_databases_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \*\.aselmdb files"):
        list(read_rows("ase_lmdb", tmp_path))


def test_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    rows = drawn(8)
    write_ase_folder(tmp_path / "runs", rows)
    (tmp_path / "runs/.DS_Store").write_bytes(b"\0")
    found = list(read_rows("ase_folder", tmp_path / "runs"))
    assert [where for where, _ in found] == [
        f"run000{run}/{name}"
        for run in (0, 4)
        for name in (*(f"a@1.xyz, frame {at}" for at in range(3)), "b.traj, frame 0")
    ]
    assert all(same(atoms, row) for (_, atoms), row in zip(found, rows, strict=True))


WRITTEN = {  # and which labels each format keeps
    "POSCAR": (),
    "a.cif": (),
    "a.gen": (),
    "a.xsf": ("forces",),
    "a.json": ("energy", "forces"),
    "a.traj": ("energy", "forces"),
    "a.extxyz": ("energy", "forces"),
}


def test_files_of_many_formats_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {}
    for name in WRITTEN:
        row = ase.Atoms("Si2O", rng.uniform(0.5, 3.0, (3, 3)).round(6), cell=np.diag([4.0, 5.0, 6.0]), pbc=True)
        forces = rng.normal(size=(3, 3)).round(6)
        row.calc = SinglePointCalculator(row, energy=-len(rows) - 0.5, forces=forces)
        ase.io.write(tmp_path / name, row)
        rows[name] = row
    found = dict(read_rows("ase_folder", tmp_path))
    assert list(found) == [f"{name}, frame 0" for name in sorted(WRITTEN)]
    for name, row in rows.items():
        atoms = found[f"{name}, frame 0"]
        assert atoms.numbers.tolist() == row.numbers.tolist()
        np.testing.assert_allclose(atoms.positions, row.positions, atol=1e-5)
        np.testing.assert_allclose(atoms.cell, row.cell, atol=1e-5)
        results = atoms.calc.results if atoms.calc else {}
        assert sorted(results) == list(WRITTEN[name])
        for label, values in results.items():
            np.testing.assert_allclose(values, row.calc.results[label], atol=1e-8)


@pytest.mark.parametrize(
    ("name", "held", "told"),
    [
        (
            "README",
            "How these came to be\n",
            r"b/README, frame 0: cannot be read by ASE; mend it, or move it elsewhere",
        ),
        ("c.xyz", "", r"b/c\.xyz, frame 0: "),
        ("c.traj", "no trajectory", r"b/c\.traj, frame 0: "),
        ("c.extxyz", "1\n\nH 0 0 0\n2\n\nH 0 0 0\n", r"b/c\.extxyz, frame \d: "),
        ("POSCAR", "Si\n1.0\n1 0\n", r"b/POSCAR, frame 0: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, held: str, told: str) -> None:
    write_ase_folder(tmp_path / "a", drawn(4))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_text(held)
    with pytest.raises(ValueError, match=told):
        list(read_rows("ase_folder", tmp_path))


def test_a_file_of_a_folder_can_be_read_alone(tmp_path: Path) -> None:
    rows = drawn(8)
    write_ase_folder(tmp_path, rows)
    files = sources("ase_folder", tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        f"run000{run}/{name}" for run in (0, 4) for name in ("a@1.xyz", "b.traj")
    ]
    found = [pair for file in files for pair in read_rows("ase_folder", file)]
    assert all(same(atoms, row) for (_, atoms), row in zip(found, rows, strict=True))
    assert [where for where, _ in found[:4]] == ["frame 0", "frame 1", "frame 2", "frame 0"]
