"""ASE databases in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from forcefoundry.databases.formats._rows import BrokenText, converted, know_external_tables, statement
from forcefoundry.databases.formats._told import told, words

ROWS = 1000
"""Rows that are in memory at once."""

NOT = "cannot be read as an ASE database"
"""What an error says of a row or a file."""


def read(path: Path) -> Iterator[Any]:
    """The rows in the order of their ids, Unreadable where one is damaged.

    Raises:
        ValueError: for a file that is no ASE database, and where SQLite finds damage that has no row.
    """
    with told(str(path), NOT):
        database = _opened(path)
    last = seen = 0
    with closing(database.connection) as connection:
        while page := _page(connection, statement(database, ROWS), last, path):
            for number, atoms in converted(database, page, words):
                if number <= last:
                    raise ValueError(f"{path} {NOT}: row {number} comes after row {last}. The file is damaged.")
                yield f"row {number}", atoms
                last, seen = number, seen + 1
        with told(str(path), NOT):
            # SQLite counts in an index, the rows come from the table: a damaged one may hide some of them.
            counted = connection.execute("SELECT count(*) FROM systems").fetchone()[0]
            if counted > seen and not connection.execute("SELECT 1 FROM systems WHERE id > ?", (last,)).fetchone():
                raise ValueError(f"{counted} rows are counted in it, but {seen} come; it is damaged")


def _opened(path: Path) -> Any:
    # ASE would open for writing, and write its tables into a file that has none.
    import sqlite3

    import ase.db

    if path.is_file() and path.stat().st_size == 0:
        raise ValueError("the file is empty")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=20)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'systems'").fetchone():
            raise ValueError("it holds no tables of ASE's")
        database = ase.db.connect(path, type="db")
        database.connection, database.change_count = connection, 0
        know_external_tables(database)
    except BaseException:
        connection.close()
        raise
    return database


def _page(connection: Any, asked: str, last: int, path: Path) -> list[Any]:
    import sqlite3

    with told(f"{path} after row {last}" if last else str(path), NOT):
        try:
            return list(connection.execute(asked, (last,)))
        except sqlite3.OperationalError:
            # One text that is none would keep all others of the page away.
            connection.text_factory = BrokenText.or_text
            try:
                return list(connection.execute(asked, (last,)))
            finally:
                connection.text_factory = str
