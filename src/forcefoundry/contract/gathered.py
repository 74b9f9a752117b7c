"""All units as one set: which rows there are, where each came from, and what is measured of the structures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.findings import Origins
from forcefoundry.contract.intake import KeptFault, Unit
from forcefoundry.contract.measures import Measures, joined
from forcefoundry.contract.measuring import measure
from forcefoundry.databases.labels import Choice
from forcefoundry.databases.mapped import MappedColumns, pieces
from forcefoundry.databases.shards import OpenShard, label_name
from forcefoundry.files import written_whole

Ints = NDArray[np.int64]

_MEASURED_ATOMS = 100_000
"""Measured at once."""


class Gathered:
    """The rows of all units, one unit after another.

    Attributes:
        shards: of all units; a structure is a row of one of them.
        piece, row: (m,) where each structure lies.
        number: (m,) its number among all rows that came in, ascending.
        n_rows: how many rows came in.
        names: column to its name in the shards.
    """

    def __init__(self, units: Sequence[Unit], choices: Mapping[str, Choice]):
        self.units, self.choices = tuple(units), choices
        self.shards: tuple[OpenShard, ...] = tuple(shard for unit in units for shard in unit.shards)
        sizes = np.array([len(shard) for shard in self.shards], dtype=np.int64)
        self.piece: Ints = np.repeat(np.arange(len(sizes)), sizes)
        self.row: Ints = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(size) for size in sizes)])
        self._firsts = np.concatenate([[0], np.cumsum([int(unit.n_rows.sum()) for unit in units])]).astype(np.int64)
        self.n_rows = int(self._firsts[-1])
        numbers = [
            first + shard.beside.column("number").to_numpy()
            for first, unit in zip(self._firsts.tolist(), units, strict=False)
            for shard in unit.shards
        ]
        self.number: Ints = np.concatenate([np.zeros(0, dtype=np.int64), *numbers]).astype(np.int64)
        structure = {name: name for name in ("n_atoms", "species", "positions", "cell", "pbc")}
        self.names = structure | {name: label_name(name, choice.key) for name, choice in choices.items()}

    @cached_property
    def columns(self) -> MappedColumns:
        """The columns of all structures."""
        return MappedColumns(self.shards, self.names, self.piece, self.row)

    def texts(self, name: str) -> list[str | None]:
        """(m,) what stands beside the columns: kind, group or official."""
        return [value for shard in self.shards for value in shard.beside.column(name).to_pylist()]

    def isolated(self) -> NDArray[np.bool_]:
        """(m,) which structures are isolated atoms."""
        parts = [shard.beside.column("isolated").to_numpy(zero_copy_only=False) for shard in self.shards]
        return np.concatenate([np.zeros(0, dtype=bool), *parts])

    def given(self) -> list[str | None]:
        """(m,) the official split of each structure: that of its file, else what its column says."""
        found: list[str | None] = []
        for unit in self.units:
            for shard in unit.shards:
                said = shard.beside.column("official").to_pylist()
                found += said if unit.files.split is None else [unit.files.split] * len(said)
        return found

    def faults(self) -> Iterator[tuple[int, KeptFault]]:
        """What is wrong with rows, by their number among all: structures, and labels under the keys that are read."""
        chosen = {(name, choice.key) for name, choice in self.choices.items()}
        for first, unit in zip(self._firsts.tolist(), self.units, strict=False):
            for fault in unit.faults:
                if fault.candidate is None or tuple(fault.candidate) in chosen:
                    yield first + fault.row, fault

    @cached_property
    def origins(self) -> Origins:
        """Where all rows come from."""
        names = [source.name for unit in self.units for source in unit.files.sources]
        counts = np.concatenate([np.zeros(0, dtype=np.int64), *(unit.n_rows for unit in self.units)])
        of_rows = np.repeat(np.arange(len(names), dtype=np.int32), counts)
        return Origins(tuple(names), of_rows, _Places(self))

    def hashes(self) -> dict[str, str]:
        """The sha256 of each file by its name."""
        return {
            source.name: digest
            for unit in self.units
            for source, digest in zip(unit.files.sources, unit.files.digests, strict=True)
            if digest is not None
        }

    def place(self, number: int) -> str:
        """Where in its file a row stands, as its reader said."""
        at = int(np.searchsorted(self.number, number))
        if at < len(self.number) and self.number[at] == number:
            return str(self.shards[self.piece[at]].beside.column("place")[int(self.row[at])].as_py())
        unit = int(np.searchsorted(self._firsts, number, side="right")) - 1
        own = number - int(self._firsts[unit])
        return next(fault.where for fault in self.units[unit].faults if fault.row == own)

    def measures(self) -> Measures:
        """What the checks look at, of all structures: as it was kept beside the shards, or measured now."""
        # Array by array out of all files: held as a whole they would be there twice.
        parts: list[Any] = [_Kept(_measured(unit, self.names)) for unit in self.units if unit.shards]
        return joined(parts)


class _Places(Sequence[str]):
    """Where rows stand, looked up when somebody asks: a million texts take a hundred megabytes."""

    def __init__(self, gathered: Gathered):
        self._gathered = gathered

    def __len__(self) -> int:
        return self._gathered.n_rows

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            return [self._gathered.place(one) for one in range(*number.indices(len(self)))]
        return self._gathered.place(number)


def _measured(unit: Unit, names: Mapping[str, str]) -> Path:
    """The file in which the measures of a unit's rows are kept, made if it is not there."""
    asked = json.dumps([sorted(names.items()), unit.files.split, [one.name for one in fields(Measures)]])
    path = unit.folder / f"measures-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npz"
    if not path.is_file():
        _keep(path, joined([part for shard in unit.shards for part in _of_shard(shard, names, unit.files.split)]))
    return path


