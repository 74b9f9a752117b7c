"""Pairs by plain loops, written for the tests alone, and structures to try finders on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from forcefoundry.pairs import Finder, Pairs

Pair = tuple[int, int, tuple[int, int, int]]


@dataclass(frozen=True)
class Structure:
    """One structure and a cutoff."""

    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    cutoff: float

    def found_by(self, finder: Finder) -> Pairs:
        """The structure as a batch of one."""
        offsets = np.array([0, len(self.positions)])
        return finder(self.positions, self.cell[None], self.pbc[None], self.cutoff, offsets)


def listed(pairs: Pairs) -> list[Pair]:
    """Pairs as plain tuples, in their order."""
    return [
        (int(i), int(j), (int(S[0]), int(S[1]), int(S[2]))) for i, j, S in zip(pairs.i, pairs.j, pairs.S, strict=True)
    ]


def by_loops(what: Structure) -> tuple[dict[Pair, float], float]:
    """Every pair with its distance, and how far the nearest decision was from the cutoff.

    Enough images are tried for atoms that lie anywhere: the fractional coordinates say how many cells lie between two
    atoms, and the cell's heights how many more the cutoff reaches.
    """
    periodic = [axis for axis in range(3) if what.pbc[axis]]
    vectors = what.cell[periodic]
    found: dict[Pair, float] = {}
    margin = np.inf
    if periodic:
        dual = np.linalg.pinv(vectors)  # (3, p): the fractional coordinates are r @ dual
        reach = np.ceil(what.cutoff * np.linalg.norm(dual, axis=0)).astype(int) + 1
    for i, here in enumerate(what.positions):
        for j, there in enumerate(what.positions):
            between = there - here
            middle = np.rint(between @ dual).astype(int) if periodic else np.zeros(0, dtype=int)
            ranges = [range(-m - n, -m + n + 1) for m, n in zip(middle, reach, strict=True)] if periodic else []
            for counts in itertools.product(*ranges):
                S = [0, 0, 0]
                for axis, count in zip(periodic, counts, strict=True):
                    S[axis] = count
                if i == j and not any(S):
                    continue
                distance = float(np.linalg.norm(between + (np.array(counts) @ vectors if periodic else 0.0)))
                margin = min(margin, abs(distance - what.cutoff), distance)
                if 0.0 < distance < what.cutoff:
                    found[i, j, (S[0], S[1], S[2])] = distance
    return found, margin


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Open, periodic and mixed structures: skewed, left-handed, tiny and elongated cells, atoms anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    lengths = np.array([draw(st.sampled_from([0.9, 1.7, 3.0, 5.5, 9.0])) for _ in range(3)])
    skew = draw(st.sampled_from([0.0, 0.3, 0.9]))
    cell = (np.eye(3) + rng.uniform(-skew, skew, (3, 3))) * lengths[:, None]
    if abs(np.linalg.det(cell / lengths[:, None])) < 0.1:
        cell = np.diag(lengths)
    if draw(st.booleans()):
        cell[0] *= -1.0  # left-handed
    if draw(st.booleans()):
        cell = np.where(pbc[:, None], cell, 0.0)
    spread = draw(st.sampled_from([1.0, 4.0, 25.0]))  # atoms unwrapped by so many cells
    fractional = rng.uniform(-spread, spread, (draw(st.integers(1, 5)), 3))
    at = np.where(pbc, fractional, rng.uniform(0.0, 1.0, fractional.shape))
    box = np.where(np.abs(cell).sum(axis=1, keepdims=True) > 0, cell, np.diag(lengths))
    cutoff = draw(st.sampled_from([0.5, 1.3, 2.9, 4.0]))
    return Structure(at @ box, cell, pbc, cutoff)
