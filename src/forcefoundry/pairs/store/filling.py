"""Filling the store: structures in, piece by piece, shards out; what is held already is not computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forcefoundry.databases.keys import Keys
from forcefoundry.databases.mapped import pieces
from forcefoundry.pairs.contract import Bools, Finder, Floats, Ints
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.packing import half_of, in_words, joined
from forcefoundry.pairs.store.cleaning import clear_drafts
from forcefoundry.pairs.store.store import PairStore

CODES_A_SHARD = 15_000_000
"""Pairs of the half; four bytes each, and some for what goes with them, make about 64 MB."""

ATOMS_AT_ONCE = 100_000
"""So many atoms are taken, searched and forgotten at a time: some megabytes, and work enough for several threads."""

Progress = Callable[[int, int], None]
"""Told of structures and ordered pairs that have just been done."""


class Structures(Protocol):
    """Structures that can be taken piece by piece; n_atoms (n,) numbers of atoms."""

    @property
    def n_atoms(self) -> Ints:
        """The number of atoms of each structure, (n,)."""
        ...

    def take(self, rows: Ints) -> tuple[Floats, Floats, Bools, Ints]:
        """Positions (N, 3) and cell (m, 3, 3), Å, pbc (m, 3) and offsets (m + 1,) of m structures; rows ascend."""
        ...


@dataclass(frozen=True)
class Filled:
    """What was computed: structures, ordered pairs, and how long it took in seconds."""

    structures: int
    pairs: int
    seconds: float


def fill(
    store: PairStore,
    keys: Keys,
    structures: Structures,
    finder: Finder,
    progress: Progress = lambda structures, pairs: None,
    missing: Ints | None = None,
) -> Filled:
    """Compute what the store lacks and keep it.

    Memory is one shard and one piece of the structures, however many there are. If it is interrupted, what was found
    so far is kept, and the next call goes on from there.

    Args:
        store: where pairs are kept.
        keys: (n, 32) of all structures.
        structures: where positions come from.
        finder: how pairs are found. Its errors name the structure's place among all.
        progress: told of each piece.
        missing: what `store.missing(keys)` has just given, for who asked already.
    """
    started = time.perf_counter()
    clear_drafts(store.folder)
    missing = store.missing(keys) if missing is None else missing
    shard = _Shard(store)
    n_pairs = 0
    try:
        for rows in pieces(missing, structures.n_atoms, ATOMS_AT_ONCE):
            half = _found(structures, rows, store.cutoff, finder)
            shard.add(keys[rows], half)
            n_pairs += 2 * len(half.codes)
            progress(len(rows), 2 * len(half.codes))
    except OSError:
        raise  # the disk will not take more
    except BaseException:
        shard.flush()
        raise
    shard.flush()
    store.refresh()
    return Filled(len(missing), n_pairs, time.perf_counter() - started)


def _found(structures: Structures, rows: Ints, cutoff: float, finder: Finder) -> HalfPairs:
    positions, cell, pbc, offsets = structures.take(rows)
    try:
        return half_of(finder, positions, cell, pbc, cutoff, offsets)
    except ValueError as error:
        raise in_words(error, rows) from None


class _Shard:
    """What will be the next shard."""

    def __init__(self, store: PairStore):
        self._store = store
        self._keys: list[Keys] = []
        self._halves: list[HalfPairs] = []
        self._codes = 0

    def add(self, keys: Keys, half: HalfPairs) -> None:
        if self._codes and self._codes + len(half.codes) > CODES_A_SHARD:
            self.flush()
        self._keys.append(keys)
        self._halves.append(half)
        self._codes += len(half.codes)

    def flush(self) -> None:
        keys, halves = self._keys, self._halves
        self._keys, self._halves, self._codes = [], [], 0
        if keys:
            self._store.write(np.concatenate(keys), joined(halves))
