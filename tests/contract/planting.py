"""Faults planted into real sets: frames taken apart and put together, and what the door makes of them."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from forcefoundry.contract.door import COLUMNS, FINDINGS, QUARANTINE, bring_in
from forcefoundry.contract.quarantine import Quarantine
from forcefoundry.databases import Database
from tests.contract.real_sets import SETS, set_config
from tests.outside import data

BASE = "mlearn_Mo"
"""A set of which nothing at all is found as long as nothing is planted."""

Frames = list[str]
Spoil = Callable[[str], str | bytes]


@dataclass(frozen=True)
class Planted:
    """One fault in one row.

    Attributes:
        check: what must find it.
        spoil: the text of the frame to what it is with the fault.
        base, split, at: the set, the split whose file holds the frame, and the frame's number in it.
        apart: whether the row is set apart, or only told of.
        changes: to the configuration, for the set without the fault, too.
    """

    check: str
    spoil: Spoil
    base: str
    split: str
    at: int
    apart: bool
    changes: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.spoil.__name__

    def plant(self, folder: Path) -> tuple[dict[str, Any], Path]:
        """Write the file with the fault; the configuration that reads it, and the file."""
        rows = texts(self.base, self.split)
        spoiled = self.spoil(rows[self.at])
        content = [row.encode() for row in rows]
        content[self.at] = spoiled if isinstance(spoiled, bytes) else spoiled.encode()
        return planted_config(self.base, {self.split: b"".join(content)}, folder, **self.changes)


@dataclass
class Plan:
    """The faults of a module, in the order in which they are defined."""

    faults: list[Planted] = field(default_factory=list)

    def row(
        self, check: str, base: str = BASE, split: str = "test", at: int = 7, apart: bool = True, **changes: Any
    ) -> Callable[[Spoil], Spoil]:
        """Make a function a fault of one row."""

        def registered(spoil: Spoil) -> Spoil:
            self.faults.append(Planted(check, spoil, base, split, at, apart, changes))
            return spoil

        return registered


@dataclass(frozen=True)
class Brought:
    """What the door left: its summary, its findings, what is set apart, and what each kept row holds, as bytes."""

    summary: Mapping[str, Any]
    findings: Sequence[Mapping[str, Any]]
    apart: Sequence[tuple[str, str, tuple[str, ...]]]
    rows: Sequence[bytes]
    splits: Mapping[str, Sequence[int]]

    def found(self, check: str) -> list[Mapping[str, Any]]:
        """The findings of one check."""
        return [one for one in self.findings if one["check"] == check]


def brought(config: Mapping[str, Any], folder: Path, contract: Mapping[str, Any] | None = None) -> Brought:
    """Bring a set in, and read what came of it."""
    summary = bring_in(config, contract, folder)
    rows = summary["rows"]
    assert rows["in"] == rows["kept"] + rows["quarantined"] + rows["rejected"]
    with Quarantine.open(folder / QUARANTINE) as held:
        apart = [(row.file, row.where, row.checks) for row in held]
    database = Database.load(folder / COLUMNS)
    assert len(database) == rows["kept"]
    assert len(apart) == rows["quarantined"]
    splits = {name: members.tolist() for name, members in database.splits.items()}
    return Brought(summary, told(folder), apart, contents(database), splits)


def told(folder: Path) -> list[dict[str, Any]]:
    """The findings in a folder."""
    return [json.loads(line) for line in (folder / FINDINGS).read_text(encoding="utf-8").splitlines()]


def contents(database: Database) -> list[bytes]:
    """All that each row holds, to the bit: its key, its structure, and its labels."""
    keys, names = database.keys(), sorted(database.columns)
    columns = [np.ascontiguousarray(database.columns[name]) for name in names]
    found = []
    for row in range(len(database)):
        atoms = database.atoms(row)
        parts = [column[atoms] if len(column) == database.offsets[-1] else column[row] for column in columns]
        found.append(keys[row].tobytes() + b"".join(part.tobytes() for part in parts))
    return found


@cache
def _clean(base: str, changes: str) -> Brought:
    folder = Path(mkdtemp())
    try:
        return brought(set_config(base) | json.loads(changes), folder / "out")
    finally:
        shutil.rmtree(folder)


def clean(base: str, **changes: Any) -> Brought:
    """What comes of a set as it is; made once."""
    needed(base)
    return _clean(base, json.dumps(changes))


def check_found(before: Brought, after: Brought, check: str, place: tuple[str, str], apart: bool) -> None:
    """Assert that a fault in one row is found by its check and place, and that all other rows are as without it.

    Args:
        before: what came of the set without the fault, of which all rows were kept.
        place: the file and where the row stands in it.
        apart: whether the row is set apart, or only told of.
    """
    assert before.summary["rows"]["kept"] == before.summary["rows"]["in"]
    found = [one for one in after.found(check) if (one["file"], one["where"]) == place]
    assert found, f"{check} says nothing of {place}, but {after.summary['findings']}"
    row = found[0]["row"]
    for part in ("what", "got", "expected", "remedy"):
        assert all(one[part] for one in found)
    known = {(one["check"], one["row"]) for one in before.findings}
    assert {one["row"] for one in after.findings if (one["check"], one["row"]) not in known} == {row}
    gone, new = Counter(before.rows) - Counter(after.rows), Counter(after.rows) - Counter(before.rows)
    assert list(gone.elements()) == [before.rows[row]]
    assert new.total() == (0 if apart else 1)
    rows = before.summary["rows"]
    assert after.summary["rows"] == {**rows, "kept": rows["in"] - apart, "quarantined": int(apart)}
    assert [(*one[:2], check in one[2]) for one in after.apart] == ([(*place, True)] if apart else [])


def planted_config(base: str, files: Mapping[str, bytes], folder: Path, **changes: Any) -> tuple[dict[str, Any], Path]:
    """The configuration that reads a set with some files in place of its own, and the last of these."""
    folder.mkdir(exist_ok=True)
    config = set_config(base)
    names = dict(config["files"])
    path = folder
    for split, content in files.items():
        path = folder / f"planted_{split}{Path(names[split]).suffix}"
        path.write_bytes(content)
        names[split] = str(path)
    return config | {"files": names} | changes, path


@cache
def texts_of(path: Path) -> tuple[str, ...]:
    """The text of each frame of an extended XYZ file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found, at = [], 0
    while at < len(lines):
        stop = at + 2 + int(lines[at])
        found.append("".join(lines[at:stop]))
        at = stop
    return tuple(found)


