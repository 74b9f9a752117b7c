"""Extended XYZ files, as ASE writes and reads them, packed by gzip, bzip2 or xz too.

The file is cut into frames here: one that cannot be read does not end the reading. Frames in the plain writing are
read here too, as ASE reads them but several times faster; all others are read by ASE.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forcefoundry.databases.formats._frames import frames
from forcefoundry.databases.formats._told import told

NOT = "cannot be read as extended XYZ"
"""What an error says of a row or a file."""


def read(path: Path) -> Iterator[Any]:
    """The frames in the order of the file, Unreadable where one cannot be read; nothing is passed over."""
    import io

    from ase.io.formats import open_with_compression

    with told(str(path), NOT):
        packed = open_with_compression(str(path), "rb")
    # Bytes that are no text become marks, which `frames` finds: they damage one frame, not the file.
    with packed, io.TextIOWrapper(packed, encoding="utf-8", errors="surrogateescape") as file:
        found = frames(file)
        while True:
            with told(str(path), NOT):
                one = next(found, None)
            if one is None:
                return
            yield one
