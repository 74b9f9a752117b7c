"""Pairs on the CPU, compiled on first use: each pair is found once, packed, and mirrored into the full list.

Candidates are the atoms and the images around them, in the order of (j, S), so that what is picked is sorted already.
A small structure tries each atom against all candidates behind it, eight at a time; a large one, bin by bin in space,
against those near the bin. Both pick in float32 with room for its errors, and decide in float64, by the contract's
arithmetic, what float32 cannot: so the pairs are the same to the last one as by brute force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

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
from forcefoundry.pairs.half import HalfPairs

if TYPE_CHECKING:
    from forcefoundry.pairs.native.sheets import FullSheet, HalfSheet

AnySheet = TypeVar("AnySheet", "FullSheet", "HalfSheet")


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
        from forcefoundry.pairs.native.sheets import FullSheet  # numba: a second, and not before pairs are looked for

        return self._filled(FullSheet, positions, cell, pbc, cutoff, offsets).pairs()

    def half(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> HalfPairs:
        """The canonical half of the pairs, packed as they are kept; arguments and errors are those of the call."""
        from forcefoundry.pairs.native.sheets import HalfSheet

        return self._filled(HalfSheet, positions, cell, pbc, cutoff, offsets).half()

    def _filled(
        self, kind: type[AnySheet], positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints
    ) -> AnySheet:
        """A sheet of that kind with all pairs."""
        from forcefoundry.pairs.native.chunks import Chunks
        from forcefoundry.pairs.native.search import FINE, SUSPICIOUS

        cutoff = check_cutoff(cutoff)
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        cell = np.ascontiguousarray(cell, dtype=np.float64)
        pbc = np.ascontiguousarray(pbc, dtype=np.bool_)
        offsets = np.array(offsets, dtype=np.int64)  # a copy, for it is kept
        check_shapes(positions, cell, pbc, offsets)
        sheet, wrong = kind(offsets), None
        problem = Chunks((positions, cell, pbc, cutoff, offsets), sheet, self.threads, careful=True).search()
        if problem[0] == SUSPICIOUS:
            fine, wrong = _fine(positions, cell, pbc, offsets)
            offsets = offsets[: fine + 1]
            sheet = kind(offsets)
            problem = Chunks((positions, cell, pbc, cutoff, offsets), sheet, self.threads, careful=False).search()
        if problem[0] != FINE:
            raise _error(problem, positions, offsets)
        if wrong is not None:
            raise wrong
        return sheet


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