def _of_shard(shard: OpenShard, names: Mapping[str, str], split: str | None) -> Iterator[Measures]:
    columns = MappedColumns([shard], names, np.zeros(len(shard), dtype=np.int64), np.arange(len(shard)))
    texts = {name: shard.beside.column(name).to_pylist() for name in ("kind", "group", "official")}
    kinds = [group if kind is None else kind for kind, group in zip(texts["kind"], texts["group"], strict=True)]
    given = texts["official"] if split is None else [split] * len(kinds)
    for rows in pieces(np.arange(len(shard)), np.diff(shard.atoms), _MEASURED_ATOMS):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        held = {name: columns.take(name, rows) for name in columns}
        yield measure(held, kinds[part], given[part])
    shard.forget()


def _keep(path: Path, measures: Measures) -> None:
    arrays = {one.name: getattr(measures, one.name) for one in fields(measures)}
    texts = {name: arrays.pop(name) for name in ("species", "kinds", "splits")}
    labelled = arrays.pop("labelled")
    held: dict[str, Any] = {name: values for name, values in arrays.items() if isinstance(values, np.ndarray)}
    held |= {f"labelled.{name}": values for name, values in labelled.items()}
    with written_whole(path) as draft, draft.open("wb") as file:
        np.savez(file, texts=np.array(json.dumps(texts)), **held)


class _Kept:
    """Measures in a file, each array of which is read when it is asked for, and not held."""

    def __init__(self, path: Path):
        self._path = path
        with np.load(path, allow_pickle=False) as file:
            self._names = tuple(file.files)
            texts = json.loads(str(file["texts"]))
        self.species, self.kinds, self.splits = (tuple(texts[name]) for name in ("species", "kinds", "splits"))

    def __len__(self) -> int:
        return len(self._read("n_atoms"))

    def __getattr__(self, name: str) -> NDArray[Any] | None:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._read(name) if name in self._names else None

    @property
    def labelled(self) -> dict[str, NDArray[np.bool_]]:
        """Label to (n,), whether a row has it."""
        prefix = "labelled."
        return {name.removeprefix(prefix): self._read(name) for name in self._names if name.startswith(prefix)}

    def _read(self, name: str) -> NDArray[Any]:
        with np.load(self._path, allow_pickle=False) as file:
            values: NDArray[Any] = file[name]
        return values
