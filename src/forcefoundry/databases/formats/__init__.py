"""Readers, one a file. Each gives the rows of its format, in order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any


def known_formats() -> list[str]:
    """The formats that can be read: the modules of this room."""
    return [info.name for info in pkgutil.iter_modules(__path__)]


def read_rows(format_name: str, path: Path) -> Iterator[Any]:
    """The rows of a file, as ASE Atoms whose `info` also holds the row's key-value pairs; errors name the row."""
    formats = known_formats()
    if format_name not in formats:
        near = get_close_matches(format_name, formats, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" Known are {', '.join(formats)}."
        raise ValueError(f"database.format is {format_name!r}, which is not known.{hint}")
    if not path.exists():
        raise FileNotFoundError(f"The database {path} does not exist. Set database.path to where your structures lie.")
    return importlib.import_module(f"{__name__}.{format_name}").read(path)  # type: ignore[no-any-return]
