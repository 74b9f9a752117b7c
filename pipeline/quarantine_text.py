"""Rows that were set apart, in words: tables for a terminal, and what follows from a decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forcefoundry.contract.quarantine import QuarantinedRow
    from forcefoundry.contract.reviews import Review, Reviews

MOST_ROWS = 50
"""Lines of a table, unless all are asked for."""

NOTHING = "Nothing was set apart by the last run."
UNDECIDED = "to be decided"

_MOST_BYTES, _MOST_LINES = 2000, 60


def rows(count: int) -> str:
    """A number of rows."""
    return f"{count} row" if count == 1 else f"{count} rows"


def table(found: Sequence[QuarantinedRow], reviews: Reviews, most: int | None) -> list[str]:
    """A line a row, and below how many there are by check and by decision."""
    if not found:
        return [NOTHING]
    lines = [("id", "file", "place", "checks", "decided", "why")]
    lines += [(row.id, row.file, row.where, ", ".join(row.checks), decided(row, reviews), _why(row)) for row in found]
    shown = lines[: None if most is None else most + 1]
    widths = [max(len(line[column]) for line in shown) for column in range(5)] + [0]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in shown]
    if len(shown) < len(lines):
        text.append(f"... and {len(lines) - len(shown)} more: --all shows them, --check NAME and --file NAME choose")
    checks = Counter(check for row in found for check in row.checks)
    text.append(f"{rows(len(found))}: {', '.join(f'{check} {n}' for check, n in checks.most_common())}")
    text.append("; ".join(f"{n} {how}" for how, n in Counter(decided(row, reviews) for row in found).most_common()))
    if any(decided(row, reviews) == UNDECIDED for row in found):
        text.append(
            "`quarantine show ID` shows one, `quarantine accept ID --why ...` lets it in, `reject` leaves it out"
        )
    return text


def old(reviews: Reviews, ids: Set[str]) -> list[str]:
    """Decisions that meet none of the rows with these ids."""
    entries = [entry for entry in reviews if entry.id not in ids]
    if not entries:
        return []
    head = f"{len(entries)} decisions of reviews.yaml meet no row of the last run"
    head = head if len(entries) > 1 else "1 decision of reviews.yaml meets no row of the last run"
    lines = [f"{entry.id}  {entry.verdict}ed  {entry.file}, {entry.where}  {entry.why}" for entry in entries]
    return [
        f"{head}: such a row has changed or is gone, or no check finds it any more (`undo` takes an entry out)",
        *lines,
    ]


def decided(row: QuarantinedRow, reviews: Reviews) -> str:
    """What people decided about a row, in a few words."""
    entry = reviews.of(row.id)
    if entry is None:
        if row.state != "quarantined":
            return f"no longer {row.state}, with the next run"
        return UNDECIDED if why_not(row) is None else "to be repaired"
    later = "" if row.state == f"{entry.verdict}ed" else ", with the next run"
    if entry.verdict == "reject" or not _left(row, reviews):
        return f"{entry.verdict}ed{later}"
    return f"accepted, but not for {', '.join(_left(row, reviews))}"


def whole(row: QuarantinedRow, reviews: Reviews) -> str:
    """All that is to be said of a row: where it came from, what is wrong, what was decided, and the row itself."""
    lines = [f"{row.id}   {row.file}, {row.where}", f"decided   {decided(row, reviews)}"]
    entry = reviews.of(row.id)
    if entry is not None:
        spite = f", in spite of {', '.join(entry.checks)}" if entry.checks else ""
        lines[1] += f"; {entry.verdict}ed by {entry.by} on {entry.date}{spite}: {entry.why}"
    lines += [f"{finding.check}: {finding.told()}" for finding in row.findings]
    if row.structure is not None:
        text = row.structure.rstrip("\n").split("\n")
        left = len(text) - _MOST_LINES
        text[_MOST_LINES:] = [f"... and {left} more lines: `export` writes all"] if left > 0 else []
        return "\n".join([*lines, "", *text])
    raw = row.raw or b""
    if not raw:
        return "\n".join([*lines, "", "its bytes are not known"])
    beyond = f", of which these are the first {_MOST_BYTES}" if len(raw) > _MOST_BYTES else ""
    return "\n".join([*lines, "", f"its bytes ({len(raw)} that are known{beyond}):", _as_text(raw[:_MOST_BYTES])])


def why_not(row: QuarantinedRow) -> str | None:
    """Why a row cannot be accepted, and what to do; None if it can."""
    from forcefoundry.contract.reviews import can_be_accepted

    for finding in row.findings:
        if not can_be_accepted(finding.check):
            found = f"{finding.what} is {finding.got}, expected {finding.expected}"
            return (
                f"{row.id} ({row.file}, {row.where}) cannot be accepted: {found}. Repair the file and run again, or "
                "reject the row."
            )
    return None


def consequences(row: QuarantinedRow, before: Review | None, reviews: Reviews) -> list[str]:
    """What is to be said of one row once it is decided about."""
    entry, lines = reviews.of(row.id), []
    if before is not None and entry is not None and before.verdict != entry.verdict:
        lines.append(f"{row.id} was {before.verdict}ed before, by {before.by} on {before.date}: {before.why}")
    if entry is not None and entry.verdict == "accept" and _left(row, reviews):
        left = ", ".join(_left(row, reviews))
        lines.append(f"{row.id} stays set apart for {left}: accept it in spite of that too, if it is to come in")
    return lines


def _left(row: QuarantinedRow, reviews: Reviews) -> list[str]:
    """The checks that still set a row apart."""
    return [check for check in row.checks if not reviews.accepted(row.id, check)]


def _why(row: QuarantinedRow) -> str:
    """The first finding in a line."""
    if not row.findings:
        return "rejected whatever is found" if row.state == "rejected" else ""
    first = row.findings[0]
    return " ".join(f"{first.what} is {first.got}, expected {first.expected}".split())


def _as_text(raw: bytes) -> str:
    """Bytes as a terminal can show them."""
    text = raw.decode("utf-8", errors="backslashreplace")
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
