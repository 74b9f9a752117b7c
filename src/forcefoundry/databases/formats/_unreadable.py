"""A row that cannot be read, in the place of its structure."""

from __future__ import annotations

from dataclasses import dataclass

from forcefoundry.databases.formats._told import words

KEPT = 1 << 16
"""Bytes that are kept of such a row."""


@dataclass(frozen=True)
class Unreadable:
    """What stands where a row cannot be read.

    `reason` says why, in words and without the file's name; `raw` holds the row's bytes as far as they are known, its
    first 64 kB.
    """

    reason: str
    raw: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", bytes(self.raw[:KEPT]))

    @classmethod
    def because(cls, error: BaseException, raw: bytes = b"") -> Unreadable:
        """Told by what a library raised."""
        return cls(words(error), raw)
