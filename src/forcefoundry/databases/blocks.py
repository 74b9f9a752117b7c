"""Rows packed some thousand at a time: structures, and their labels under every key that may turn out to be taken.

Which key is taken is decided over all rows, and rows are read once: so all candidates are kept until then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import DERIVED, STRUCTURE, Axis, column
from forcefoundry.databases import faults
from forcefoundry.databases.faults import Fault
from forcefoundry.databases.formats import Unreadable, said_of
from forcefoundry.databases.isolated import is_isolated_atom
from forcefoundry.databases.labels import Carried, shaped, usual_keys
from forcefoundry.databases.units import Conversion, Declared, declared

ROWS, ATOMS = 2000, 200_000
"""Of a block, at most; a structure that has more atoms is a block of its own."""


class Candidate(NamedTuple):
    """A property and a key under which rows may carry it."""

    name: str
    key: str


@dataclass(frozen=True)
class Asked:
    """What is asked of rows: properties with their keys (None: one of the usual ones), units, and texts to keep."""

    keys: Mapping[str, str | None]
    units: Declared
    format: str
    group: str | None
    column: str | None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Asked:
        """What a `database` section asks for; ValueError for names and units that cannot be."""
        keys = dict(config.get("keys") or {})
        for name in keys:
            if name in (*STRUCTURE, *DERIVED):
                raise ValueError(
                    f"database.keys names {name}, which is no label but part of a structure. Leave it out."
                )
            column(name)
        units = declared(config.get("units"), config.get("signs"))
        official = dict(config.get("split") or {}).get("column")
        return cls(keys, units, str(config["format"]), config.get("group"), official)

    def candidates(self) -> list[Candidate]:
        """All that may be read, in the order in which keys are preferred."""
        return [
            Candidate(name, key)
            for name, asked in self.keys.items()
            for key in (usual_keys(name) if asked is None else (asked,))
        ]

    def reading(self, candidate: Candidate) -> Conversion | None:
        """What is done to the numbers under a key; None where units and signs cannot be those of that key."""
        try:
            return self.units.of(*candidate)
        except ValueError:
            return None


@dataclass(frozen=True)
class Block:
    """Some rows of one file, in their order.

    Attributes:
        n_rows: all of them, wrong ones among them.
        where: (n_rows,) where each stands in the file.
        numbers: (n,) the numbers, among all rows of the file, of those that are structures.
        columns: n_atoms, species, positions, cell and pbc of these, packed, in canonical units.
        labels: those that any row has, in canonical units; NaN where a row has none, or a wrong one.
        has: (n,) by candidate, whether a row carries it and it is right.
        kinds, groups, official: (n,) config_type, the value of database.group and of database.split.column, or None.
        isolated: (n,) whether it is an isolated atom.
        faults: rows that are wrong, and labels that are.
        carried: how many rows carry each key, and where.
    """

    n_rows: int
    where: Sequence[str]
    numbers: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    labels: Mapping[Candidate, NDArray[np.float64]]
    has: Mapping[Candidate, NDArray[np.bool_]]
    kinds: Sequence[str | None]
    groups: Sequence[str | None]
    official: Sequence[str | None]
    isolated: NDArray[np.bool_]
    faults: Sequence[Fault]
    carried: Carried


def blocks(
    rows: Iterable[tuple[str, Any]], asked: Asked, most_rows: int = ROWS, most_atoms: int = ATOMS
) -> Iterator[Block]:
    """Rows as `read_rows(..., unreadable="yield")` gives them, packed; what is wrong is in the blocks' `faults`."""
    packer = _Packer(asked)
    held: list[tuple[str, Any]] = []
    first = n_atoms = 0
    for row in rows:
        count = 0 if isinstance(row[1], Unreadable) else len(row[1])
        if held and (len(held) >= most_rows or n_atoms + count > most_atoms):
            yield packer.block(first, held)
            first, n_atoms, held = first + len(held), 0, []
        held.append(row)
        n_atoms += count
    if held:
        yield packer.block(first, held)


