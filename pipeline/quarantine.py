"""`python -m pipeline quarantine WHAT`: looking at rows that were set apart, and deciding about them.

What is decided goes into reviews.yaml, which is in git; the quarantine itself is what the last run made, and is only
read here.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import quarantine_text as told
from pipeline.lifetime import one_run_at_a_time
from pipeline.steps.workspace import QUARANTINE, REVIEWS
from pipeline.values import did_you_mean, nearest

if TYPE_CHECKING:
    from forcefoundry.contract.quarantine import Quarantine, QuarantinedRow
    from forcefoundry.contract.reviews import Review, Reviews

WHAT = {
    "list": "say which rows were set apart by the last run, for what, and what is decided about them",
    "show": "all that is wrong with one row, and the row itself",
    "accept": "let rows in with the next run, although checks find them wrong",
    "reject": "leave rows out for good",
    "undo": "forget what was decided about rows",
    "export": "write rows into an extended XYZ file, to be looked at",
}


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What may follow `python -m pipeline quarantine`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="|".join(WHAT))
    made = {what: verbs.add_parser(what, help=said, description=said) for what, said in WHAT.items()}
    made["list"].add_argument("--check", metavar="NAME", help="only what this check found")
    made["list"].add_argument("--file", metavar="NAME", help="only rows of this file")
    made["list"].add_argument("--all", action="store_true", help=f"more than the first {told.MOST_ROWS}")
    made["show"].add_argument("id", metavar="ID", help="as `list` shows it; its beginning is enough")
    for verdict in ("accept", "reject"):
        made[verdict].add_argument("ids", nargs="*", metavar="ID", help="as `list` shows it; its beginning is enough")
        made[verdict].add_argument(
            "--why", required=True, metavar="TEXT", help="the reason, for those who read it later"
        )
        only = "only in spite of this check" if verdict == "accept" else "with --all: what this check found"
        made[verdict].add_argument("--check", metavar="NAME", help=only)
        made[verdict].add_argument("--all", action="store_true", help="all undecided rows that --check NAME found")
    made["undo"].add_argument("ids", nargs="+", metavar="ID", help="its beginning is enough")
    made["export"].add_argument("file", metavar="FILE.xyz")
    made["export"].add_argument("--check", metavar="NAME", help="only what this check found")
    return parser


def do(given: argparse.Namespace) -> int:
    """Do what was asked for and give the exit code."""
    from forcefoundry.contract.quarantine import Quarantine
    from forcefoundry.contract.reviews import Reviews

    if given.what == "undo":
        undo(given.ids)
        return 0
    with Quarantine.open(QUARANTINE) as quarantine:
        if given.what == "list":
            show_list(quarantine, given.check, given.file, given.all)
        elif given.what == "show":
            reviews = Reviews.read(REVIEWS)
            print("\n\n".join(told.whole(row, reviews) for row in _found(quarantine, given.id)))
        elif given.what == "export":
            export(quarantine, Path(given.file), given.check)
        else:
            decide(quarantine, given)
    return 0


def show_list(quarantine: Quarantine, check: str | None, file: str | None, whole: bool) -> None:
    """Print the table of rows, what there are by check and by decision, and decisions that meet no row."""
    from forcefoundry.contract.reviews import Reviews

    reviews = Reviews.read(REVIEWS)
    rows = _rows(quarantine, check, file)
    for line in told.table(rows, reviews, None if whole else told.MOST_ROWS):
        print(line)
    if check is None and file is None:
        for line in told.old(reviews, {row.id for row in rows}):
            print(line)


def decide(quarantine: Quarantine, given: argparse.Namespace) -> None:
    """Write down that rows are accepted or rejected."""
    from forcefoundry.contract.reviews import Review, Reviews

    why, today = given.why.strip(), datetime.date.today().isoformat()
    if not why:
        raise ValueError("--why is empty: say why, for those who read reviews.yaml later.")
    with one_run_at_a_time():  # a run reads reviews.yaml until it ends
        reviews = Reviews.read(REVIEWS)
        rows = _chosen(quarantine, given, reviews)
        if not rows:
            return
        before = [reviews.of(row.id) for row in rows]
        by = _who()
        for row in rows:
            checks = () if given.what == "reject" else (given.check,) if given.check else row.checks
            reviews.add(Review(row.id, given.what, why, by, today, checks, row.file, row.where))
        reviews.write(REVIEWS)
    for row, known in zip(rows, before, strict=True):
        for line in told.consequences(row, known, reviews):
            print(line)
    print(f"{told.rows(len(rows))} {given.what}ed in {REVIEWS}: commit it. It takes effect with the next run.")


def undo(ids: Sequence[str]) -> None:
    """Take entries out of reviews.yaml."""
    from forcefoundry.contract.reviews import Reviews

    with one_run_at_a_time():
        reviews = Reviews.read(REVIEWS)
        entries = list(dict.fromkeys(_of_reviews(reviews, word) for word in ids))
        for entry in entries:
            reviews.remove(entry.id)
        reviews.write(REVIEWS)
    for entry in entries:
        print(f"{entry.id} is no longer {entry.verdict}ed: it was by {entry.by} on {entry.date} ({entry.why})")
    print(f"Commit {REVIEWS}: it takes effect with the next run.")


def export(quarantine: Quarantine, path: Path, check: str | None) -> None:
    """Write all rows that could be read into one file."""
    from forcefoundry.files import written_whole

    if path.suffix not in (".xyz", ".extxyz"):
        raise ValueError(f"{path} would be extended XYZ: give it a name that ends in .xyz or .extxyz.")
    if path.exists():
        raise ValueError(f"{path} is there already: give another name, or remove it first.")
    _check_check(quarantine, check)
    written = left = 0
    with written_whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for row in quarantine:
            if check is None or check in row.checks:
                text = row.extxyz()
                file.write(text or "")
                written, left = written + (text is not None), left + (text is None)
    beside = f"; left out, as it could not be read: {told.rows(left)} (`show` prints the bytes)" if left else ""
    print(f"{told.rows(written)} in {path} (`ase gui {path}` shows them){beside}")


def _chosen(quarantine: Quarantine, given: argparse.Namespace, reviews: Reviews) -> list[QuarantinedRow]:
    """The rows that a decision is about."""
    if given.all:
        if given.ids or not given.check:
            raise ValueError("--all goes with --check NAME and without an ID.")
        return _undecided(quarantine, given.what, given.check, reviews)
    if not given.ids:
        raise ValueError(f"Say which rows to {given.what}: an ID or more, or --all --check NAME.")
    if given.check and given.what == "reject":
        raise ValueError("A row is rejected as a whole: leave out --check NAME, or add --all for all that it found.")
    _check_check(quarantine, given.check)
    rows = list(dict.fromkeys(row for word in given.ids for row in _found(quarantine, word)))
    for row in rows:
        if given.check and given.check not in row.checks:
            raise ValueError(f"{row.id} was not found by {given.check} but by {', '.join(row.checks)}.")
        if given.what == "accept" and (reason := told.why_not(row)):
            raise ValueError(reason)
        if given.what == "accept" and not row.checks:
            raise ValueError(f"{row.id} is left out only because it was rejected: `undo {row.id}` lets it in.")
    return rows


def _undecided(quarantine: Quarantine, what: str, check: str, reviews: Reviews) -> list[QuarantinedRow]:
    _check_check(quarantine, check)
    rows = [
        row
        for row in quarantine.listed()
        if check in row.checks
        and row.state == "quarantined"
        and not reviews.accepted(row.id, check)
        and not reviews.rejected(row.id)
    ]
    if not rows:
        print(f"{check} found no row that is not decided about")
    beyond = [row for row in rows if what == "accept" and told.why_not(row)]
    if beyond:
        print(f"passed over, as they cannot be let in: {', '.join(row.id for row in beyond)}")
    return [row for row in rows if what != "accept" or not told.why_not(row)]


def _rows(quarantine: Quarantine, check: str | None, file: str | None) -> list[QuarantinedRow]:
    """The rows of a check and of a file; an unknown one of either is told with the nearest."""
    _check_check(quarantine, check)
    files = list(dict.fromkeys(row.file for row in quarantine.listed()))
    wanted = [name for name in files if file in (None, name) or name.endswith(f"/{file}")]
    if file is not None and not wanted:
        raise ValueError(f"No row of {file!r} was set apart. {did_you_mean(file, files)}" if files else told.NOTHING)
    return [row for row in quarantine.listed() if row.file in wanted and (check is None or check in row.checks)]


def _check_check(quarantine: Quarantine, check: str | None) -> None:
    if check is None:
        return
    found = list(dict.fromkeys(name for row in quarantine.listed() for name in row.checks))
    if check not in found:
        hint = did_you_mean(check, found) if found else told.NOTHING
        raise ValueError(f"No row was set apart for {check!r}. {hint}")


def _found(quarantine: Quarantine, prefix: str) -> list[QuarantinedRow]:
    """The rows of one id, given by its beginning."""
    rows = quarantine.find(prefix) if prefix else []
    if not rows:
        raise ValueError(_unknown(prefix, "No row was set apart", [row.id for row in quarantine.listed()]))
    _only_one(prefix, [row.id for row in rows])
    return rows


def _of_reviews(reviews: Reviews, prefix: str) -> Review:
    entries = [entry for entry in reviews if prefix and entry.id.startswith(prefix.lower())]
    if not entries:
        raise ValueError(_unknown(prefix, f"{REVIEWS} decides about no row", [entry.id for entry in reviews]))
    _only_one(prefix, [entry.id for entry in entries])
    return entries[0]


def _unknown(prefix: str, what: str, ids: Sequence[str]) -> str:
    near = nearest(prefix, ids)
    hint = f"Did you mean {near}?" if near else "`python -m pipeline quarantine list` shows the ids."
    return f"{what} whose id begins with {prefix!r}. {hint}"


def _only_one(prefix: str, ids: Sequence[str]) -> None:
    different = list(dict.fromkeys(ids))
    if len(different) > 1:
        some = ", ".join(different[:5]) + (", ..." if len(different) > 5 else "")
        raise ValueError(f"{len(different)} ids begin with {prefix!r}: {some}. Give more of the one that you mean.")


def _who() -> str:
    """Who git says that one is, or else the system."""
    with contextlib.suppress(OSError):
        found = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
        if found.stdout.strip():
            return found.stdout.strip()
    return os.environ.get("USER") or "unknown"
