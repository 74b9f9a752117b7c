"""Columns of many structures that lie in mapped shards: rows are copied into memory when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import STRUCTURE, Axis, column
from forcefoundry.databases.shards import OpenShard

Rows = NDArray[np.int64]


class Places(NamedTuple):
    """Where each of n structures lies: in which piece (n,), in which row of it (n,), from which atom on (n,)."""

    piece: Rows
    row: Rows
    atom: Rows


class PackedColumns(Mapping[str, NDArray[Any]]):
    """Columns in memory, one piece each.

    Attributes:
        offsets: (n + 1,) where the atoms of each structure start.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], offsets: Rows):
        self._columns = MappingProxyType(dict(columns))
        self.offsets = offsets

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def places(self) -> Places:
        """Where each structure lies."""
        n = len(self.offsets) - 1
        return Places(np.zeros(n, dtype=np.int64), np.arange(n), self.offsets[:-1])

    def pieces(self, name: str) -> tuple[NDArray[Any] | None, ...]:
        """The arrays that hold a column's rows, row after row in memory; None for one without that label."""
        return (np.ascontiguousarray(self._columns[name]),)

    def take(self, name: str, rows: Rows) -> NDArray[Any]:
        """A column's rows of some structures, one after another."""
        values: NDArray[Any] = self._columns[name]
        rows = np.asarray(rows, dtype=np.int64)
        if column(name).axis is Axis.SYSTEM:
            found: NDArray[Any] = values[rows]
            return found
        counts = self.offsets[rows + 1] - self.offsets[rows]
        starts = np.cumsum(counts) - counts
        atoms: NDArray[Any] = values[np.repeat(self.offsets[rows] - starts, counts) + np.arange(counts.sum())]
        return atoms


class MappedColumns(Mapping[str, NDArray[Any]]):
    """Some rows of shards as columns. A column that is asked for as a whole is copied into memory, and not kept.

    Args:
        shards: what holds the rows.
        names: column to its name in the shards.
        piece, row: (n,) the shard of each structure, and its row there.
    """

    def __init__(self, shards: Sequence[OpenShard], names: Mapping[str, str], piece: Rows, row: Rows):
        self._shards, self._names = tuple(shards), dict(names)
        self._piece, self._row = np.asarray(piece, dtype=np.int64), np.asarray(row, dtype=np.int64)
        self._atom = np.zeros(len(piece), dtype=np.int64)
        counts = np.zeros(len(piece), dtype=np.int64)
        for at, shard in enumerate(self._shards):
            members = np.flatnonzero(self._piece == at)
            self._atom[members] = shard.atoms[self._row[members]]
            counts[members] = shard.atoms[self._row[members] + 1] - self._atom[members]
        self.offsets: Rows = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        values = self.take(name, np.arange(len(self._piece)))
        values.flags.writeable = False
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without copying a column to find out

    @property
    def places(self) -> Places:
        """Where each structure lies."""
        return Places(self._piece, self._row, self._atom)

    def pieces(self, name: str) -> tuple[NDArray[Any] | None, ...]:
        """The arrays that hold a column's rows, row after row in memory; None for one without that label."""
        return tuple(shard.columns.get(self._names[name]) for shard in self._shards)

    def check(self) -> None:
        """Refuse shards whose bytes are not those that they are named after."""
        for shard in self._shards:
            shard.check()

    def take(self, name: str, rows: Rows) -> NDArray[Any]:
        """A column's rows of some structures, one after another; those that lie together are read at once."""
        known, inside = column(name), self._names[name]
        rows = np.asarray(rows, dtype=np.int64)
        of_atoms = known.axis is Axis.ATOM
        counts = self.offsets[rows + 1] - self.offsets[rows] if of_atoms else np.ones(len(rows), dtype=np.int64)
        values = np.empty((int(counts.sum()), *known.shape), dtype=known.dtype)
        starts = np.concatenate([[0], np.cumsum(counts)])
        first = (self._atom if of_atoms else self._row)[rows]
        for start, stop in _runs(self._piece[rows], first, counts):
            shard, into = self._shards[self._piece[rows[start]]], values[starts[start] : starts[stop]]
            if inside in shard.columns:
                shard.read(inside, int(first[start]), into)
            else:
                into[...] = np.nan
        return values


def pieces(rows: Rows, n_atoms: Rows, most: int) -> Iterator[Rows]:
    """The rows, a piece at a time: as many as have about `most` atoms together, one at the least.

    Args:
        rows: ascending or not; n_atoms: (n,) of all structures.
    """
    ends = np.cumsum(n_atoms[rows])
    first = 0
    while first < len(rows):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield rows[first:last]
        first = last


def structures_of(columns: PackedColumns | MappedColumns, rows: Rows) -> dict[str, NDArray[Any]]:
    """The packed structures in some rows: n_atoms, species, positions, cell and pbc."""
    return {name: columns.take(name, rows) for name in STRUCTURE}


def _runs(piece: Rows, first: Rows, counts: Rows) -> Iterator[tuple[int, int]]:
    """Where runs of rows that follow one another in one piece start and end."""
    if not len(piece):
        return
    breaks = np.flatnonzero((np.diff(piece) != 0) | (first[1:] != first[:-1] + counts[:-1])) + 1
    ends = [0, *breaks.tolist(), len(piece)]
    yield from pairwise(ends)
