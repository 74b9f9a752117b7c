"""A look at a file before anything is configured: what it holds, what it would be read as, and what looks wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import Axis, column
from forcefoundry.contract.agreement import work_factor
from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.found_keys import FoundKey, FoundKeys
from forcefoundry.contract.guessing import (
    Guess,
    guess_dipole,
    guess_energy,
    guess_forces,
    guess_length,
    guess_stress,
    proposed,
)
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.measuring import measure
from forcefoundry.contract.near import near_duplicates
from forcefoundry.databases.blocks import Asked, Block, Candidate, blocks
from forcefoundry.databases.formats import Address, Unreadable, read_rows
from forcefoundry.databases.labels import Choice, choose_key
from forcefoundry.databases.mapped import PackedColumns, structures_of
from forcefoundry.databases.properties import added
from forcefoundry.databases.units import Declared, declared

PROPERTIES = ("energy", "forces", "stress", "charge", "spin", "charges", "dipole", "weight")
"""What is looked for in rows, in the order in which it is shown."""

Columns = Mapping[str, NDArray[Any]]
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Inspection:
    """What a look at a file found.

    Attributes:
        place, format: what was read, and how.
        n_rows: the rows that were read, wrong ones among them.
        stopped: why no more of them were, nothing if the file ended.
        apart: rows that cannot come in as they are, as (where, what is wrong).
        keys: all that rows carry.
        choices: property to the key that would be taken, with its rivals.
        guesses: of units and signs.
        columns, measures: of the rows that can be measured, in canonical units by these guesses.
        where: the place of each of these rows.
        findings: each with the place of the row that it is about, nothing where it is about all.
        isolated: how many of them are isolated atoms.
    """

    place: Path | Address
    format: str
    n_rows: int
    stopped: str
    apart: Sequence[tuple[str, str]]
    keys: Sequence[FoundKey]
    choices: Mapping[str, Choice]
    guesses: Sequence[Guess]
    columns: Columns
    measures: Measures
    where: Sequence[str]
    findings: Sequence[tuple[str, Finding]]
    isolated: int


def inspect(
    place: Path | Address,
    format_name: str,
    asked: Mapping[str, str],
    most_rows: int,
    most_atoms: int,
    progress: Progress = iter,
) -> Inspection:
    """Look at the first rows of a file.

    Args:
        place, format_name: as `read_rows` takes them.
        asked: property to the key under which it is to be read.
        most_rows, most_atoms: after how many of them reading ends.

    Raises:
        FileNotFoundError, ValueError: nothing can be read, or no row carries a key that was asked for.
    """
    wanted = Asked(
        {name: asked.get(name) for name in dict.fromkeys([*PROPERTIES, *asked])},
        declared(None, None),
        format_name,
        None,
        None,
    )
    rows = _Rows(progress(read_rows(format_name, place, unreadable="yield")), most_rows, most_atoms)
    parts = list(blocks(rows, wanted))
    firsts = np.cumsum([0, *(part.n_rows for part in parts)]).tolist()
    choices = _choices(wanted, parts)
    apart = _apart(parts, firsts, choices)
    as_written = _joined(parts, choices)
    if not len(as_written["n_atoms"]):
        first = f"{apart[0][0]}: {apart[0][1]}" if apart else rows.stopped or "it has no rows"
        raise ValueError(f"{place} holds no structure that can be looked at; {first}")
    kinds = [kind for part in parts for kind in part.kinds]
    columns, measures, guesses = _guessed(as_written, choices, kinds)
    where = [part.where[at] for part, first in zip(parts, firsts, strict=False) for at in part.numbers - first]
    return Inspection(
        place,
        format_name,
        n_rows=rows.n_rows,
        stopped=rows.stopped,
        apart=apart,
        keys=[*rows.keys],
        choices=choices,
        guesses=guesses,
        columns=columns,
        measures=measures,
        where=where,
        findings=[_placed(found, where) for found in _findings(measures)],
        isolated=int(sum(part.isolated.sum() for part in parts)),
    )


class _Rows:
    """The first rows of a file: counted, with the keys that they carry, and why there are no more of them."""

    def __init__(self, rows: Iterable[tuple[str, Any]], most_rows: int, most_atoms: int):
        self._rows, self._most_rows, self._most_atoms = rows, most_rows, most_atoms
        self.n_rows, self.stopped, self.keys = 0, "", FoundKeys()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        n_atoms = 0
        try:
            for where, atoms in self._rows:
                if self.n_rows >= self._most_rows or n_atoms >= self._most_atoms:
                    self.stopped = f"only the first {self.n_rows} rows were looked at ({n_atoms} atoms)"
                    return
                self.n_rows += 1
                if not isinstance(atoms, Unreadable):
                    n_atoms += len(atoms)
                    self.keys.add(atoms)
                yield where, atoms
        except ValueError as error:
            if not self.n_rows:
                raise
            self.stopped = f"reading ended there: {error}"


def _choices(wanted: Asked, parts: Sequence[Block]) -> dict[str, Choice]:
    """The key of each property that rows carry; one that was asked for must be carried."""
    carried = added(part.carried for part in parts)
    choices = {}
    for name, key in wanted.keys.items():
        try:
            choices[name] = choose_key(name, key, carried)
        except ValueError:
            if key is not None:
                raise
    return choices


def _apart(parts: Sequence[Block], firsts: Sequence[int], choices: Mapping[str, Choice]) -> list[tuple[str, str]]:
    """Rows that are no structures, or whose label is wrong under the key that would be taken; each with the reason."""
    taken = {Candidate(name, choice.key) for name, choice in choices.items()}
    return [
        (part.where[fault.row - first], fault.said)
        for part, first in zip(parts, firsts, strict=False)
        for fault in part.faults
        if fault.candidate is None or fault.candidate in taken
    ]


def _joined(parts: Sequence[Block], choices: Mapping[str, Choice]) -> Columns:
    """Packed columns of all rows that are structures, as the file has them; NaN where a row has no label."""
    names = ("n_atoms", "species", "positions", "cell", "pbc")
    if not parts:
        return {name: np.zeros(0) for name in names}
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    for name, choice in choices.items():
        known, values = column(name), []
        for part in parts:
            n = int(part.columns["n_atoms"].sum()) if known.axis is Axis.ATOM else len(part.numbers)
            values.append(part.labels.get(Candidate(name, choice.key), np.full((n, *known.shape), np.nan)))
        columns[name] = np.concatenate(values)
    return columns


def _converted(columns: Columns, choices: Mapping[str, Choice], units: Declared) -> Columns:
    """The same in canonical units."""
    keys = {"positions": "", "cell": "", **{name: choice.key for name, choice in choices.items()}}
    plain = declared(None, None)
    factors = {name: units.of(name, key).factor / plain.of(name, key).factor for name, key in keys.items()}
    return {
        name: values * factors[name] if factors.get(name, 1.0) != 1.0 else values for name, values in columns.items()
    }


def _guessed(
    as_written: Columns, choices: Mapping[str, Choice], kinds: Sequence[str | None]
) -> tuple[Columns, Measures, list[Guess]]:
    """Columns in canonical units by what their numbers say, measured, and what they say."""
    length, energy = guess_length(as_written), guess_energy(as_written)
    factor = declared(*proposed([length])).of("positions").factor
    columns: Columns = {**as_written, **{name: as_written[name] * factor for name in ("positions", "cell")}}
    measures = _measured(columns, kinds)
    guesses = [length, energy]
    if energy and "forces" in columns:
        units = declared(*proposed([length, energy]))
        work = work_factor(measures, np.arange(len(measures)))
        guesses.append(guess_forces(work, energy, units.of("forces").factor))
    guesses += [guess_stress(as_written), guess_dipole(as_written)]
    known = [one for one in guesses if one is not None]
    if proposed(known) != ({}, {}):
        columns = _converted(as_written, choices, declared(*proposed(known)))
        measures = _measured(columns, kinds)
    return columns, measures, known


def _measured(columns: Columns, kinds: Sequence[str | None]) -> Measures:
    measures = measure(columns, kinds, [None] * len(kinds))
    packed = PackedColumns(columns, np.concatenate([[0], np.cumsum(columns["n_atoms"])]))
    near = near_duplicates(measures, lambda rows: structures_of(packed, rows))
    return replace(measures, twin=near.twin)


def _findings(measures: Measures) -> Iterator[Finding]:
    """What the checks find, with their defaults; those that need splits are made by `load` alone."""
    for check in known_checks().values():
        if check.find is not None and not check.after_splits and check.policy != "off":
            yield from check.find(measures, check.options)


def _placed(found: Finding, where: Sequence[str]) -> tuple[str, Finding]:
    """A finding with its place; it speaks of another row by the place of that row, since all are of one file."""
    if found.other is not None:
        other = where[found.other]
        parts = {name: getattr(found, name).replace(Finding.OTHER, other) for name in ("got", "expected")}
        found = replace(found, **parts, other=None)
    return "" if found.row is None else where[found.row], found
