"""ASE databases in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(path: Path) -> Iterator[Any]:
    """The rows in the order of their ids; a file that is no ASE database is a ValueError that names it."""
    import ase.db

    if path.is_file() and path.stat().st_size == 0:
        # ASE would take it for a database that is about to begin, and write its tables into it.
        raise ValueError(f"{path} cannot be read as an ASE database: the file is empty.")
    try:
        for row in ase.db.connect(path, type="db").select(sort="id"):
            atoms = row.toatoms()
            atoms.info = {**row.data, **row.key_value_pairs}
            yield f"row {row.id}", atoms
    except (sqlite3.DatabaseError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as an ASE database: {error}.") from error
