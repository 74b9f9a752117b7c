"""Pairs as they are kept: each once, four bytes a pair, and the way back to the full list.

The canonical half of a structure's pairs has i < j, or i = j and S lexicographically positive, and is sorted by
(i, j, S). How many pairs an atom has as i is counted, so i itself need not be kept; j and S share a code:

    code = j << 15 | (S1 + 16) << 10 | (S2 + 16) << 5 | S3 + 16

with j counted from the structure's first atom. That holds for j < 131072 and |S| <= 15. A pair beyond either has the
code 0, which no other pair has, and stands in `wide`, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import Ints, Pairs
from forcefoundry.pairs.native.memory import SMALLEST, block


@dataclass(frozen=True)
class HalfPairs:
    """The canonical half of the pairs of a batch of S structures with N atoms, H pairs and W wide ones among them.

    offsets: (S + 1,) where each structure's atoms start. counts: (N,) pairs of each atom as i.
    pair_ends: (S + 1,) where each structure's codes start; codes: (H,). wide_ends: (S + 1,) where each structure's wide
    pairs start; wide: (W, 4), j from 0 within the structure, and S.
    """

    offsets: Ints
    counts: NDArray[np.int32]
    pair_ends: Ints
    codes: NDArray[np.uint32]
    wide_ends: Ints
    wide: NDArray[np.int32]

    def unpacked(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """i (H,), j (H,) and S (H, 3); atoms counted from 0 within each structure."""
        n_atoms = np.diff(self.offsets)
        local = np.arange(len(self.counts)) - np.repeat(self.offsets[:-1] - self.offsets[0], n_atoms)
        i = np.repeat(local, self.counts).astype(np.int32)
        j = (self.codes >> 15).astype(np.int32)
        S = ((self.codes[:, None] >> np.array([10, 5, 0], dtype=np.uint32)) & 31).astype(np.int32) - 16
        beside = self.codes == 0
        j[beside], S[beside] = self.wide[:, 0], self.wide[:, 1:]
        return i, j, S

    def mirrored(self) -> Pairs:
        """The full list, sorted by (i, j, S), atoms counted from the first of the batch.

        Where they are long, i, j and S share one block of memory, which lives as long as any of them. Codes that no
        finder wrote in that order are a ValueError, as far as that is seen on the way.
        """
        from forcefoundry.pairs.native.mirror import mirror  # numba: seconds

        i, j, S = room_for(2 * len(self.codes))
        kept = (self.offsets, self.counts, self.pair_ends, self.codes, self.wide_ends, self.wide)
        wrong = mirror(*kept, i, j, S)
        if wrong >= 0:
            raise ValueError(f"The codes of structure {wrong} are not in the order of pairs.")
        return Pairs(i, j, S.reshape(-1, 3))


def room_for(n_pairs: int) -> tuple[Ints, Ints, NDArray[np.int32]]:
    """i (P,), j (P,) and S (3 P,) that hold anything, in one block of memory where that can be used again."""
    n = 2 * n_pairs + (3 * n_pairs + 1) // 2
    if 8 * n < SMALLEST:
        return np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64), np.empty(3 * n_pairs, np.int32)
    whole = block(n)
    return whole[:n_pairs], whole[n_pairs : 2 * n_pairs], whole[2 * n_pairs :].view(np.int32)[: 3 * n_pairs]
