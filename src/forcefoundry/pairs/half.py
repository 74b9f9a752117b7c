"""Pairs as they are kept: each once, four bytes a pair, and the way back to the full list.

The canonical half of a structure's pairs has i < j, or i = j and S lexicographically positive, and is sorted by
(i, j, S). How many pairs an atom has as i is counted, so i itself need not be kept; j and S share a code:

    code = j << 15 | (S1 + 16) << 10 | (S2 + 16) << 5 | S3 + 16

with j counted from the structure's first atom. That holds for j < 131072 and |S| <= 15. A pair beyond either has the
code 0, which no other pair has, and stands in `wide`, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.contract import Ints, Pairs
from forcefoundry.pairs.native.mirror import mirror

Result = TypeVar("Result")


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

    def mirrored(self, threads: int = 1) -> Pairs:
        """The full list, sorted by (i, j, S), atoms counted from the first of the batch.

        i, j and S share one block of memory, which lives as long as any of them.
        """
        n_pairs = 2 * len(self.codes)
        # One large block: large ones come in large pages, and making pages costs more than filling them.
        block = np.empty(5 * n_pairs, dtype=np.int64)
        i, j, S = block[:n_pairs], block[n_pairs : 2 * n_pairs], block[2 * n_pairs :]
        kept = (self.offsets, self.counts, self.pair_ends, self.codes, self.wide_ends, self.wide)

        def write(first: int, last: int) -> None:
            mirror(*kept, first, last, i, j, S)

        side_by_side(write, self.pair_ends, threads)
        return Pairs(i, j, S.reshape(-1, 3))


def side_by_side(work: Callable[[int, int], Result], ends: Ints, threads: int) -> list[Result]:
    """Do `work(first, last)` on spans of structures in threads; the results in order.

    ends: (S + 1,) running totals of what the structures cost; spans cost about the same. What is in a span never
    depends on another, so the number of threads changes no result.
    """
    if threads <= 1:
        return [work(0, len(ends) - 1)]
    shares = np.linspace(ends[0], ends[-1], threads + 1)[1:-1]
    cuts = sorted({0, len(ends) - 1, *(int(cut) for cut in np.searchsorted(ends, shares))})
    if len(cuts) <= 2:
        return [work(0, len(ends) - 1)]
    with ThreadPoolExecutor(len(cuts) - 1) as pool:
        return list(pool.map(work, cuts[:-1], cuts[1:]))
