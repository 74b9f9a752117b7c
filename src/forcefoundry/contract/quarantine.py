"""The rows that were set apart: an SQLite file of their own, with what is wrong with each and where it came from.

`SCHEMA` says what stands in it; any program that reads SQLite can read it. What people decided about the rows is not
here but in the reviews, since this file is made anew by every run.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from forcefoundry.contract.findings import Finding
from forcefoundry.contract.row_ids import copies_apart, row_id, row_ids
from forcefoundry.contract.row_text import Content, row_text, with_info
from forcefoundry.files import written_whole

__all__ = ["Quarantine", "QuarantineWriter", "QuarantinedRow", "accounting", "copies_apart", "row_id", "row_ids"]

VERSION = 1
"""Of the schema; stands in the file as SQLite's user_version."""

SCHEMA = """
CREATE TABLE rows (
    number    INTEGER PRIMARY KEY, -- 1, 2, ... in the order in which the rows came in
    id        TEXT NOT NULL,       -- what `row_id` gives: the name of the content
    file      TEXT NOT NULL,       -- the file that the row came from
    place     TEXT NOT NULL,       -- where in that file: "frame 17", "row 5"
    state     TEXT NOT NULL,       -- quarantined; rejected or accepted where a review says so
    reasons   TEXT NOT NULL,       -- JSON: a list of {"check", "what", "got", "expected", "remedy"}
    structure TEXT,                -- the structure and its labels as extended XYZ, each float with all its digits
    raw       BLOB                 -- in place of it the row's bytes, as far as they are known, if it cannot be read
);
CREATE INDEX rows_by_id ON rows (id);
"""

_KEPT, _CONTENT = "id, file, place, state, reasons", "structure, raw"

STATES = ("quarantined", "rejected", "accepted")


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that checks had something to say of.

    Attributes:
        id: of its content.
        file, where: where it came from.
        findings: what was found; their `row` is None.
        state: quarantined (set apart), rejected (left out for good) or accepted (among the structures all the same).
        structure: the row as extended XYZ, or None.
        raw: the bytes of one that cannot be read, or None.
    """

    id: str
    file: str
    where: str
    findings: tuple[Finding, ...]
    state: str = "quarantined"
    structure: str | None = None
    raw: bytes | None = None

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of the checks that found something, each once."""
        return tuple(dict.fromkeys(finding.check for finding in self.findings))

    def extxyz(self) -> str | None:
        """The row as extended XYZ with its id, origin and checks in the comment; None for one that cannot be read."""
        if self.structure is None:
            return None
        origin = f"{self.file}, {self.where}"
        info = {"quarantine_id": self.id, "quarantine_origin": origin, "quarantine_checks": ",".join(self.checks)}
        return with_info(self.structure, info)


