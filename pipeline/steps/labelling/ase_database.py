"""Labelled rows -> an ASE SQLite database in which nothing depends on when, where or by whom it was written."""

from __future__ import annotations

import errno
import hashlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from ase.db import connect
from ase.db.row import AtomsRow

from pipeline.steps.labelling.rows import Labelled

USER = "forcefoundry"
WRITTEN = 26.0  # years since 2000, in which ASE counts its times: any fixed moment will do


def write_database(path: Path, rows: Iterable[Labelled]) -> None:
    """Write a new database at `path`, a row for each of `rows`; equal rows give equal bytes.

    Rows carry the key-value pairs `name` and `frame`. OSError with ENOSPC if the disk is full.
    """
    with _full_disk_told(path):
        with connect(str(path), append=False, use_lock_file=False) as database:
            for row in rows:
                database.write(_ase_row(row), name=row.name, frame=row.frame)
        with closing(sqlite3.connect(path)) as connection:
            with connection:
                connection.execute("UPDATE systems SET mtime = ctime")  # ASE leaves no other way to set it
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("VACUUM")  # what the old times left behind in free bytes would differ


def _ase_row(row: Labelled) -> AtomsRow:
    ase_row = AtomsRow(row.atoms)
    ase_row.unique_id = _identity(row)
    ase_row.ctime = WRITTEN
    ase_row.user = USER
    return ase_row


def _identity(row: Labelled) -> str:
    """32 hex digits, as ASE's random ones, here from the name, the frame and the structure."""
    atoms = row.atoms
    digest = hashlib.sha256(f"{row.name}/{row.frame}/".encode())
    for array, kind in ((atoms.numbers, "<i4"), (atoms.positions, "<f8"), (atoms.cell.array, "<f8"), (atoms.pbc, "?")):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()[:32]


@contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest the detail
        no_room = shutil.disk_usage(path.parent).free < 1 << 16
        if code == sqlite3.SQLITE_FULL or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and no_room):
            raise OSError(errno.ENOSPC, "the disk is full", str(path)) from error
        raise
