"""All distances of a structure, sorted, for each pair of elements: what two structures are compared by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.fingerprints import periodic_frames

REACH = 6.0
"""Å: distances that are compared, of periodic structures and of large ones; of others all are."""

_LARGE = 500  # atoms

Lists = Mapping[int, NDArray[np.float64]]


def sorted_distances(columns: Mapping[str, NDArray[Any]]) -> list[Lists]:
    """For each structure of packed columns: pair of elements, 1000 · lower + higher number, to its distances in Å."""
    offsets = np.concatenate([[0], np.cumsum(columns["n_atoms"])]).astype(np.int64)
    cells, inverses, images = periodic_frames(columns["cell"], columns["pbc"], REACH)
    species = np.asarray(columns["species"], dtype=np.int64)
    positions = np.ascontiguousarray(columns["positions"], dtype=np.float64)
    found: list[Lists] = []
    for at, (start, stop) in enumerate(pairwise(offsets.tolist())):
        whole = not columns["pbc"][at].any() and stop - start <= _LARGE
        reach = np.inf if whole else REACH
        apart, pair = _distances()(
            positions[start:stop], species[start:stop], cells[at], inverses[at], images[at], reach
        )
        order = np.lexsort((apart, pair))
        apart, pair = apart[order], pair[order]
        kinds, cuts = np.unique(pair, return_index=True)
        found.append(dict(zip(kinds.tolist(), np.split(apart, cuts[1:]), strict=False)))
    return found


def alike(one: Lists, two: Lists, tolerance: float) -> bool:
    """Whether sorted distances differ by at most `tolerance` (Å, root mean square), each element pair's.

    Distances at the end of the reach may be on either side of it: those are left out.
    """
    edge = REACH - 5.0 * tolerance
    for kind in one.keys() | two.keys():
        first, second = one.get(kind, _NONE), two.get(kind, _NONE)
        count = min(len(first), len(second))
        longer = first if len(first) > count else second
        if len(longer) > count and longer[count] < edge:
            return False
        if count and np.sqrt(np.mean((first[:count] - second[:count]) ** 2)) > tolerance:
            return False
    return True


_NONE: NDArray[np.float64] = np.zeros(0)


@cache
def _distances() -> Any:
    from forcefoundry.pairs.native.compiling import kept  # numba: a second, and not before it is needed

    return kept(_make)


def _make(sources: int) -> Any:
    number = sources

    def distances(
        positions: Any, species: Any, cell: Any, inverse: Any, images: Any, reach: float
    ) -> Any:  # pragma: no cover - compiled
        # Counted first, written then: the second time over.
        na, nb, nc = images[0], images[1], images[2]
        apart, pair = np.empty(0), np.empty(0, np.int64)
        for write in range(2):
            count = 0
            for i in range(len(positions)):
                for j in range(i, len(positions)):
                    d = positions[j] - positions[i]
                    a = -np.rint(d[0] * inverse[0, 0] + d[1] * inverse[1, 0] + d[2] * inverse[2, 0])
                    b = -np.rint(d[0] * inverse[0, 1] + d[1] * inverse[1, 1] + d[2] * inverse[2, 1])
                    c = -np.rint(d[0] * inverse[0, 2] + d[1] * inverse[1, 2] + d[2] * inverse[2, 2])
                    low, high = min(species[i], species[j]), max(species[i], species[j])
                    for u in range(-na, na + 1):
                        for v in range(-nb, nb + 1):
                            for w in range(-nc, nc + 1):
                                if i == j and (u < 0 or (u == 0 and (v < 0 or (v == 0 and w <= 0)))):
                                    continue
                                p = d[0] + (a + u) * cell[0, 0] + (b + v) * cell[1, 0] + (c + w) * cell[2, 0]
                                q = d[1] + (a + u) * cell[0, 1] + (b + v) * cell[1, 1] + (c + w) * cell[2, 1]
                                s = d[2] + (a + u) * cell[0, 2] + (b + v) * cell[1, 2] + (c + w) * cell[2, 2]
                                square = p * p + q * q + s * s
                                if square < reach * reach:
                                    if write == 1:
                                        apart[count] = np.sqrt(square)
                                        pair[count] = 1000 * low + high + 0 * number
                                    count += 1
            if write == 0:
                apart, pair = np.empty(count), np.empty(count, np.int64)
        return apart, pair

    return distances
