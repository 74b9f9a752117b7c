"""Pairs on the CPU, compiled on first use: each pair is found once, packed, and mirrored into the full list.

Candidates are the atoms and the images around them, in the order of (j, S), so that what is picked is sorted already.
A small structure tries each atom against all candidates behind it, eight at a time; a large one, bin by bin in space,
against those near the bin. Both pick in float32 with room for its errors, and decide in float64, by the contract's
arithmetic, what float32 cannot: so the pairs are the same to the last one as by brute force.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import (
    Bools,
    Floats,
    Ints,
    Pairs,
    check_cutoff,
    check_structure,
    coincident,
)
from forcefoundry.pairs.half import HalfPairs, side_by_side
from forcefoundry.pairs.native.search import FAR_FROM_HOME, IN_ONE_PLACE, TOO_MANY, find_half, suspicious


class CpuFinder:
    """Finds the pairs of whole batches at once.

    Args:
        device: "cpu"; this finder knows no other.
        threads: how many structures are worked on side by side. Changes no bit of the result.
    """

    def __init__(self, device: str = "cpu", threads: int = 1):
        if device != "cpu":
            raise ValueError(
                f"The finder 'cpu' was asked to work on {device!r}, expected 'cpu'. Choose another finder."
            )
        if threads < 1:
            raise ValueError(f"The finder was given {threads} threads, expected 1 or more.")
        self.device, self.threads = device, threads

    def __call__(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> Pairs:
        """Find all pairs; see `Finder`. Coincident atoms, NaN and flat cells are ValueErrors that name them."""
        return self.half(positions, cell, pbc, cutoff, offsets).mirrored(self.threads)

    def half(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> HalfPairs:
        """The canonical half of the pairs, packed as they are kept; arguments and errors are those of the call."""
        cutoff = check_cutoff(cutoff)
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        cell = np.ascontiguousarray(cell, dtype=np.float64)
        pbc = np.ascontiguousarray(pbc, dtype=np.bool_)
        offsets = np.ascontiguousarray(offsets, dtype=np.int64)
        _check_shapes(positions, cell, pbc, offsets)
        for system in np.flatnonzero(suspicious(positions, cell, pbc, offsets)):
            atoms = slice(offsets[system], offsets[system + 1])
            try:
                check_structure(positions[atoms], cell[system], pbc[system], int(system))
            except ValueError:
                # A structure before this one may be wrong in another way: the first is the one to be told.
                self._search(positions, cell, pbc, cutoff, offsets[: system + 1])
                raise
        return self._search(positions, cell, pbc, cutoff, offsets)

    def _search(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> HalfPairs:
        def find(first: int, last: int) -> tuple[Any, ...]:
            found: tuple[Any, ...] = find_half(positions, cell, pbc, cutoff, offsets, first, last)
            return found

        parts = side_by_side(find, offsets, self.threads)
        for *_, problem in parts:
            if problem[0]:
                raise _error(problem, positions, offsets)
        counts, pair_ends, wide_ends, codes, wide = zip(*(part[:5] for part in parts), strict=True)
        return HalfPairs(
            offsets,
            _joined(counts),
            _running(pair_ends),
            _joined([part[: ends[-1]] for part, ends in zip(codes, pair_ends, strict=True)]),
            _running(wide_ends),
            _joined([part[: ends[-1]] for part, ends in zip(wide, wide_ends, strict=True)]),
        )


def _check_shapes(positions: Floats, cell: Floats, pbc: Bools, offsets: Ints) -> None:
    # Compiled code reads where it is told to: what it is told must lie within the arrays.
    systems = len(offsets) - 1
    if positions.ndim != 2 or positions.shape[1] != 3 or cell.shape[1:] != (3, 3) or pbc.shape[1:] != (3,):
        raise ValueError(
            f"Positions, cell and pbc have the shapes {positions.shape}, {cell.shape} and {pbc.shape}, expected "
            "(N, 3), (S, 3, 3) and (S, 3)."
        )
    if systems < 0 or len(cell) < systems or len(pbc) < systems:
        raise ValueError(f"There are {len(cell)} cells and {len(pbc)} pbc for {systems} systems, expected one each.")
    if offsets[0] != 0 or offsets[-1] > len(positions) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(
            f"The offsets run from {offsets[0]} to {offsets[-1]} for {len(positions)} atoms, expected numbers that "
            "start at 0, never fall, and end within the atoms."
        )


def _joined(parts: Any) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _running(parts: tuple[NDArray[np.int64], ...]) -> Ints:
    """Running totals of the whole from those of its parts, each of which starts at 0."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(part[-1] for part in parts[:-1])])
    later = [part[1:] + start for part, start in zip(parts, before, strict=True)]
    return np.concatenate([np.zeros(1, dtype=np.int64), *later])


def _error(problem: tuple[int, int, int, int], positions: Floats, offsets: Ints) -> ValueError:
    kind, system, atom, other = problem
    if kind == IN_ONE_PLACE:
        return coincident(system, atom, other)
    if kind == FAR_FROM_HOME:
        where = positions[offsets[system] + atom].tolist()
        return ValueError(
            f"System {system}, atom {atom}: its position {where} is more than 2^30 cells from the origin, and shifts "
            "are kept in 32 bits. Wrap the atoms into the cell."
        )
    assert kind == TOO_MANY
    return ValueError(
        f"System {system} has more than 2^31 images of atoms within the cutoff, or a cell hundreds of times smaller "
        "than it. Check the cell and the cutoff, both in Å."
    )
