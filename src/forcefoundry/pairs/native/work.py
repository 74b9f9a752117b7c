"""What one thread does with a batch in chunks: take one, search it, and put down in order what is found.

A chunk is small enough for what is found in it to stay in a core's own memory until it is put down, which is done when
all that lies before it has been counted. So no thread waits for another, one that the system stops holds up none of
the others' chunks, and which thread took which chunk shows nowhere in the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, kept, making
from forcefoundry.pairs.native.lanes import LANES, get, put
from forcefoundry.pairs.native.mirror import largest_of, mirror_all, scratch
from forcefoundry.pairs.native.search import FINE, search
from forcefoundry.pairs.native.shared import publish, published, take_number

NO_ROOM = -1
"""Where a problem would be: there is no room to put down what is found."""

LOOKS = 400_000
"""How often a thread that is done looks for what another is about to say, which takes it some tenths of a ms."""

KNOWN, PUT, TAKEN = 0, 1, 2
"""In `state`: of how many chunks it is known where they start; how many of the own ones are put down, and are taken."""

CHUNK, CODES, WIDE = 0, 1, 2
"""In a row of `own`, one for each chunk of the thread: which it is, and where its codes and wide pairs start."""


@compiled
def put_codes(pair_ends, first, last, begin, start, codes, out):
    """Copy the codes of structures first ... last - 1, from number `begin` of a room to number `start` of `out` on."""
    for at in range(pair_ends[last] - begin):
        put(out, start + at, get(codes, begin + at))
    for s in range(first + 1, last + 1):
        pair_ends[s] += start - begin


@compiled
def is_counted_soon(counted, chunk):
    """Whether a chunk that another thread is searching is counted within a moment, less than to wake a thread takes."""
    if chunk < len(counted):
        for _ in range(LOOKS):
            if published(counted, chunk) > 0:
                return True
    return False


@making
def enough_scratch(firsts, filled, mirrored, atoms, pairs):
    """What mirroring works in, with room for a structure of so many atoms and pairs of the half."""
    if atoms + 1 > len(firsts) or 2 * (pairs + LANES) > len(mirrored):
        return scratch(max(2 * atoms, len(firsts)), max(2 * pairs, len(mirrored) // 2))
    return firsts, filled, mirrored


def _make_work(version: int) -> Callable[..., Any]:
    def work(
        positions, cell, pbc, cutoff, offsets, careful, cuts, counts, pair_ends, wide_ends,
        taken, counted, state, starts, own, used,
        home_floats, home_ints, found_floats, found_ints, codes, wide,
        waits, room, full, all_codes, i_out, j_out, S_out,
    ):  # fmt: skip
        """Search chunks until none is left, and put down what has its place by then.

        cuts: (C + 1,) where chunks of structures start. counts: (N,) int32, the pairs of each atom. pair_ends and
        wide_ends: (S + 1,), where each structure's codes end among all, and its wide pairs in its thread's room.
        taken: (1,) chunks taken, and counted: (C,) one more than the codes of each, both of all threads. state (3,),
        starts (C + 1,), own (C, 3) and used (2,) are this thread's, and so are the six arrays that `search` works in.
        room: for how many codes there is room in all_codes or, where `full`, for the rows of how many in i_out, j_out
        and S_out, which is flat. waits: go on where it is not enough, in place of saying so. Gives what went wrong,
        and the arrays that `search` works in.
        """
        _ = version
        firsts, filled, mirrored = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint32)
        problem = (FINE, np.int64(0), np.int64(0), np.int64(0))
        while True:
            while state[KNOWN] < len(counted) and published(counted, state[KNOWN]) > 0:
                starts[state[KNOWN] + 1] = starts[state[KNOWN]] + published(counted, state[KNOWN]) - 1
                state[KNOWN] += 1
            while state[PUT] < state[TAKEN] and own[state[PUT], CHUNK] < state[KNOWN]:
                chunk, begin, wide_begin = own[state[PUT]]
                start, first, last = starts[chunk], cuts[chunk], cuts[chunk + 1]
                if starts[chunk + 1] > room:
                    if not waits:
                        problem = (NO_ROOM, np.int64(0), np.int64(0), np.int64(0))
                    break
                if full:
                    atoms, pairs = largest_of(offsets, pair_ends, begin, first, last)
                    firsts, filled, mirrored = enough_scratch(firsts, filled, mirrored, atoms, pairs)
                    mirror_all(
                        offsets, counts, pair_ends, codes, begin, wide_ends, wide, wide_begin, first, last,
                        firsts, filled, mirrored, 2 * start, i_out, j_out, S_out,
                    )  # fmt: skip
                else:
                    put_codes(pair_ends, first, last, begin, start, codes, all_codes)
                state[PUT] += 1
            if problem[0] != FINE:
                break
            if state[PUT] == state[TAKEN]:
                used[0] = 0
                if full:
                    used[1] = 0
            chunk = take_number(taken, 0)
            if chunk >= len(counted):
                if state[PUT] < state[TAKEN] and is_counted_soon(counted, state[KNOWN]):
                    continue
                break
            at = state[TAKEN]
            own[at, CHUNK], own[at, CODES], own[at, WIDE] = chunk, used[0], used[1]
            problem, home_floats, home_ints, found_floats, found_ints, codes, wide = search(
                positions, cell, pbc, cutoff, offsets, cuts[chunk], cuts[chunk + 1], careful,
                counts, pair_ends, wide_ends, used, home_floats, home_ints, found_floats, found_ints, codes, wide,
            )  # fmt: skip
            if problem[0] != FINE:
                publish(taken, 0, len(counted))
                break
            state[TAKEN] = at + 1
            publish(counted, chunk, used[0] - own[at, CODES] + 1)
        return problem, home_floats, home_ints, found_floats, found_ints, codes, wide

    return work


work = kept(_make_work, slow="the pair finder")
