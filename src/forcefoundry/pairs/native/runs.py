"""The full list of a structure of few atoms in a small cell: many of its pairs, one after another, are of the same two.

Counting them one by one, each count waits for the last one to be written; and for rows so short the processor guesses
wrong where each ends. Runs of pairs of the same two atoms are copied in one go.
"""

from __future__ import annotations

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, inlined
from forcefoundry.pairs.native.lanes import LANES, get, put
from forcefoundry.pairs.native.writing import put_lanes, put_mirrored

HOME = (16 << 10) + (16 << 5) + 16
"""The shift fields of the code of a pair within the cell."""

MIRROR = 2 * HOME
"""The shift fields of a code and of its mirror image add up to this."""

FEW = 16
"""The most atoms that this is done for."""

RUNS = FEW * FEW
"""For so many numbers there must be room in `ends`, whatever the structure."""


@inlined
def has_long_runs(n, m):
    """Whether n atoms with m codes are better mirrored run by run: from four codes a run on, by measurement."""
    return n <= FEW and m >= 2 * n * n


@compiled
def find_runs(n, counts, row0, codes, p, ends):
    """Write to ends[n i + j] where the run of atoms i and j ends, which is where the next one starts."""
    for run in range(n * n):
        put(ends, run, 0)
    at = p
    for i in range(n):
        end = at + np.int64(get(counts, row0 + i))
        for q in range(at, end):
            put(ends, n * i + np.int64(get(codes, q) >> np.uint32(15)), q + 1)
        at = end
    at = p
    for run in range(n * n):
        at = max(at, get(ends, run))
        put(ends, run, at)


@compiled
def mirror_runs(n, base, counts, row0, codes, p, starts, ends, full):
    """Write the codes of the full list of one structure, as `mirror_codes` does, and where its rows start, from `base`.

    The codes are those from number p on; LANES before and behind them are read, not used. Full is written in order, up
    to 2 LANES beyond its end: what is written over the end of a run, the next run replaces. Gives how many codes there
    are, which is not twice those given where these are not in order.
    """
    find_runs(n, counts, row0, codes, p, ends)
    at, own = 0, p
    for j in range(n):
        put(starts, j, base + at)
        for i in range(j + 1):
            run = n * i + j
            end = get(ends, run)
            first = p if run == 0 else get(ends, run - 1)
            mirrored = np.uint32((i << 15) + MIRROR)
            put_mirrored(full, at, codes, end, mirrored)
            for done in range(LANES, end - first, LANES):
                put_mirrored(full, at + done, codes, end - done, mirrored)
            at += end - first
        near = int(get(counts, row0 + j))
        for done in range(0, near, LANES):
            put_lanes(full, at + done, codes, own + done)
        at += near
        own += near
    put(starts, n, base + at)
    return at
