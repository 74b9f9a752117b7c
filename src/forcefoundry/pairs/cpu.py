"""Pairs on the CPU, compiled on first use: each pair is found once, packed, and mirrored into the full list.

Candidates are the atoms and the images around them, in the order of (j, S), so that what is picked is sorted already.
A small structure tries each atom against all candidates behind it, eight at a time; a large one, bin by bin in space,
against those near the bin. Both pick in float32 with room for its errors, and decide in float64, by the contract's
arithmetic, what float32 cannot: so the pairs are the same to the last one as by brute force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import (
    Bools,
    Floats,
    Ints,
    Pairs,
    check_cutoff,
    check_shapes,
    check_structure,
    coincident,
    far_from_home,
)
from forcefoundry.pairs.half import HalfPairs, mirrored
from forcefoundry.pairs.native.memory import Room, block, rooms
from forcefoundry.pairs.native.threads import side_by_side, spans


class CpuFinder:
    """Finds the pairs of whole batches at once.

    Args:
        device: where the caller works; this finder works on the CPU wherever that is.
        threads: how many structures are worked on side by side. Changes no bit of the result.
    """

    def __init__(self, device: str = "cpu", threads: int = 1):
        if threads < 1:
            raise ValueError(f"The finder was given {threads} threads, expected 1 or more.")
        self.device, self.threads = device, threads

    def __call__(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> Pairs:
        """Find all pairs; see `Finder`. Coincident atoms, NaN and flat cells are ValueErrors that name them."""
        with self._found(positions, cell, pbc, cutoff, offsets) as parts:
            return mirrored(parts)

    def half(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> HalfPairs:
        """The canonical half of the pairs, packed as they are kept; arguments and errors are those of the call."""
        with self._found(positions, cell, pbc, cutoff, offsets) as parts:
            return HalfPairs(
                np.array(offsets, dtype=np.int64),
                parts[0].counts,
                _running([part.pair_ends for part in parts]),
                _joined([part.codes for part in parts]),
                _running([part.wide_ends for part in parts]),
                np.concatenate([part.wide for part in parts]),
            )

    @contextmanager
    def _found(
        self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints
    ) -> Iterator[list[HalfPairs]]:
        """The half of the pairs in parts, one from each thread; codes and wide pairs are gone when this ends."""
        from forcefoundry.pairs.native import search  # numba: a second, and not before pairs are looked for

        cutoff = check_cutoff(cutoff)
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        cell = np.ascontiguousarray(cell, dtype=np.float64)
        pbc = np.ascontiguousarray(pbc, dtype=np.bool_)
        offsets = np.ascontiguousarray(offsets, dtype=np.int64)
        check_shapes(positions, cell, pbc, offsets)
        counts = np.zeros(offsets[-1], dtype=np.int32)
        batch = (positions, cell, pbc, cutoff, offsets)
        cuts, wrong = spans(offsets, self.threads), None
        with rooms(self.threads) as taken:
            found = side_by_side(_calls(batch, cuts, counts, taken, careful=True))
            if None in found:
                fine, wrong = _fine(positions, cell, pbc, offsets)
                cuts = spans(offsets[: fine + 1], self.threads)
                found = side_by_side(_calls(batch, cuts, counts, taken, careful=False))
            parts = []
            for one, room, cut in zip(found, taken, cuts, strict=False):
                assert one is not None
                (problem, *arrays), pair_ends, wide_ends = one
                room.arrays = tuple(arrays)
                if problem[0] != search.FINE:
                    raise _error(problem, positions, offsets)
                codes, wide = arrays[-2][: pair_ends[-1]], arrays[-1][: wide_ends[-1]]
                parts.append(HalfPairs(offsets[cut[0] : cut[1] + 1], counts, pair_ends, codes, wide_ends, wide))
            if wrong is not None:
                raise wrong
            yield parts


def _calls(
    batch: tuple[Floats, Floats, Bools, float, Ints],
    cuts: Sequence[tuple[int, int]],
    counts: NDArray[np.int32],
    taken: Sequence[Room],
    careful: bool,
) -> list[Callable[[], tuple[Any, Ints, Ints] | None]]:
    """For each span of structures a call that searches it: what `find_half` gives, and where pairs end.

    careful: look for structures whose numbers may define no pairs first, and give None if there are any.
    """
    from forcefoundry.pairs.native import search

    positions, cell, pbc, _, offsets = batch

    def searched(first: int, last: int, room: Room) -> tuple[Any, Ints, Ints] | None:
        some = (positions, cell[first:last], pbc[first:last], offsets[first : last + 1])
        if careful and search.suspicious(*some).any():
            return None
        ends = np.empty(last - first + 1, np.int64), np.empty(last - first + 1, np.int64)
        return search.find_half(*batch, first, last, counts, *ends, *room.arrays), *ends

    return [partial(searched, *cut, room) for cut, room in zip(cuts, taken, strict=False)]


def _fine(positions: Floats, cell: Floats, pbc: Bools, offsets: Ints) -> tuple[int, ValueError | None]:
    """How many structures come before the first whose numbers define no pairs, and what is wrong with that."""
    from forcefoundry.pairs.native.search import suspicious

    for system in np.flatnonzero(suspicious(positions, cell, pbc, offsets)):
        atoms = slice(offsets[system], offsets[system + 1])
        try:
            check_structure(positions[atoms], cell[system], pbc[system], int(system))
        except ValueError as error:
            # One before it may be wrong in another way, which only the search tells: the first is the one to be told.
            return int(system), error
    return len(offsets) - 1, None


def _joined(parts: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Parts one after another, copied by as many threads; each is in the memory next to the thread that found it."""
    ends = [0, *accumulate(len(part) for part in parts)]
    whole = block((ends[-1] + 1) // 2).view(np.uint32)[: ends[-1]]
    side_by_side(
        [partial(np.copyto, whole[slice(*span)], part) for span, part in zip(pairwise(ends), parts, strict=True)]
    )
    return whole


def _running(parts: list[Ints]) -> Ints:
    """Running totals of the whole from those of its parts, each of which starts at 0."""
    before = accumulate(int(part[-1]) for part in parts[:-1])
    return np.concatenate([parts[0], *(part[1:] + start for part, start in zip(parts[1:], before, strict=True))])


def _error(problem: tuple[int, int, int, int], positions: Floats, offsets: Ints) -> ValueError:
    from forcefoundry.pairs.native.search import FAR_FROM_HOME, IN_ONE_PLACE, TOO_MANY, TOO_SMALL

    kind, system, atom, other = problem
    if kind == IN_ONE_PLACE:
        return coincident(system, atom, other)
    if kind == FAR_FROM_HOME:
        return far_from_home(positions[offsets[system] + atom], system, atom)
    if kind == TOO_SMALL:
        return ValueError(
            f"System {system} has a cell that the cutoff spans more than 500 times along one axis, expected fewer. "
            "Check the cell and the cutoff, both in Å."
        )
    assert kind == TOO_MANY
    return ValueError(
        f"System {system} has more than 2^31 images of atoms within the cutoff, expected fewer. "
        "Check the cell and the cutoff, both in Å."
    )
