"""Extended XYZ files, as ASE writes and reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(path: Path) -> Iterator[Any]:
    """The frames in the order of the file; a frame that cannot be read is a ValueError that gives its number."""
    import ase.io

    frame = 0
    try:
        for atoms in ase.io.iread(path, index=":", format="extxyz"):
            yield f"frame {frame}", atoms
            frame += 1
    except Exception as error:  # ASE's reader raises whatever it stumbles over: index, key and value errors among them
        raise ValueError(f"{path}, frame {frame}: cannot be read as extended XYZ ({error}).") from error
