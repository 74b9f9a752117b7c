"""A quarantine as a run leaves it: rows of several kinds, each with what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np

from forcefoundry.contract.findings import Finding
from forcefoundry.contract.quarantine import Quarantine, row_id
from forcefoundry.contract.row_text import Content
from tests.builders import database

RAW = b'2\nProperties=species:S:1:pos:R:3\nO 0 0 0\nH 0 0 \xff\x00"\x1b[31m\n'


def finding(check: str, what: str = "the force on atom 3") -> Finding:
    """A finding of a check, about a row."""
    return Finding(check, 7, what, "212.4 eV/Å", "at most 31 eV/Å", "Look at the row.")


def columns(at: int) -> dict[str, Any]:
    """One structure's columns with labels and a config_type, every other one periodic."""
    base = database(8)
    start, stop = base.offsets[at], base.offsets[at + 1]
    of_atoms = ("species", "positions", "forces")
    held: dict[str, Any] = {
        name: np.array(values[start:stop] if name in of_atoms else values[at]) for name, values in base.columns.items()
    }
    return held | {"config_type": "melt"}


def broken() -> ase.Atoms:
    """A row that can be read and not packed."""
    return ase.Atoms("OH", [[0, 0, 0], [0, 0, np.nan]], info={"energy": -1.5})


ROWS: list[tuple[str, str, list[Finding], Content]] = [
    ("data/train.xyz", "frame 17", [finding("force_outlier")], columns(0)),
    ("data/train.xyz", "frame 18", [finding("force_outlier"), finding("close_atoms", "the distance")], columns(1)),
    ("data/more.xyz", "frame 3", [finding("force_outlier")], columns(2)),
    ("data/more.xyz", "frame 4", [finding("not_finite", "the position of atom 1")], broken()),
    ("data/more.xyz", "frame 5", [finding("unreadable", "the row")], RAW),
]
IDS = [row_id(content) for _, _, _, content in ROWS]


def filled(path: Path, states: dict[int, str] | None = None) -> Path:
    """Write the quarantine of ROWS, each quarantined unless `states` says otherwise."""
    with Quarantine.create(path) as writer:
        for at, (file, where, findings, content) in enumerate(ROWS):
            writer.add(IDS[at], file, where, findings, content, (states or {}).get(at, "quarantined"))
    return path
