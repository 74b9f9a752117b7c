"""The same faults planted into every extended XYZ file of the data folder, wherever that is and whatever is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.contract.planted_structures import (
    atoms_in_one_place,
    comment_lost,
    comment_without_properties,
    count_too_large,
    dummy_atom,
    merged_numbers,
    missing_column,
    nan_position,
    no_atom_at_all,
    no_such_element,
    no_utf8,
    overflowed_column,
    positions_in_nanometres,
    word_among_numbers,
)
from tests.contract.planting import Brought, brought, info, texts_of, vectors, with_atom, with_info
from tests.outside import data, files

Spoil = Callable[[str, str], str | bytes]

FEWEST = 6
"""Atoms of a frame that faults are planted into."""


def _of_structure(spoil: Callable[[str], str | bytes]) -> Spoil:
    def spoiled(frame: str, key: str) -> str | bytes:
        return spoil(frame)

    spoiled.__name__ = spoil.__name__
    return spoiled


def energy_not_finite(frame: str, key: str) -> str:
    return with_info(frame, key, "nan")


def energy_no_number(frame: str, key: str) -> str:
    return with_info(frame, key, "unconverged")


def energy_times_ten(frame: str, key: str) -> str:
    return with_info(frame, key, 10.0 * float(info(frame, key)))


def energy_of_nothing(frame: str, key: str) -> str:
    return with_info(frame, key, "0.0")


def force_times_a_million(frame: str, key: str) -> str:
    return with_atom(frame, 5, fx=1e6 * (abs(vectors(frame, forces=True)[5, 0]) + 0.01))


def force_not_finite(frame: str, key: str) -> str:
    return with_atom(frame, 5, fz="nan")


FAULTS: list[tuple[str, Spoil]] = [
    *(
        ("unreadable", _of_structure(one))
        for one in (count_too_large, word_among_numbers, overflowed_column, missing_column, merged_numbers)
    ),
    *(
        ("unreadable", _of_structure(one))
        for one in (comment_lost, comment_without_properties, no_utf8, no_such_element)
    ),
    ("no_element", _of_structure(dummy_atom)),
    ("no_atoms", _of_structure(no_atom_at_all)),
    ("not_finite", _of_structure(nan_position)),
    ("close_atoms", _of_structure(atoms_in_one_place)),
    ("close_atoms", _of_structure(positions_in_nanometres)),
    ("not_finite", energy_not_finite),
    ("shape", energy_no_number),
    ("energy_outlier", energy_times_ten),
    ("zero_energy", energy_of_nothing),
    ("force_outlier", force_times_a_million),
    ("not_finite", force_not_finite),
]

OF_FORCES = ("force_times_a_million", "force_not_finite", "comment_without_properties")
"""Faults of files with forces: elements and positions alone are also what a comment without Properties means."""

PER_FILE = 3
"""Faults that each file gets where not all are asked for; over the files every fault has its turn."""


def config(path: Path, labels: tuple[str, ...]) -> dict[str, Any]:
    """The configuration that reads one file."""
    split = {"seed": 0, "by": "content", "column": None, "valid": 0.3, "test": 0.0, "held_out": [], "frozen": None}
    keys = dict.fromkeys(labels)
    return {"path": str(path), "format": "extxyz", "files": None, "keys": keys, "group": None, "split": split}


@cache
def as_it_is(path: Path) -> tuple[Brought, tuple[str, ...]]:
    """What comes of a file as it is, and which labels it has."""
    told = []
    for labels in (("energy", "forces"), ("energy",)):
        with TemporaryDirectory() as folder:
            try:
                return brought(config(path, labels), Path(folder) / "out"), labels
            except ValueError as error:
                told.append(str(error))
    pytest.skip(f"{path.name} does not come in by itself: {told[-1]}")


def planted(path: Path, check: str, spoil: Spoil, folder: Path) -> None:
    """Plant a fault into a frame in the middle of a file, and assert what comes of it."""
    before, labels = as_it_is(path)
    rows = texts_of(path)
    large = [at for at, row in enumerate(rows) if int(row.split()[0]) >= FEWEST]
    if len(large) < 10:
        pytest.skip(
            f"{path.name} has {len(large)} structures of {FEWEST} atoms or more, fewer than faults are seen among"
        )
    if spoil.__name__ in OF_FORCES and "forces" not in labels:
        pytest.skip(f"{path.name} has no forces")
    at = large[len(large) // 2]
    spoiled = spoil(rows[at], before.summary["properties"]["energy"]["key"])
    content = [row.encode() for row in rows]
    content[at] = spoiled if isinstance(spoiled, bytes) else spoiled.encode()
    place = folder / path.name
    place.write_bytes(b"".join(content))
    after = brought(config(place, labels), folder / "out")
    found = [one for one in after.found(check) if (one["file"], one["where"]) == (str(place), f"frame {at}")]
    assert found, f"{check} says nothing of frame {at}, but {after.summary['findings']}"
    assert all(one[part] for one in found for part in ("what", "got", "expected", "remedy"))
    assert check in next(checks for _, where, checks in after.apart if where == f"frame {at}")
    assert after.summary["rows"]["in"] == len(rows)
    assert sum((Counter(before.rows) - Counter(after.rows)).values()) <= 1  # the row itself
    assert not Counter(after.rows) - Counter(before.rows)


def turns() -> list[Any]:
    """Each file with some of the faults."""
    taken = files(data(), "**/*.xyz")
    if taken[0].values[0] is None:
        return [pytest.param(None, "", None, marks=taken[0].marks, id=str(taken[0].id))]
    return [
        pytest.param(
            one.values[0], *FAULTS[which % len(FAULTS)], id=f"{one.id}-{FAULTS[which % len(FAULTS)][1].__name__}"
        )
        for number, one in enumerate(taken)
        for which in range(number * PER_FILE, (number + 1) * PER_FILE)
    ]


@pytest.mark.parametrize(("path", "check", "spoil"), turns())
def test_a_fault_is_found_in_whatever_file(path: Path, check: str, spoil: Spoil, tmp_path: Path) -> None:
    planted(path, check, spoil, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", files(data(), "**/*.xyz"))
@pytest.mark.parametrize(("check", "spoil"), FAULTS, ids=[one.__name__ for _, one in FAULTS])
def test_every_fault_is_found_in_every_file(path: Path, check: str, spoil: Spoil, tmp_path: Path) -> None:
    planted(path, check, spoil, tmp_path)
