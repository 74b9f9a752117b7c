"""Extended XYZ text cut into frames: a line with the count, a comment, the atoms, and cell vectors at times.

A frame begins where a count is expected; where there is none, or where a frame turns out to be no good, the next one
is looked for by what stands in its first lines. What lies between is told, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from forcefoundry.databases.formats._comment import Comment
from forcefoundry.databases.formats._lines import (
    COMMENT,
    Lines,
    begins,
    count_of,
    is_head,
    is_number,
    looks_like_atom,
    may_be_atom,
)
from forcefoundry.databases.formats._plain import plain_frame
from forcefoundry.databases.formats._told import words
from forcefoundry.databases.formats._unreadable import KEPT, Unreadable

MANY = 1 << 16
"""Lines after which a frame is searched for the beginning of another: a wrong count may ask for the whole file."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?$")
_COUNT = re.compile(r"\s*\+?\d+\s*$")


def frames(file: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Pairs of where a frame stands ("frame 0") and its Atoms, or Unreadable; blank lines between frames are none."""
    lines = Lines(file)
    number = 0
    reader = _Reader()
    while True:
        at = lines.passed
        head = lines.one()
        if head is None:
            return
        if not head.strip():
            continue
        if (count := count_of(head)) is None:
            held = _Skipped([head])
            _skip(lines, held)
            whole = held.holds_a_frame
            reason = f"line {at + 1} is {_short(head)}, where a frame's number of atoms was expected"
            yield (f"frame {number}" if whole else f"before frame {number}, line {at + 1}"), held.told(reason)
            number += whole
            continue
        yield f"frame {number}", _frame(lines, head, count, at, reader)
        number += 1


def _frame(lines: Lines, head: str, count: int, at: int, reader: _Reader) -> Any:
    body = _body(lines, count)
    follow = lines.peek(2)
    vectors: list[str] = []
    while follow and follow[0].lstrip().startswith("VEC"):
        vectors += lines.some(1)
        follow = lines.peek(2)
    try:
        atoms = reader.read(body, count, vectors)
        _check_end(lines, body, vectors)
    except Exception as error:  # ASE's reader raises whatever it stumbles over: index, key and value errors among them
        reason = words(error) if isinstance(error, _FrameError) else _why(body, count, error)
        return _cut_out(lines, [head, *body, *vectors], at, f"{reason} (the frame begins at line {at + 1})")
    if follow and follow[0].strip() and count_of(follow[0]) is None and may_be_atom(follow[0]) and not begins(follow):
        reason = (
            f"line {at + 1} says {count} atoms, but line {lines.passed + 1} follows them, {_short(follow[0])} (the "
            f"frame begins at line {at + 1})"
        )
        return _cut_out(lines, [head, *body, *vectors], at, reason)
    if count == 0 and is_head([body[0], *follow], lines):  # a 0 from elsewhere, before a frame
        return _cut_out(lines, [head, *body], at, "")
    return atoms


def _cut_out(lines: Lines, held: list[str], at: int, reason: str) -> Unreadable:
    # A frame that is no good may have swallowed the beginning of others, or left some of its own lines behind.
    for own in range(1, len(held)):
        if is_head(held[own : own + 3], lines):
            lines.push(held[own:])
            reason = f"line {at + 1} says {_short(held[0])} atoms, but another frame begins at line {at + own + 1}"
            return _Skipped(held[:own]).told(reason)
    skipped = _Skipped(held)
    _skip(lines, skipped)
    return skipped.told(reason)


def _skip(lines: Lines, held: _Skipped) -> None:
    # To the next line that begins a frame.
    while True:
        follow = lines.peek(3)
        if not follow or is_head(follow, lines):
            return
        line = lines.one()
        assert line is not None
        held.add(line)


def _body(lines: Lines, count: int) -> list[str]:
    # The comment and the atoms; up to the beginning of another frame where there are very many.
    body = lines.some(min(count + 1, MANY))
    while len(body) >= MANY and len(body) < count + 1:
        if any(
            _COUNT.match(body[at]) and is_head(body[at : at + 3], lines) for at in range(len(body) - MANY, len(body))
        ):
            return body
        more = lines.some(min(count + 1 - len(body), MANY))
        if not more:
            return body
        body += more
    return body


class _FrameError(ValueError):
    """What was found wrong here, in words of our own."""


class _Reader:
    """Reads frames of one file; it remembers whether they name their columns."""

    def __init__(self) -> None:
        self.named = False

    def read(self, body: list[str], count: int, vectors: list[str]) -> Any:
        from ase.io.extxyz import _read_xyz_frame

        if len(body) < count + 1:
            raise _FrameError(f"the file ends after {max(0, len(body) - 1)} of {count} atoms")
        if len(vectors) > 3:
            raise _FrameError(f"{len(vectors)} cell vectors follow the atoms, expected 3 at most")
        text = "".join(body[1:])
        if not (text.isascii() and body[0].isascii()):
            _check_text(body[0] + text)
        elif not vectors:
            try:
                atoms, named = plain_frame(body, text)
            except Exception:  # ASE's reader takes it, or tells what is wrong
                pass
            else:
                self.named = self.named or named
                return atoms
        comment = Comment()
        atoms = _read_xyz_frame(iter(body + vectors), count, comment, len(vectors))
        self._check_columns(body, count, comment.columns, text)
        return atoms

    def _check_columns(self, body: list[str], count: int, columns: int | None, atoms: str) -> None:
        # ASE takes the first columns and leaves out what stands behind them: a number that fell apart moves them all.
        if columns is None and not self.named:
            return
        expected = 4 if columns is None else columns
        found = len(atoms.split())
        if found != expected * count:
            if columns is None:
                raise _FrameError(
                    f"its comment names no Properties, as the frames before it do, and its {count} atoms have {found} "
                    f"numbers and symbols, expected {expected * count}"
                )
            raise _FrameError(_columns_told(body, expected))
        if "_" in atoms:  # Python reads 1_5 as 15
            wrong = next((token for token in atoms.split() if "_" in token and is_number(token)), None)
            if wrong is not None:
                raise _FrameError(f"{wrong!r} is no number")
        self.named = self.named or columns is not None


class _Skipped:
    """Lines that are no good: the first of them, and how many there are."""

    def __init__(self, lines: list[str]) -> None:
        self._kept: list[str] = []
        self._size = self._lines = 0
        self.holds_a_frame = False
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        self._lines += 1
        if self._size < KEPT:
            self._kept.append(line)
            self._size += len(line)
        self.holds_a_frame = self.holds_a_frame or bool(COMMENT.search(line)) or looks_like_atom(line)

    def told(self, reason: str) -> Unreadable:
        return Unreadable(f"{reason}; {self._lines} lines", "".join(self._kept).encode("utf-8", "surrogateescape"))


def _check_text(text: str) -> None:
    for mark in text:
        if "\udc80" <= mark <= "\udcff":
            raise _FrameError(f"it holds the byte 0x{ord(mark) - 0xDC00:02x}, which is no UTF-8")


def _check_end(lines: Lines, body: list[str], vectors: list[str]) -> None:
    # A file that was cut short within its last number has a wrong number there. Where the numbers have as many
    # decimals each, one that was cut has fewer.
    *others, last = [*body, *vectors]
    if last.endswith(("\n", "\r")):
        return
    tokens = last.split()
    beside = [line.split()[-1] for line in others[1:] if line.split()] or tokens[1:-1]
    decimals = {_decimals(token) for token in beside}
    if not others or len(decimals) != 1 or not tokens or decimals != {_decimals(tokens[-1])} or None in decimals:
        raise _FrameError(
            f"the file ends within a line, {_short(last)}: it may have been cut short there. If it is whole, end the "
            "line"
        )


def _decimals(token: str) -> int | None:
    return len(token.partition(".")[2]) if "." in token and _NUMBER.match(token) else None


def _why(body: list[str], count: int, error: Exception) -> str:
    # ASE says neither which atom nor how many columns there are.
    comment = Comment()
    try:
        comment(body[0].strip())
    except Exception:
        return f"its comment cannot be read ({words(error)})"
    told = _columns_told(body, comment.columns or 4, fewer=True)
    return told or words(error)


def _columns_told(body: list[str], expected: int, fewer: bool = False) -> str:
    for at, line in enumerate(body[1:]):
        found = len(line.split())
        if found < expected or (found > expected and not fewer):
            return f"atom {at} has {found} columns, expected {expected}: {_short(line)}"
    return "" if fewer else f"its atoms have other columns than the {expected} that Properties names"


def _short(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 60 else f"{line[:57]}...")
