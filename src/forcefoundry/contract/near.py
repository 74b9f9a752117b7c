"""Structures that are nearly there already, however turned, numbered, shifted or wrapped.

Candidates lie within a radius of each other's fingerprints; what decides is the sorted distances of each pair of
elements. Mirror images have the same ones, and the same energy: they count as duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.distances import alike, sorted_distances
from forcefoundry.contract.fingerprints import steepness
from forcefoundry.contract.measures import Ints, Measures, first_of_key, row_numbers

TOLERANCE = 0.001
"""Å: root mean square of the differences between sorted distances, up to which structures are near duplicates."""

MOST = 32
"""Candidates of a row that are compared, those nearest in fingerprint; more are of rows that repeat each other."""

_ROWS = 4096  # searched for at once
_PAIRS = 512  # compared at once

Take = Callable[[Ints], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Near:
    """Near duplicates.

    Attributes:
        pairs: (m, 2) a row and one before it, sorted; exact repeats of a content key are among them, each with the
            first of its key alone.
        twin: (n,) the first row that each is a near duplicate of, -1 for none. For `Measures.twin`.
    """

    pairs: Ints
    twin: Ints


def near_duplicates(measures: Measures, take: Take, tolerance: float = TOLERANCE) -> Near:
    """All near duplicates among measured rows.

    The door gives `pairs` to `databases.splitting.assign` and puts `twin` into the measures for the checks.

    Args:
        measures: of n rows, with their keys, compositions, pbc and fingerprints.
        take: packed columns (n_atoms, species, positions, cell, pbc) of those rows, ascending numbers, at most some
            thousands at a time.
        tolerance: Å, root mean square over the sorted distances.
    """
    n = len(measures)
    first = first_of_key(measures.keys)
    found = [np.stack([repeats := np.flatnonzero(first != np.arange(n)), first[repeats]], axis=1)]
    for candidates in _candidates(measures, np.flatnonzero(first == np.arange(n)), tolerance):
        found.append(candidates[_confirmed(candidates, take, tolerance)])
    pairs = np.concatenate(found).astype(np.int64)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    twin = np.full(n, -1, dtype=np.int64)
    rows, at = np.unique(pairs[:, 0], return_index=True)
    twin[rows] = pairs[at, 1]
    return Near(pairs, twin)


def _candidates(measures: Measures, rows: Ints, tolerance: float) -> Iterator[Ints]:
    """Pairs (later, earlier) of equal composition and pbc with close fingerprints, some thousand rows' at a time."""
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    fine = rows[np.isfinite(measures.fingerprint[rows]).all(axis=1)]
    for members in _same_make(measures, fine):
        points = measures.fingerprint[members].astype(np.float64)
        # A distance that changes by the tolerance moves a fingerprint by so much at most; there are points[:, 0] or so
        # pairs an atom. Float32 rounds on top.
        radius = tolerance * steepness() * np.maximum(np.abs(points[:, 0]), 0.5) + 1e-5
        tree = cKDTree(points)
        for start in range(0, len(members), _ROWS):
            stop = min(start + _ROWS, len(members))
            k = min(MOST + 1, len(members))
            apart, others = tree.query(points[start:stop], k=k, distance_upper_bound=float(radius[start:stop].max()))
            near = apart <= radius[start:stop, None]
            at, column = np.nonzero(near)
            pairs = np.stack([members[start + at], members[others[at, column]]], axis=1)
            pairs = pairs[pairs[:, 0] > pairs[:, 1]]
            if len(pairs):
                yield pairs


def _same_make(measures: Measures, rows: Ints) -> Iterator[Ints]:
    """Rows, ascending, of two or more with the same composition and pbc."""
    if not len(rows):
        return
    number = row_numbers(column[rows] for column in (*measures.composition.T, *measures.pbc.T))
    order = np.argsort(number, kind="stable")
    cuts = np.flatnonzero(np.diff(number[order])) + 1
    for start, stop in pairwise([0, *cuts.tolist(), len(rows)]):
        if stop - start > 1:
            yield rows[order[start:stop]]


def _confirmed(pairs: Ints, take: Take, tolerance: float) -> NDArray[np.bool_]:
    """(m,) whether the distances of both structures of each pair agree."""
    sure = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), _PAIRS):
        part = pairs[start : start + _PAIRS]
        rows, places = np.unique(part, return_inverse=True)
        lists = sorted_distances(take(rows))
        for at, (one, two) in enumerate(places.reshape(-1, 2).tolist()):
            sure[start + at] = alike(lists[one], lists[two], tolerance)
    return sure
