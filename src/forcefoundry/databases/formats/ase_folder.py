"""A folder of files that ASE reads, of any of its formats, in folders within it too: one calculation a file, say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forcefoundry.databases.formats import extxyz
from forcefoundry.databases.formats._unreadable import KEPT, Unreadable

NOT = "cannot be read by ASE; mend it, or move it elsewhere if it is no structure"
"""What an error says of a frame or a file."""


def read(path: Path) -> Iterator[Any]:
    """The structures, files in the order of their names and each from its first frame to its last.

    Files and folders whose names begin with a dot are passed over. Every other file must hold structures: where ASE
    does not know one, or it is damaged or empty, its frame is Unreadable and the next file follows. One of these files
    can be read alone.
    """
    for file in _files(path) if path.is_dir() else [path]:
        name = "" if file == path else f"{file.relative_to(path)}, "
        for where, atoms in _frames(file):
            yield f"{name}{where}", atoms


def sources(path: Path) -> list[Path]:
    """The files of a folder in their order, or the file itself."""
    return list(_files(path)) if path.is_dir() else [path]


def _files(folder: Path) -> Iterator[Path]:
    for name in sorted(os.listdir(folder)):
        if name.startswith("."):
            continue
        entry = folder / name
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def _frames(file: Path) -> Iterator[tuple[str, Any]]:
    frame = 0
    try:
        for where, atoms in _read(file):
            yield where, atoms
            frame += 1
        if frame == 0:
            raise ValueError("it holds no structures")
    except Exception as error:  # whatever one of ASE's many readers stumbles over
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise  # what the system refuses stays what it is
        reason = Unreadable.because(error).reason.replace(f"{file}: ", "")
        yield f"frame {frame}", Unreadable(reason, _beginning(file))


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    import ase.io
    from ase.io.formats import filetype

    if filetype(str(file)) == "extxyz":
        yield from extxyz.read(file)
        return
    # A sign @ in a name would otherwise be taken for the beginning of an index.
    for frame, atoms in enumerate(ase.io.iread(str(file), index=":", do_not_split_by_at_sign=True)):
        yield f"frame {frame}", atoms


def _beginning(file: Path) -> bytes:
    with file.open("rb") as held:
        return held.read(KEPT)