def needed(base: str) -> None:
    """Skip the test where the folder of a set is absent."""
    folder = data() / SETS[base][0]
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")


def texts(base: str, split: str) -> Frames:
    """The text of each frame of a file."""
    needed(base)
    folder, files, _ = SETS[base]
    return list(texts_of(data() / folder / files[split]))


def joined(frames: Sequence[str]) -> bytes:
    """The file that these frames make."""
    return "".join(frames).encode()


def info(frame: str, key: str) -> str:
    """What the comment of a frame says under a key."""
    found = re.search(_entry(key), frame.splitlines()[1])
    assert found is not None, f"the frame has no {key}"
    return found[1].strip('"')


def with_info(frame: str, key: str, value: Any) -> str:
    """The frame with something else under a key of its comment, in quotes; None takes the key away."""
    lines = frame.splitlines(keepends=True)
    new = "" if value is None else f'{key}="{value}"'
    lines[1], times = re.subn(_entry(key), lambda _: new, lines[1], count=1)
    if not times and value is not None:
        lines[1] = f"{lines[1].rstrip()} {new}\n"
    return "".join(lines)


def _entry(key: str) -> str:
    return rf'(?<!\S){re.escape(key)}=("[^"]*"|\S+)'


def numbers(frame: str, key: str) -> np.ndarray:
    """The numbers under a key, in their order."""
    return np.array(re.findall(r"[-+]?\d[-+.\deE]*", info(frame, key)), dtype=np.float64)


def with_numbers(frame: str, key: str, values: np.ndarray) -> str:
    """The frame with other numbers under a key, flat, or (3, 3) as JSON where they stood so."""
    if info(frame, key).startswith("_JSON"):
        return with_info(frame, key, f"_JSON {json.dumps(np.reshape(values, (3, 3)).tolist())}")
    return with_info(frame, key, " ".join(repr(float(value)) for value in np.ravel(values)))


def with_atom(frame: str, atom: int, **fields: Any) -> str:
    """The frame with other words in the line of an atom: s for the symbol, x, y, z, and fx, fy, fz from the end."""
    lines = frame.splitlines(keepends=True)
    words = lines[2 + atom].split()
    places = {"s": 0, "x": 1, "y": 2, "z": 3, "fx": -3, "fy": -2, "fz": -1}
    for name, value in fields.items():
        words[places[name]] = value if isinstance(value, str) else repr(float(value))
    lines[2 + atom] = " ".join(words) + "\n"
    return "".join(lines)


def vectors(frame: str, forces: bool = False) -> np.ndarray:
    """(n_atoms, 3) the positions or the forces of a frame."""
    rows = [line.split() for line in frame.splitlines()[2:]]
    return np.array([row[-3:] if forces else row[1:4] for row in rows], dtype=np.float64)


def with_vectors(frame: str, values: np.ndarray, forces: bool = False) -> str:
    """The frame with other positions or forces."""
    names = ("fx", "fy", "fz") if forces else ("x", "y", "z")
    for atom, value in enumerate(values):
        frame = with_atom(frame, atom, **dict(zip(names, value, strict=True)))
    return frame
