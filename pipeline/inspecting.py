"""`python -m pipeline inspect FILE`: a look at data before anything is configured, and a configuration for them."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline import proposing
from pipeline.inspection_text import text
from pipeline.steps.workspace import progress_bar
from pipeline.values import did_you_mean

MOST_ROWS, MOST_ATOMS = 20_000, 500_000
"""After how many of either reading ends, unless more rows are asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What may follow `python -m pipeline inspect`."""
    parser.add_argument("file", metavar="FILE", help="a file or folder of structures, or postgresql://...")
    parser.add_argument("keys", nargs="*", metavar="PROPERTY=KEY", help="the key of the rows to read a property from")
    parser.add_argument("--format", help="how to read it, if that cannot be told")
    parser.add_argument("--rows", type=int, metavar="N", help=f"look at the first N rows (default {MOST_ROWS})")
    parser.add_argument("--write", metavar="NAME", help="save the proposal as conf/database/NAME.yaml, or under a path")
    parser.add_argument("--force", action="store_true", help="even if that file is there")
    return parser


def do(given: argparse.Namespace) -> int:
    """Look, tell, propose and, if asked, save."""
    from forcefoundry.contract.inspection import inspect
    from forcefoundry.contract.sniffing import guess_format
    from forcefoundry.databases.formats import place

    if given.rows is not None and given.rows < 1:
        raise ValueError(f"--rows is {given.rows}: give a number of rows above 0.")
    form = proposing.form()
    path = None if given.write is None else proposing.place_of(given.write, given.force)  # before a long look
    where = place(str(Path(given.file).expanduser()) if "://" not in given.file else given.file)
    name, why = (given.format, "as you say") if given.format else guess_format(where)
    found = inspect(
        where,
        name,
        _asked(given.keys),
        given.rows or MOST_ROWS,
        MOST_ATOMS if given.rows is None else 10**12,
        lambda rows: progress_bar(rows, "inspect", "rows"),
    )
    print(text(found, why))
    proposed = proposing.proposal(form, found, str(where))
    print(f"\nproposed\n\n{proposed}")
    if path is None:
        then = "`python -m pipeline params database=NAME` and `python -m pipeline load`"
        print(f"Save it with --write NAME; then {then}.")
        return 0
    proposing.write(proposed, path)
    print(f"{path} written: {_next(path)}")
    return 0


def _next(path: Path) -> str:
    if path.parent == proposing.FOLDER:
        return f"`python -m pipeline params database={path.stem}`, then `python -m pipeline load`."
    if path.parent.name == "database":
        own = path.parent.parent
        return f"`python -m pipeline params --config-dir {own} database={path.stem}`, then `python -m pipeline load`."
    return "put it into a folder named database, and give that folder's parent as --config-dir."


def _asked(words: list[str]) -> dict[str, str]:
    from forcefoundry.contract.inspection import PROPERTIES

    asked = {}
    for word in words:
        name, sign, key = word.partition("=")
        if not sign or not key:
            raise ValueError(f"{word!r} is not PROPERTY=KEY, such as energy=my_energy.")
        if name not in PROPERTIES:
            raise ValueError(f"{name!r} is no property of rows. {did_you_mean(name, PROPERTIES)}")
        asked[name] = key
    return asked
