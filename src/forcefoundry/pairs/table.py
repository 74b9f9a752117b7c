"""The pairs of a data set's structures, one span of rows a structure, as batches read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import Ints, Pairs


@dataclass(frozen=True)
class PairTable:
    """Full pair lists of many structures, ragged.

    offsets: (n + 1,) where each structure's pairs start. i, j: (P,) atoms counted from 0 within the structure.
    S: (P, 3) lattice shifts. Within a structure sorted by (i, j, S).
    """

    cutoff: float
    offsets: Ints
    i: NDArray[np.int32]
    j: NDArray[np.int32]
    S: NDArray[np.int32]

    @property
    def n_pairs(self) -> int:
        """Number of ordered pairs of all structures."""
        return int(self.offsets[-1])

    @classmethod
    def of_parts(cls, cutoff: float, parts: Sequence[Pairs]) -> PairTable:
        """Join the pair lists of single structures, whose atoms are counted from 0."""
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part.i) for part in parts], out=offsets[1:])
        joined = [np.concatenate([getattr(part, name) for part in parts]) if parts else _empty(name) for name in "ijS"]
        i, j, S = (array.astype(np.int32) for array in joined)
        return cls(cutoff, offsets, i, j, S)

    def batch(self, structures: Ints, first_atoms: Ints) -> Pairs:
        """The pairs of a batch: those of the given structures, whose atoms start at `first_atoms` in the batch."""
        starts, stops = self.offsets[structures], self.offsets[structures + 1]
        counts = stops - starts
        rows = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        first = np.repeat(first_atoms, counts)
        return Pairs(self.i[rows] + first, self.j[rows] + first, self.S[rows].astype(np.int64))


def _empty(name: str) -> Ints:
    return np.zeros((0, 3) if name == "S" else 0, dtype=np.int64)
