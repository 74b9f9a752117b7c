"""What a check has to say: which row, what it got, what it expected, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

POLICIES = ("error", "quarantine", "warn", "off")
"""What follows from a finding: the run ends, the row is set apart, it is told, or the check is not made at all."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks so.

    Attributes:
        check: the name of the check, as in conf/contract.
        row: the number of the row among all that came in, or None where it is about the set as a whole.
        what: the quantity, with its atom where it has one: "the force on atom 3".
        got: its value with its unit: "212.4 eV/Å".
        expected: what would have been right, with the threshold: "at most 31.0 eV/Å (10 spreads of 'Bulk')".
        remedy: what to do, as a sentence: "Look at the row: accept it, repair it or leave it out."
        other: the number of another row that `got` or `expected` speaks of as OTHER: where it stands is put there.
    """

    OTHER: ClassVar[str] = "{the other row}"

    check: str
    row: int | None
    what: str
    got: str
    expected: str
    remedy: str
    other: int | None = None

    def told(self, origin: str = "") -> str:
        """One line: where, what, got, expected, what to do."""
        return f"{origin + ': ' if origin else ''}{self.what} is {self.got}, expected {self.expected}. {self.remedy}"


@dataclass(frozen=True)
class Origins:
    """Where rows come from, kept so that a million of them take little room.

    Attributes:
        files: their names, in order.
        file: (n,) the number of each row's file.
        where: (n,) where in the file each row stands, as its reader says: "frame 17", "row 5".
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    where: Sequence[str]

    def __len__(self) -> int:
        return len(self.file)

    def of(self, row: int | None) -> str:
        """The file and the place in it, as one text; empty where a finding is about no row."""
        return "" if row is None else f"{self.files[self.file[row]]}, {self.where[row]}"


def placed(found: Finding, origins: Origins) -> Finding:
    """A finding that speaks of another row by the file and place of that row."""
    if found.other is None:
        return found
    place = origins.of(found.other)
    return replace(
        found,
        got=found.got.replace(Finding.OTHER, place),
        expected=found.expected.replace(Finding.OTHER, place),
        other=None,
    )


@dataclass(frozen=True)
class Setting:
    """What the configuration says of one check: its policy, and its thresholds by name."""

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)
