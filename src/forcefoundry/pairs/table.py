"""The pairs of a data set's structures, packed, in memory or in mapped files, and the batches that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import Ints, Pairs
from forcefoundry.pairs.half import HalfPairs, room_for


@dataclass(frozen=True)
class Part:
    """Packed pairs of some structures, flat: counts one an atom, codes one a pair, wide four numbers a wide pair.

    counts may be of 8, 16 or 32 bits; name: what to call this part when something is wrong with it.
    """

    counts: NDArray[Any]
    codes: NDArray[np.uint32]
    wide: NDArray[np.int32]
    name: str = "memory"


class PairTable:
    """The pairs of n structures within one cutoff, mirrored into full lists when a batch asks for them.

    Args:
        cutoff: Å.
        parts: where the numbers lie.
        part: (n,) in which part each structure is.
        count_starts, count_ends, code_starts, code_ends, wide_starts, wide_ends: (n,) the spans of its numbers there.
    """

    def __init__(
        self,
        cutoff: float,
        parts: Sequence[Part],
        part: Ints,
        count_starts: Ints,
        count_ends: Ints,
        code_starts: Ints,
        code_ends: Ints,
        wide_starts: Ints,
        wide_ends: Ints,
    ):
        self.cutoff = cutoff
        self._parts = tuple(parts)
        # What compiled code reads: addresses of the parts' arrays (which this object keeps alive) and their lengths.
        arrays = [(part.counts, part.codes, part.wide) for part in self._parts]
        self._addresses = np.array([[array.ctypes.data for array in row] for row in arrays], np.uint64).reshape(-1, 3)
        self._widths = np.array([row[0].itemsize for row in arrays], dtype=np.int64)
        spans = (part, count_starts, count_ends, code_starts, code_ends, wide_starts, wide_ends)
        self._spans = np.ascontiguousarray(np.stack([np.asarray(span, np.int64) for span in spans], axis=1))
        self.pairs_of_structure: Ints = 2 * (self._spans[:, 4] - self._spans[:, 3])

    @classmethod
    def of_half(cls, cutoff: float, half: HalfPairs) -> PairTable:
        """The pairs of a batch, one structure after another."""
        counts, codes = np.ascontiguousarray(half.counts), np.ascontiguousarray(half.codes)
        wide = np.ascontiguousarray(half.wide).reshape(-1)
        spans = [(ends[:-1], ends[1:]) for ends in (half.offsets - half.offsets[0], half.pair_ends, 4 * half.wide_ends)]
        where = np.zeros(len(half.offsets) - 1, dtype=np.int64)
        return cls(cutoff, [Part(counts, codes, wide)], where, *(end for span in spans for end in span))

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def n_pairs(self) -> int:
        """Number of ordered pairs of all structures."""
        return int(self.pairs_of_structure.sum())

    @property
    def nbytes(self) -> int:
        """What all parts take, in memory or mapped, in bytes."""
        return sum(array.nbytes for part in self._parts for array in (part.counts, part.codes, part.wide))

    def half(self, structures: Ints) -> HalfPairs:
        """The packed pairs of some structures, copied together."""
        spans = self._spans[structures]
        ends = np.zeros((3, len(spans) + 1), dtype=np.int64)
        np.cumsum((spans[:, 2::2] - spans[:, 1::2]).T, axis=1, out=ends[:, 1:])
        counts, codes = np.empty(ends[0, -1], dtype=np.int32), np.empty(ends[1, -1], dtype=np.uint32)
        wide = np.empty((ends[2, -1] // 4, 4), dtype=np.int32)
        self._check(_compiled().gather(self._addresses, self._widths, spans, counts, codes, wide), structures)
        return HalfPairs(ends[0], counts, ends[1], codes, ends[2] // 4, wide)

    def batch(self, structures: Ints, first_atoms: Ints) -> Pairs:
        """The pairs of a batch: those of the given structures, whose atoms start at `first_atoms` in the batch.

        A full list, sorted by (i, j, S). What a file holds is looked at as it is read: numbers that no pairs can have
        are a ValueError that names the file.
        """
        spans = self._spans.take(structures, axis=0)
        i, j, S = room_for(int(np.add.reduce(self.pairs_of_structure.take(structures))))
        first_atoms = np.ascontiguousarray(first_atoms, dtype=np.int64)
        self._check(_compiled().assemble(self._addresses, self._widths, spans, first_atoms, i, j, S), structures)
        return Pairs(i, j, S.reshape(-1, 3))

    def _check(self, wrong: int, structures: Ints) -> None:
        if wrong < 0:
            return
        structure = int(np.asarray(structures)[wrong])
        raise ValueError(
            f"The pairs of structure {structure} in {self._parts[self._spans[structure, 0]].name} cannot be its own. "
            "Run `python -m pipeline pairs verify`."
        )

    def all_pairs(self) -> tuple[Ints, Pairs]:
        """The pairs of all structures, atoms counted from 0 in each, and (n + 1,) where each structure's start."""
        starts = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(self.pairs_of_structure, out=starts[1:])
        return starts, self.batch(np.arange(len(self)), np.zeros(len(self), dtype=np.int64))


@cache
def _compiled() -> ModuleType:
    """What reads parts; numba takes seconds to import, and a look into a module that is imported its time too."""
    from forcefoundry.pairs.native import gather

    return gather