class _Plan(NamedTuple):
    """What rows that carry the same keys hold: where each key lies, and where the candidates are taken from."""

    places: Mapping[str, str]
    taken: Sequence[tuple[int, str, Any]]


class _Packer:
    def __init__(self, asked: Asked):
        self._asked = asked
        self._candidates = asked.candidates()
        self._readings = [asked.reading(one) for one in self._candidates]
        self._plans: dict[Any, _Plan] = {}
        self._said = said_of(asked.format)

    def block(self, first: int, rows: Sequence[tuple[str, Any]]) -> Block:
        found: list[Fault] = []
        sound: list[tuple[int, Any]] = []
        for number, (_, atoms) in enumerate(rows, first):
            if isinstance(atoms, Unreadable):
                found.append(faults.unreadable(number, atoms.reason, self._said, atoms.raw))
            elif not len(atoms):
                found.append(faults.no_atoms(number, atoms))
            else:
                sound.append((number, atoms))
        columns = _structures(sound)
        wrong = faults.structure_faults(columns, sound) if sound else []
        if wrong:
            out = {fault.row for fault in wrong}
            sound = [row for row in sound if row[0] not in out]
            columns = _structures(sound)
        labels, has, broken, carried = self._labels(sound)
        for name in ("positions", "cell"):
            factor = self._asked.units.of(name).factor
            columns[name] = columns[name] if factor == 1.0 else columns[name] * factor
        group, official = self._asked.group, self._asked.column
        return Block(
            len(rows),
            [where for where, _ in rows],
            np.array([number for number, _ in sound], dtype=np.int64),
            columns,
            labels,
            has,
            _texts(sound, "config_type"),
            _texts(sound, group),
            _texts(sound, official),
            np.array([len(atoms) == 1 and is_isolated_atom(atoms) for _, atoms in sound], dtype=bool),
            sorted([*found, *wrong, *broken], key=lambda fault: fault.row),
            carried,
        )

    def _labels(self, rows: Sequence[tuple[int, Any]]) -> tuple[Any, Any, list[Fault], Carried]:
        values: list[list[Any]] = [[None] * len(rows) for _ in self._candidates]
        counted: Counter[Any] = Counter()
        broken: list[Fault] = []
        for at, (number, atoms) in enumerate(rows):
            results = {} if atoms.calc is None else atoms.calc.results
            signature = (_keys(atoms.info), tuple(atoms.arrays), _keys(results))
            counted[signature] += 1
            plan = self._plans.get(signature) or self._planned(signature)
            for which, place, key in plan.taken:
                held = atoms.info if place == "info" else atoms.arrays if place == "arrays" else results
                try:
                    values[which][at] = self._value(held[key], atoms, which)
                except (ValueError, TypeError, OverflowError) as error:
                    broken.append(faults.wrong_shape(number, self._candidates[which], str(error), atoms))
        labels, has = {}, {}
        for which, candidate in enumerate(self._candidates):
            there = np.array([value is not None for value in values[which]], dtype=bool)
            if there.any():
                packed, wrong = _packed(values[which], there, candidate, rows)
                there[wrong] = False
                broken += [faults.label_not_finite(rows[at][0], candidate, rows[at][1]) for at in wrong]
                labels[candidate], has[candidate] = self._converted(packed, which), there
        return labels, has, broken, self._carried(counted)

    def _planned(self, signature: Any) -> _Plan:
        info, arrays, results = signature
        places: dict[str, tuple[str, Any]] = {str(key): ("info", key) for key in info}
        places |= {key: ("arrays", key) for key in arrays if key not in ("numbers", "positions")}
        places |= {key: ("results", key) for key in results}
        taken = []
        for which, (name, key) in enumerate(self._candidates):
            place, held = places.get(key, ("", None))
            # A calculator's `energies` are those of single atoms.
            of_atoms = name == "energy" and key == "energies" and place != "info" and self._asked.keys[name] is None
            if place and not of_atoms and self._readings[which] is not None:
                taken.append((which, place, held))
        plan = self._plans[signature] = _Plan({key: place for key, (place, _) in places.items()}, taken)
        return plan

    def _value(self, given: Any, atoms: Any, which: int) -> Any:
        name, key = self._candidates[which]
        known = column(name)
        # What is in shape already, which nearly all is; a stress may be a virial, which takes the volume.
        if type(given) is float and known.shape == () and known.axis is Axis.SYSTEM:
            return given
        if type(given) is np.ndarray and given.dtype == np.float64 and name != "stress":
            expected = (len(atoms), *known.shape) if known.axis is Axis.ATOM else known.shape
            if given.shape == expected:
                return given
        reading = self._readings[which]
        return shaped(given, atoms, name, key, reading is not None and reading.is_virial)

    def _converted(self, values: NDArray[np.float64], which: int) -> NDArray[np.float64]:
        reading = self._readings[which]
        return values if reading is None or reading.factor == 1.0 else values * reading.factor

    def _carried(self, counted: Counter[Any]) -> Carried:
        found: dict[str, Counter[str]] = {}
        for signature, count in counted.items():
            for key, place in self._plans[signature].places.items():
                found.setdefault(key, Counter())[place] += count
        return found


