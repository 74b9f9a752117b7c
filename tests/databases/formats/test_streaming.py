"""Rows pass through memory: four times as many take no more of it, in any format, and each is read once."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import h5py
import numpy as np
import pytest

from forcefoundry.databases.formats import _frames, ase_db, ase_lmdb, hdf5, npz, read_rows
from tests.databases.formats.test_plain import told_apart
from tests.databases.formats.writers import WRITERS, drawn, same, write_extxyz

FEW, MANY = 150, 600
OF_ARCHIVES = 1500, 6000  # zipfile reads some kilobytes of each member at once
PIECE = 5_000  # bytes; less than a tenth of the smaller files


def peak(rows: Iterable[Any]) -> tuple[int, int]:
    """The most memory that Python holds while rows come and go, in bytes, and how many they are."""
    gc.collect()
    gc.freeze()  # so that what was there before is not looked through again and again
    tracemalloc.start()
    try:
        count = 0
        for count, _ in enumerate(rows, 1):
            if count % 10 == 0:
                gc.collect()  # ASE's calculators refer to themselves, and stay until then
        return tracemalloc.get_traced_memory()[1], count
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def kept(rows: Iterable[Any]) -> Iterator[Any]:
    """All of them at once, as no reader may."""
    yield from list(rows)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that fit small files, and what other processes read is read in this one, where it can be watched."""
    for module in (hdf5, npz, ase_lmdb):
        monkeypatch.setattr(module, "PIECE", PIECE)
    for reader in (hdf5, ase_lmdb):
        monkeypatch.setattr(reader, "read_apart", lambda _, path, reader=reader: reader.pieces(path))
    monkeypatch.setattr(ase_db, "ROWS", 20)
    monkeypatch.setattr(_frames, "MANY", 100)


def molecule_in_hdf5(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """One group of conformations, as ANI-1x has them; `WRITERS` makes a group of each."""
    values = np.random.default_rng(0).normal(size=(len(rows), 7, 3))
    with h5py.File(path, "w") as file:
        file["C2H5/atomic_numbers"], file["C2H5/coordinates"] = np.array([6, 6, 1, 1, 1, 1, 1]), values
        file["C2H5/forces"], file["C2H5/energy"] = values, values[:, 0, 0]
    return path


def trajectory(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """A folder of one file with all frames."""
    path.mkdir()
    ase.io.write(path / "md.traj", list(rows))
    return path


CASES = {**WRITERS, "hdf5": molecule_in_hdf5, "ase_folder": trajectory}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("format", CASES)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, format: str) -> None:
    sizes = OF_ARCHIVES if format == "npz" else (FEW, MANY)
    few, many = (CASES[format](tmp_path / f"{n}", drawn(n)) for n in sizes)
    list(read_rows(format, few))  # imports and caches
    low, n_few = peak(read_rows(format, few))
    high, n_many = peak(read_rows(format, many))
    assert (n_few, n_many) == sizes
    assert high < 1.3 * low + 10_000
    held, _ = peak(kept(read_rows(format, many)))
    assert held > 2 * high


def test_a_group_that_was_read_is_closed(tmp_path: Path) -> None:
    """Of an HDF5 file with a group a structure, names stay, not the groups and what they hold."""
    few, many = (WRITERS["hdf5"](tmp_path / f"{n}", drawn(n)) for n in (50, 200))
    list(hdf5.pieces(few))
    (low, _), (high, _) = peak(hdf5.pieces(few)), peak(hdf5.pieces(many))
    assert high - low < 150 * 500  # bytes; open, each would hold some thousand


def test_text_is_read_once_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """From a pipe, in which nobody can go back."""
    rows = drawn(50)
    text = write_extxyz(tmp_path / "a.xyz", rows).read_bytes()
    pipe = tmp_path / "pipe.xyz"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(text,))
    writer.start()
    found = [atoms for _, atoms in read_rows("extxyz", pipe)]
    writer.join()
    assert all(same(one, other) for one, other in zip(found, rows, strict=True))


def test_the_pieces_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows at the ends of pieces are neither lost nor doubled."""
    rows = drawn(60)
    for format in ("npz", "ase_db"):
        path = WRITERS[format](tmp_path / format, rows)
        whole = list(read_rows(format, path))
        for size in (1, 700, 7000):
            monkeypatch.setattr({"npz": npz, "ase_db": ase_db}[format], "PIECE" if format == "npz" else "ROWS", size)
            for (where, atoms), (expected, other) in zip(read_rows(format, path), whole, strict=True):
                assert where == expected
                assert list(told_apart(atoms, other)) == []
