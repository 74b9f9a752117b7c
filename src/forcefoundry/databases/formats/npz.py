"""Archives of NumPy arrays: rMD17's and sGDML's, PhysNet's, and padded ones with species 0 where there is no atom.

Members are read side by side, a few thousand rows at a time, and each to its end, where its checksum is compared.
A member in Fortran's order is held in memory whole. A cell without `pbc` beside it counts as periodic in all three
directions.
"""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.formats._arrays import layout_of, structures
from forcefoundry.databases.formats._told import told

log = logging.getLogger(__name__)

PIECE = 4 << 20
"""Bytes that are read of the widest member at once."""

NOT = "cannot be read as an npz file"
"""What an error says of a structure or a file."""


class _Member:
    """One array in the archive, taken row by row."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.name = info.filename.removesuffix(".npy")
        self.stream = archive.open(info)
        version = np.lib.format.read_magic(self.stream)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in headers:
            raise ValueError(f"it is in version {version} of NumPy's format, expected 1.0 or 2.0")
        self.shape, fortran, self.dtype = headers[version](self.stream)
        self.row = self.dtype.itemsize * math.prod(self.shape[1:])
        self.whole: NDArray[Any] | None = None
        self.taken = 0
        if self.dtype.hasobject:
            return  # pickled: its size says nothing, and it is left out
        size, follow = self.dtype.itemsize * math.prod(self.shape), info.file_size - self.stream.tell()
        if size != follow or min(self.shape, default=0) < 0:
            raise ValueError(f"its header says {self.shape} of {self.dtype}, {size} bytes, but {follow} follow")
        if fortran and len(self.shape) > 1:
            self.whole = self._array(self.shape[::-1]).transpose()  # its rows lie scattered over the whole member

    def take(self, rows: int) -> NDArray[Any]:
        """The next rows, (rows, ...)."""
        if self.whole is not None:
            self.taken += rows
            return self.whole[self.taken - rows : self.taken]
        return self._array((rows, *self.shape[1:]))

    def all(self) -> NDArray[Any]:
        """The array."""
        return self._array(self.shape) if self.whole is None else self.whole

    def finish(self) -> None:
        """Come to the end, where zipfile compares the checksum."""
        while self.stream.read(PIECE):
            pass

    def _array(self, shape: tuple[int, ...]) -> NDArray[Any]:
        size = self.dtype.itemsize * math.prod(shape)
        data = self.stream.read(size)
        if len(data) != size:
            raise ValueError(f"it ends after {len(data)} of {size} bytes")
        return np.frombuffer(data, dtype=self.dtype).reshape(shape)


def read(path: Path) -> Iterator[Any]:
    """The structures in the order of the arrays; Unreadable where its own arrays make none.

    Raises:
        ValueError: for a damaged member, which it names, and for arrays that do not fit together.
    """
    with told(str(path), NOT):
        archive = zipfile.ZipFile(path)
    with archive:
        with told(str(path), NOT):
            _check_count(archive, path)
        members = _members(archive, path)
        with told(str(path), NOT):
            layout = layout_of(
                {name: member.shape for name, member in members.items()},
                {name: "O" if member.dtype.hasobject else member.dtype.kind for name, member in members.items()},
            )
        for note in layout.notes:
            log.warning("%s: %s", path, note)
        shared, streamed = {}, []
        for name, role in layout.roles.items():
            if role in ("structure", "atom"):
                streamed.append(members[name])
                continue
            with told(f"{path}, {name}", NOT):
                value = members[name].all()
                members[name].finish()
            shared[name] = value
        number = 0
        for rows in _pieces(layout.n_structures, streamed, path):
            found = structures(layout, shared, rows)
            while True:
                with told(f"{path}, structure {number}", NOT):
                    atoms = next(found, None)
                if atoms is None:
                    break
                yield f"structure {number}", atoms
                number += 1


def _check_count(archive: zipfile.ZipFile, path: Path) -> None:
    # zipfile counts what it finds in the directory; one that is damaged may hide members. The count stands at its end.
    with path.open("rb") as file:
        file.seek(-22 - len(archive.comment), 2)
        end = file.read(22)
    count = int.from_bytes(end[10:12], "little")
    found = len(archive.infolist())
    if not end.startswith(b"PK\5\6") or count not in (found, 0xFFFF):
        raise ValueError(f"its directory lists {found} members, but counts {count}")


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            with told(f"{path}, {info.filename}", NOT):
                archive.open(info).close()  # compares the two places where its name stands: one may be damaged
            log.warning("%s: %s is left out: it is no array", path, info.filename)
            continue
        name = info.filename.removesuffix(".npy")
        with told(f"{path}, {name}", NOT):
            if name in members:
                raise ValueError("the archive holds it twice")
            members[name] = _Member(archive, info)
    return members


def _pieces(n_structures: int, members: list[_Member], path: Path) -> Iterator[dict[str, NDArray[Any]]]:
    """Rows of all members side by side; a file of one structure without an axis of structures is one piece."""
    if not members:
        yield {}
        return
    step = max(1, PIECE // max(1, *(member.row for member in members)))
    for first in range(0, n_structures, step):
        rows = {}
        for member in members:
            with told(f"{path}, {member.name}", NOT):
                rows[member.name] = member.take(min(step, n_structures - first))
                if first + step >= n_structures:
                    member.finish()  # before the last rows are given away
        yield rows
