"""A batch cut into chunks, and the threads that share them out."""

from __future__ import annotations

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import Bools, Floats, Ints
from forcefoundry.pairs.native import work as of
from forcefoundry.pairs.native.memory import Room, rooms
from forcefoundry.pairs.native.search import FINE, SUSPICIOUS
from forcefoundry.pairs.native.sheets import Sheet
from forcefoundry.pairs.native.threads import side_by_side

ATOMS, FEWEST = 2048, 256
"""Atoms of a chunk, some ten thousand pairs, and, of a batch that several threads share, at least."""

SPARE = 1.125
"""How much room is taken for what the first chunks lead to expect."""

LINES = 16
"""Numbers of 64 bits in two lines of memory, which some processors fetch together."""

Batch = tuple[Floats, Floats, Bools, float, Ints]
"""Positions, cell, pbc, cutoff and offsets as a finder takes them, checked."""

Problem = tuple[int, int, int, int]
"""What went wrong, with which system, and two numbers more, as `search` gives them."""


class Chunks:
    """A batch in chunks, whose pairs are put down on a sheet.

    Args:
        batch: the batch.
        sheet: of the same structures.
        threads: how many work at the same time, at most.
        careful: whether to look first for numbers that may define no pairs, and give SUSPICIOUS for them.
    """

    def __init__(self, batch: Batch, sheet: Sheet, threads: int, careful: bool):
        offsets = batch[4]
        n_atoms = int(offsets[-1] - offsets[0])
        atoms = ATOMS if threads == 1 else min(ATOMS, max(FEWEST, n_atoms // (8 * threads)))
        self.cuts = cuts_of(offsets, atoms)
        self.sheet, self.threads = sheet, min(threads, len(self.cuts) - 1)
        # What `work` takes of the batch and its chunks, of which `taken` and `counted` tell threads of one another.
        self.given = (*batch, careful, self.cuts, sheet.counts, sheet.pair_ends, sheet.wide_ends)
        self.taken, self.counted = _apart(1), np.zeros(len(self.cuts) - 1, np.int64)
        self._lock = Lock()

    def search(self) -> Problem:
        """Find all pairs and put them down on the sheet; gives the first structure's problem, or FINE."""
        with rooms(self.threads) as taken:
            workers = [_Worker(self, room) for room in taken]
            side_by_side([worker.search for worker in workers])
            problems = [worker.problem for worker in workers if worker.problem[0] != FINE]
            if problems:
                return min(problems, key=lambda problem: (problem[0] != SUSPICIOUS, problem[1]))
            self.sheet.n_codes = int(self.counted.sum()) - len(self.counted)
            if self.sheet.n_codes > self.sheet.room:
                self.sheet.open(self.sheet.n_codes)
            late = [worker.search for worker in workers if worker.is_late()]
            if late:
                side_by_side(late)
            if not self.sheet.full and any(worker.used[1] for worker in workers):
                self._put_wide([part for worker in workers for part in worker.wide()])
        return FINE, 0, 0, 0

    def open(self, known: int, n_codes: int) -> bool:
        """Make room, by what the first chunks have; whether there is room now that was not there before."""
        with self._lock:
            if self.sheet.room:
                return False
            offsets = self.given[4]
            if known < len(self.counted):
                atoms = int(offsets[self.cuts[known]] - offsets[0])
                n_codes = int(SPARE * n_codes * int(offsets[-1] - offsets[0]) / max(atoms, 1)) + 1024
            try:
                self.sheet.open(n_codes)
            except MemoryError:
                return False  # the first chunks may be much denser than the others: room is made when all is counted
            return True

    def _put_wide(self, parts: list[tuple[int, int, NDArray[np.int32]]]) -> None:
        """Put wide pairs down in order: each part is a chunk's number, where in a room they start, and they."""
        ends, before = self.sheet.wide_ends, 0
        parts = sorted(parts, key=lambda part: part[0])
        for chunk, begin, wide in parts:
            ends[self.cuts[chunk] + 1 : self.cuts[chunk + 1] + 1] += before - begin
            before += len(wide)
        self.sheet.wide = np.concatenate([wide for *_, wide in parts])


class _Worker:
    """One thread, and the room it works in."""

    def __init__(self, chunks: Chunks, room: Room):
        self._chunks, self._room = chunks, room
        n_chunks = len(chunks.counted)
        self._state, self._starts, self.used = _apart(3), np.zeros(n_chunks + 1, np.int64), _apart(2)
        self._own = np.empty((n_chunks, 3), np.int64)
        self.problem: Problem = (FINE, 0, 0, 0)

    def search(self) -> None:
        """Take chunks until none is left, and put down what has its place."""
        chunks, sheet = self._chunks, self._chunks.sheet
        waits = False
        while True:
            self.problem, *arrays = of.work(
                *chunks.given, chunks.taken, chunks.counted, self._state, self._starts, self._own, self.used,
                *self._room.arrays, waits, sheet.room, sheet.full, sheet.codes, sheet.i, sheet.j, sheet.S,
            )  # fmt: skip
            self._room.arrays = tuple(arrays)
            if self.problem[0] != of.NO_ROOM:
                return
            known = int(self._state[of.KNOWN])
            # More room cannot be made while others write to what there is.
            waits = not chunks.open(known, int(self._starts[known])) and sheet.room < self._starts[known]

    def is_late(self) -> bool:
        """Whether it has found what is not put down yet."""
        return bool(self._state[of.PUT] < self._state[of.TAKEN])

    def wide(self) -> list[tuple[int, int, NDArray[np.int32]]]:
        """The wide pairs of its chunks: each chunk's number, where in the room they start, and a copy of them."""
        wide = self._room.arrays[-1]
        own = self._own[: self._state[of.TAKEN]]
        ends = [*own[:, of.WIDE], self.used[1]][1:]
        return [(int(chunk), int(at), wide[at:end].copy()) for (chunk, _, at), end in zip(own, ends, strict=False)]


def _apart(n: int) -> Ints:
    """n zeros far from what another thread writes: cores that write to one line of memory take it from each other."""
    return np.zeros(n + 2 * LINES, np.int64)[LINES : LINES + n]


def cuts_of(offsets: Ints, atoms: int) -> Ints:
    """Where chunks of about so many atoms start, in structures, and the number of these."""
    n = len(offsets) - 1
    if offsets[-1] - offsets[0] <= atoms:
        return np.array([0, n], np.int64)
    inner = np.searchsorted(offsets, np.arange(offsets[0] + atoms, offsets[-1], atoms))
    cuts = np.concatenate([[0], inner, [n]])
    once: Ints = cuts[np.concatenate([[True], cuts[1:] > cuts[:-1]])]
    return once
