"""Readers, one a file. Each gives the rows of its format, in order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from forcefoundry.databases.formats._address import Address, place
from forcefoundry.databases.formats._unreadable import Unreadable

__all__ = ["Address", "Unreadable", "known_formats", "place", "read_rows", "said_of", "sources"]


def known_formats() -> list[str]:
    """The formats that can be read: the modules of this room, but for the helpers, which begin with an underscore."""
    return [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")]


def read_rows(format_name: str, path: Path | Address, unreadable: str = "raise") -> Iterator[Any]:
    """The rows of a file, as pairs of where the row stands and its ASE Atoms.

    `info`, `arrays` and the calculator's results hold what else the row carries, under the names that stand in the
    file and in its units.

    Arguments:
        path: a file or folder, or a database's address (`place` tells which).
        unreadable: "raise" makes a row that cannot be read a ValueError that names it; "yield" puts an `Unreadable` in
            its place and goes on with the next row.

    Raises:
        ValueError, OSError: for what stops the reading of the whole file, which is named.
    """
    if unreadable not in ("raise", "yield"):
        raise ValueError(f"unreadable is {unreadable!r}, expected 'raise' or 'yield'.")
    reader, source = _reader(format_name, path)
    rows: Iterator[Any] = reader.read(source)
    return rows if unreadable == "yield" else _raising(rows, source, reader.NOT)


def said_of(format_name: str) -> str:
    """What the reader of a format says of rows that it cannot read: "cannot be read as ..."."""
    _check_format(format_name)
    said: str = importlib.import_module(f"{__name__}.{format_name}").NOT
    return said


def sources(format_name: str, path: Path | Address) -> list[Path]:
    """The files that a path stands for, in the order of reading; each can be read alone. None of an address."""
    reader, source = _reader(format_name, path)
    if isinstance(source, Address):
        return []
    return list(reader.sources(source)) if hasattr(reader, "sources") else [source]


def _check_format(format_name: str) -> None:
    formats = known_formats()
    if format_name not in formats:
        near = get_close_matches(format_name, formats, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" Known are {', '.join(formats)}."
        raise ValueError(f"database.format is {format_name!r}, which is not known.{hint}")


def _reader(format_name: str, path: Path | Address) -> tuple[Any, Path | Address]:
    _check_format(format_name)
    source = place(path)
    reader = importlib.import_module(f"{__name__}.{format_name}")
    served = getattr(reader, "SERVED", False)  # by a server at an address, not from a file
    if isinstance(source, Address) and not served:
        raise ValueError(
            f"database.path is the address {source}, but database.format={format_name} reads files. Set "
            "database.format=ase_postgres, or give a file."
        )
    if served and not isinstance(source, Address):
        raise ValueError(
            f"database.path is {str(source)!r}, but database.format={format_name} takes an address: "
            "postgresql://user@host:port/name."
        )
    if isinstance(source, Path) and not source.exists():
        raise FileNotFoundError(
            f"The database {source} does not exist. Set database.path to where your structures lie."
        )
    return reader, source


def _raising(rows: Iterator[Any], source: Path | Address, said: str) -> Iterator[Any]:
    with closing(rows):  # type: ignore[type-var]
        for where, atoms in rows:
            if isinstance(atoms, Unreadable):
                raise ValueError(f"{source}{_between(source)}{where}: {said} ({atoms.reason}).")
            yield where, atoms


def _between(source: Path | Address) -> str:
    return "/" if isinstance(source, Path) and source.is_dir() else ", "