def _keys(held: Mapping[Any, Any]) -> tuple[Any, ...]:
    for value in held.values():
        if value is None:
            return tuple(key for key, one in held.items() if one is not None)
    return tuple(held)


def _structures(rows: Sequence[tuple[int, Any]]) -> dict[str, NDArray[Any]]:
    n = len(rows)
    numbers = [atoms.arrays["numbers"] for _, atoms in rows]
    return {
        "n_atoms": np.array([len(one) for one in numbers], dtype=np.int64),
        "species": np.concatenate([*numbers, np.zeros(0, dtype=np.int64)]).astype(np.int64),
        "positions": np.concatenate([*(atoms.arrays["positions"] for _, atoms in rows), np.zeros((0, 3))]),
        "cell": np.array([atoms.cell.array for _, atoms in rows], dtype=np.float64).reshape(n, 3, 3),
        "pbc": np.array([atoms.pbc for _, atoms in rows], dtype=bool).reshape(n, 3),
    }


def _packed(
    values: Sequence[Any], there: NDArray[np.bool_], candidate: Candidate, rows: Sequence[tuple[int, Any]]
) -> tuple[NDArray[np.float64], list[int]]:
    """Labels one after another, NaN where there is none, and the places of those that are not finite (now NaN)."""
    known = column(candidate.name)
    if known.axis is Axis.ATOM:
        counts = np.array([len(atoms) for _, atoms in rows])
        if not there.all():
            values = [
                np.full((count, *known.shape), np.nan) if value is None else value
                for count, value in zip(counts.tolist(), values, strict=True)
            ]
        packed = np.concatenate(values).astype(np.float64, copy=False)
        finite = np.isfinite(packed).reshape(len(packed), -1).all(axis=1)
        finite = np.logical_and.reduceat(finite, np.cumsum(counts) - counts)
    else:
        nothing = np.full(known.shape, np.nan)
        packed = np.array([nothing if value is None else value for value in values], dtype=np.float64)
        packed = packed.reshape(len(values), *known.shape)
        finite = np.isfinite(packed).reshape(len(packed), -1).all(axis=1)
    wrong = np.flatnonzero(there & ~finite)
    if len(wrong):
        of_rows = np.repeat(there & ~finite, counts) if known.axis is Axis.ATOM else there & ~finite
        packed = packed.copy()
        packed[of_rows] = np.nan
    return packed, wrong.tolist()


def _texts(rows: Sequence[tuple[int, Any]], key: str | None) -> list[str | None]:
    if key is None:
        return [None] * len(rows)
    found = [atoms.info.get(key) for _, atoms in rows]
    return [None if value is None else str(value) for value in found]
