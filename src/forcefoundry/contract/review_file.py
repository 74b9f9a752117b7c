"""How a file of reviews is laid out: entries as text, and text as entries, with the line of whatever is wrong."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.row_ids import LENGTH

HEAD = """\
# What people decided about rows that the door set apart: a line each, sorted by id. The verbs
# `python -m pipeline quarantine accept|reject|undo` write it; commit it, and the next run follows it.
"""

_VERDICTS = ("accept", "reject")
_FIELDS = ("id", "verdict", "checks", "file", "where", "why", "by", "date")
_OPTIONAL = ("checks", "file", "where")
_NEEDED = ("id", "verdict", "why", "by", "date")
_ONE_LINE: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": 10**9}


@dataclass(frozen=True)
class Review:
    """One decision.

    Attributes:
        id: of the row's content, as `row_id` gives it.
        verdict: accept or reject.
        why: in the words of who decided.
        by, date: who and when (YYYY-MM-DD).
        checks: what the row is accepted in spite of; none for a rejected one.
        file, where: where it stood when it was decided, for people.
    """

    id: str
    verdict: str
    why: str
    by: str
    date: str
    checks: tuple[str, ...] = ()
    file: str = ""
    where: str = ""


def can_be_accepted(check: str) -> bool:
    """Whether a row can come in although this check finds it wrong; what cannot be packed, for one, cannot."""
    known = known_checks().get(check)
    return known is None or "warn" in known.policies


def written(reviews: Iterable[Review]) -> str:
    """The text of a file.

    Each entry is one line: git merges what two people decided line by line (`merge=union` in .gitattributes), and of
    entries that take several lines it would mix those that look alike.
    """
    lines = [yaml.safe_dump(_plain(one), **_ONE_LINE) for one in reviews]
    return HEAD + "".join(f"- {line}" for line in lines)


def _plain(entry: Review) -> dict[str, Any]:
    values: dict[str, Any] = {name: _one_line(getattr(entry, name)) for name in _FIELDS}
    values["date"] = datetime.date.fromisoformat(entry.date)
    return {name: value for name, value in values.items() if value or name not in _OPTIONAL}


def _one_line(value: str | tuple[str, ...]) -> str | list[str]:
    """A text without line breaks, and without the bytes that names of files may have and texts may not."""
    if isinstance(value, tuple):
        return list(value)
    return " ".join(value.encode("utf-8", errors="backslashreplace").decode().split())


def entries(path: str, text: str) -> Sequence[tuple[int, Review]]:
    """The entries of a file's text and the lines where they begin.

    Raises:
        ValueError: for what is malformed, with its line and what to do; `path` is what it is called then.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            raise ValueError(
                f"{path}, line {number}: git left a merge undone here ({line.strip()}). "
                "Take out its marks, and keep of both sides what holds."
            )
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return []
        if not isinstance(root, yaml.SequenceNode):
            raise ValueError(
                f"{path}, line {root.start_mark.line + 1}: expected a list of entries, "
                "such as `- {id: ..., verdict: accept, ...}`."
            )
        return [(node.start_mark.line + 1, _entry(path, node, loader)) for node in root.value]
    except yaml.YAMLError as error:
        # Where it began: what is not closed in one entry is noticed in the next.
        mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
        at = f"{path}, line {mark.line + 1}" if mark is not None else path
        raise ValueError(
            f"{at}: it is no YAML ({getattr(error, 'problem', None) or error}). Repair the line."
        ) from None
    finally:
        loader.dispose()


def _entry(path: str, node: Any, loader: Any) -> Review:
    at = f"{path}, line {node.start_mark.line + 1}"
    try:
        held = loader.construct_object(node, deep=True)
    except ValueError as error:  # the 45th of May
        raise ValueError(f"{at}: an entry holds what is no date ({error}). Repair it.") from None
    if not isinstance(held, dict):
        raise ValueError(f"{at}: an entry is {held!r}, expected one with {', '.join(_FIELDS)}.")
    if len(node.value) != len(held):
        raise ValueError(
            f"{at}: an entry says one thing twice; it has {', '.join(key.value for key, _ in node.value)}."
        )
    for name in held:
        if name not in _FIELDS:
            near = get_close_matches(str(name), _FIELDS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(_FIELDS)}."
            raise ValueError(f"{at}: an entry has {name!r}, which is not known. {hint}")
    for name in _FIELDS:
        value = held.get(name)
        if isinstance(value, datetime.date) and name == "date":
            held[name] = value.isoformat()
        elif value in (None, "") and name not in _OPTIONAL:
            raise ValueError(f"{at}: an entry lacks {name}; it needs {', '.join(_NEEDED)}.")
        elif value is not None and name != "checks" and not isinstance(value, str):
            raise ValueError(f"{at}: {name} is {value!r}, expected a text: put it in quotes.")
    return _checked(at, held)


def _checked(at: str, held: dict[str, Any]) -> Review:
    row_id, verdict, checks = held["id"], held["verdict"], held.get("checks") or []
    if len(row_id) != LENGTH or set(row_id) - set("0123456789abcdef"):
        raise ValueError(f"{at}: id is {row_id!r}, expected {LENGTH} digits and letters from a to f.")
    if verdict not in _VERDICTS:
        raise ValueError(f"{at}: verdict is {verdict!r}, expected accept or reject.")
    try:
        datetime.date.fromisoformat(held["date"])
    except ValueError:
        raise ValueError(f"{at}: date is {held['date']!r}, expected one such as 2026-05-31.") from None
    if not isinstance(checks, list) or not all(isinstance(one, str) for one in checks):
        raise ValueError(
            f"{at}: checks is {checks!r}, expected a list of checks, such as [{next(iter(known_checks()))}]."
        )
    if (verdict == "accept") != bool(checks):
        expected = "the checks it is accepted in spite of" if verdict == "accept" else "none, since it is rejected"
        raise ValueError(f"{at}: checks is {checks!r}, expected {expected}.")
    for check in checks:
        if check not in known_checks():
            near = get_close_matches(check, known_checks(), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known_checks())}."
            raise ValueError(f"{at}: checks names {check!r}, which is no check. {hint}")
        if not can_be_accepted(check):
            raise ValueError(
                f"{at}: a row is accepted in spite of {check}, but no such row can be let in. Repair it in its file "
                "and take the entry out, or make it a rejection."
            )
    given = {name: value for name, value in held.items() if value is not None}
    return Review(**{**given, "checks": tuple(checks)})
