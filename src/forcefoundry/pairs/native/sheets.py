"""What a finder's threads put pairs down on: packed halves as they are kept, or full lists."""

from __future__ import annotations

import numpy as np

from forcefoundry.pairs.contract import Ints, Pairs
from forcefoundry.pairs.half import HalfPairs, room_for
from forcefoundry.pairs.native.memory import block

MUCH = 2
"""Room for so many times what is there is not kept with it: the first chunks were much denser than the others."""


class Sheet:
    """The pairs of a batch while they are found.

    offsets: (S + 1,). counts: (N,) pairs of each atom as i. pair_ends, wide_ends: (S + 1,) where each structure's codes
    end, and its wide pairs, of which full lists have none apart. n_codes: how many there are, when all are counted.
    room: for how many there is room so far. codes: (room,), and wide: (w, 4); or, in a full list, i, j (2 room,) and S
    (6 room,).
    """

    full = False

    def __init__(self, offsets: Ints):
        self.offsets, self.n_codes, self.room = offsets, 0, 0
        # Every number of them is written while pairs are found, but for the first ones.
        self.counts = np.empty(offsets[-1], np.int32)
        self.pair_ends, self.wide_ends = np.empty(len(offsets), np.int64), np.empty(len(offsets), np.int64)
        self.pair_ends[0], self.wide_ends[0] = 0, 0
        self.codes, self.wide = np.empty(0, np.uint32), np.empty((0, 4), np.int32)
        self.i, self.j, self.S = room_for(0)

    def open(self, n_codes: int) -> None:
        """Make room for so many codes, or for the rows of so many. What was put down before is kept."""
        raise NotImplementedError


class HalfSheet(Sheet):
    """Packed halves."""

    def open(self, n_codes: int) -> None:
        """Make room for so many codes."""
        codes = block((n_codes + 1) // 2).view(np.uint32)
        codes[: self.room] = self.codes[: self.room]
        self.codes, self.room = codes, n_codes

    def half(self) -> HalfPairs:
        """What was put down."""
        codes = self.codes[: self.n_codes]
        if self.room > MUCH * self.n_codes + MUCH:
            codes = codes.copy()
        return HalfPairs(self.offsets, self.counts, self.pair_ends, codes, self.wide_ends, self.wide)


class FullSheet(Sheet):
    """Full lists, sorted by (i, j, S)."""

    full = True

    def open(self, n_codes: int) -> None:
        """Make room for the full list of so many codes."""
        i, j, S = room_for(2 * n_codes)
        before = 2 * self.room
        i[:before], j[:before], S[: 3 * before] = self.i[:before], self.j[:before], self.S[: 3 * before]
        self.i, self.j, self.S, self.room = i, j, S, n_codes

    def pairs(self) -> Pairs:
        """What was put down. Long lists share one block of memory, which lives as long as any of i, j and S."""
        if self.room > MUCH * self.n_codes + MUCH:
            self.room = self.n_codes
            self.open(self.n_codes)
        n_pairs = 2 * self.n_codes
        return Pairs(self.i[:n_pairs], self.j[:n_pairs], self.S[: 3 * n_pairs].reshape(-1, 3))
