"""The lines of extended XYZ text, of which some can be put back, and what a line may be by its looks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

COMMENT = re.compile(r"(?:^|[\s\"'])(?:Properties|Lattice)\s*=", re.IGNORECASE)
"""A comment that names Properties or Lattice."""


class Lines:
    """The lines of a file, of which some can be put back."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file = iter(file)
        self._back: list[str] = []  # the next line is the last
        self.passed = 0

    def one(self) -> str | None:
        line = self._back.pop() if self._back else next(self._file, None)
        self.passed += line is not None
        return line

    def some(self, count: int) -> list[str]:
        taken: list[str] = []
        while self._back and len(taken) < count:
            taken.append(self._back.pop())
        taken += islice(self._file, count - len(taken))
        self.passed += len(taken)
        return taken

    def push(self, lines: list[str]) -> None:
        self._back += reversed(lines)
        self.passed -= len(lines)

    def peek(self, count: int) -> list[str]:
        """The next lines, without passing them; fewer at the end of the file."""
        missing = count - len(self._back)
        if missing > 0:
            self._back[:0] = reversed(list(islice(self._file, missing)))
        return self._back[: -count - 1 : -1]


def count_of(line: str) -> int | None:
    """What ASE takes for a count; one below zero is none."""
    try:
        count = int(line)
    except ValueError:
        return None
    return count if count >= 0 else None


def begins(lines: list[str]) -> bool:
    """Whether there is a comment, or a damaged line of a count before one."""
    return any(COMMENT.search(line) for line in lines[:2])


def is_head(lines: list[str], after: Lines) -> bool:
    """Whether a frame begins here: a count, and a comment that names Properties or Lattice, or any before an atom."""
    if not lines or (count := count_of(lines[0])) is None:
        return False
    if len(lines) < 3:
        lines = lines + after.peek(3 - len(lines))
    if len(lines) < 2 or COMMENT.search(lines[1]):
        return len(lines) > 1
    return count > 0 and len(lines) > 2 and not looks_like_atom(lines[1]) and looks_like_atom(lines[2])


def looks_like_atom(line: str) -> bool:
    """Whether there is a symbol or number of an element and three numbers, the least that an atom has."""
    tokens = line.split()
    return len(tokens) >= 4 and (_is_element(tokens[0]) or tokens[0].isdigit()) and all(map(is_number, tokens[1:4]))


def may_be_atom(line: str) -> bool:
    """Whether this may be left of an atom after damage; a doubt is enough not to trust the count before it."""
    tokens = line.split()
    return bool(tokens) and (_is_element(tokens[0]) or any(map(is_number, tokens)))


def _is_element(token: str) -> bool:
    from ase.data import atomic_numbers

    return token.capitalize() in atomic_numbers


def is_number(token: str) -> bool:
    """Whether Python reads a number in it."""
    try:
        float(token)
    except ValueError:
        return False
    return True