class QuarantineWriter:
    """What `Quarantine.create` gives: takes rows in, one after another."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def add(
        self,
        id: str,
        file: str,
        where: str,
        findings: Sequence[Finding],
        content: Content | str,
        state: str = "quarantined",
    ) -> None:
        """Take a row in.

        Args:
            id: what `row_id` or `row_ids` gives.
            file, where: its file, and the place in it as its reader says: "frame 17".
            findings: what sets this row apart, or would if no review accepted it; not what is only warned of.
            content: the columns of this one structure (texts beside them, such as config_type, go along), ASE Atoms,
                what `row_text` made of either, or the bytes of a row that cannot be read.
            state: `quarantined`; `rejected` if a review rejects it; `accepted` if it comes in since a review accepts
                all that was found. All three are to be added: they are listed, and reviews that meet none are old.
        """
        if state not in STATES:
            raise ValueError(f"The state of a row is {state!r}, expected one of {', '.join(STATES)}.")
        reasons = [
            {name: value for name, value in asdict(one).items() if name not in ("row", "other")} for one in findings
        ]
        if isinstance(content, bytes | str):
            text, raw = (content, None) if isinstance(content, str) else (None, content)
        else:
            text, raw = row_text(content), None
        values = (id, _text(file), _text(where), state, json.dumps(reasons), text, raw)
        self._connection.execute(
            "INSERT INTO rows (id, file, place, state, reasons, structure, raw) VALUES (?, ?, ?, ?, ?, ?, ?)", values
        )


class Quarantine:
    """A quarantine that a run left. Iterating gives its rows one after another, as `QuarantinedRow`."""

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self.path = path
        self._connection = connection

    @staticmethod
    @contextmanager
    def create(path: Path | str) -> Iterator[QuarantineWriter]:
        """Write a quarantine anew: it is there, whole, once the block ends, and not at all if the block raises.

        A full disk is told as `DiskFullError`.
        """
        with written_whole(path) as draft:
            connection = sqlite3.connect(draft)
            try:
                # A draft that is not finished is thrown away: nothing has to be undone or to survive.
                connection.executescript(
                    f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA user_version = {VERSION}; {SCHEMA}"
                )
                yield QuarantineWriter(connection)
                connection.commit()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                    raise OSError(errno.ENOSPC, str(error)) from error
                raise
            finally:
                connection.close()

    @classmethod
    @contextmanager
    def open(cls, path: Path | str) -> Iterator[Quarantine]:
        """Read a quarantine.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is none, or of another version.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no quarantine at {path} yet: run `python -m pipeline load` first.")
        with path.open("rb"):  # what the system refuses is told as such, and not as SQLite would
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            try:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                connection.execute(f"SELECT number, {_KEPT}, {_CONTENT} FROM rows LIMIT 0")
            except sqlite3.DatabaseError as error:
                raise ValueError(f"{path} is no quarantine ({error}). Run `python -m pipeline load` again.") from None
            if version != VERSION:
                raise ValueError(
                    f"{path} is a quarantine of version {version}, expected {VERSION}. "
                    "Run `python -m pipeline load` again."
                )
            yield cls(path, connection)
        finally:
            connection.close()

    def __iter__(self) -> Iterator[QuarantinedRow]:
        return self._rows(_CONTENT)

    def listed(self) -> Iterator[QuarantinedRow]:
        """All rows without their structures and bytes: so many of them fit in memory."""
        return self._rows("NULL, NULL")

    def find(self, prefix: str) -> list[QuarantinedRow]:
        """The rows whose ids begin so, in their order; none, one or several."""
        return list(self._rows(_CONTENT, "WHERE substr(id, 1, ?) = ?", len(prefix), prefix.lower()))

    def counts(self) -> dict[str, int]:
        """How many rows there are of each state."""
        found = dict(self._connection.execute("SELECT state, count(*) FROM rows GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def _rows(self, content: str, where: str = "", *values: object) -> Iterator[QuarantinedRow]:
        asked = f"SELECT {_KEPT}, {content} FROM rows {where} ORDER BY number"
        try:
            for row_id, file, place, state, reasons, structure, raw in self._connection.execute(asked, values):
                findings = tuple(Finding(row=None, **one) for one in json.loads(reasons))
                yield QuarantinedRow(row_id, file, place, findings, state, structure, raw)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is damaged ({error}). Run `python -m pipeline load` again.") from None


def accounting(kept: int, quarantined: int, rejected: int) -> str:
    """Where all rows are that came in: `structures in 1 160 = 1 157 kept + 2 quarantined + 1 rejected`."""
    total = kept + quarantined + rejected
    if not total:
        return "structures in 0: the files have no rows"
    parts = {"kept": kept, "quarantined": quarantined, "rejected": rejected}
    if kept == total:
        return f"structures in {_count(total)} = {_count(kept)} kept, none set apart"
    told = " + ".join(f"{_count(n)} {name}" for name, n in parts.items() if n or name == "kept")
    return f"structures in {_count(total)} = {told}"


def _count(number: int) -> str:
    # Thousands are set apart by a space, as the field writes them.
    return f"{number:,}".replace(",", " ")


def _text(text: str) -> str:
    """Names of files may hold bytes that are no text."""
    return text.encode("utf-8", errors="backslashreplace").decode()
