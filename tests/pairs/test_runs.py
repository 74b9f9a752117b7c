"""Full lists of few atoms in small cells, mirrored run by run: those of brute force, and nothing out of place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefoundry.pairs import ReferenceFinder
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.native.runs import FEW, has_long_runs
from forcefoundry.pairs.table import PairTable

CUTOFF = 6.0
NOBODY = np.zeros((0, 4), np.int32)


@st.composite
def cells(draw: st.DrawFn) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some structures of up to one atom more than runs are made of, from wide to so small that all have long runs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for n_atoms in draw(st.lists(st.integers(0, FEW + 1), min_size=1, max_size=6)):
        edge = draw(st.sampled_from([1.9, 2.5, 4.0])) * max(1, n_atoms) ** (1 / 3)
        cell = (np.eye(3) + rng.uniform(-0.25, 0.25, (3, 3))) * edge
        grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) / 3
        places = (grid[rng.permutation(27)[:n_atoms]] + rng.uniform(-2, 2, 3)) @ cell
        pbc = np.array(draw(st.sampled_from([(True, True, True), (True, True, False), (False, False, True)])))
        found.append((places + rng.normal(0, 0.02, places.shape), cell, pbc))
    return found


@settings(max_examples=150)
@given(cells())
def test_they_are_what_brute_force_finds_when_found_and_out_of_the_cache(
    structures: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(places) for places, _, _ in structures])])
    positions, cell, pbc = (np.concatenate([one[k].reshape(-1, 3) for one in structures]) for k in (0, 1, 2))
    what = (positions, cell.reshape(-1, 3, 3), pbc, CUTOFF, offsets)
    wanted = ReferenceFinder()(*what)
    table = PairTable.of_half(CUTOFF, CpuFinder().half(*what))
    cached = table.batch(np.arange(len(structures)), offsets[:-1])
    for found in (CpuFinder()(*what), cached):
        for key in ("i", "j", "S"):
            np.testing.assert_array_equal(getattr(found, key), getattr(wanted, key))


def tiny(n_atoms: int) -> HalfPairs:
    """The half list of a small periodic cell, in which runs are long where there are few atoms."""
    rng = np.random.default_rng(n_atoms)
    places = rng.permutation(64)[:n_atoms, None] // np.array([16, 4, 1]) % 4 / 4 * 2.2 * n_atoms ** (1 / 3)
    cell, pbc = np.eye(3)[None] * 2.2 * n_atoms ** (1 / 3), np.ones((1, 3), dtype=bool)
    half = CpuFinder().half(places, cell, pbc, CUTOFF, np.array([0, n_atoms]))
    assert has_long_runs(n_atoms, len(half.codes)) == (n_atoms <= FEW)
    return half


def test_pairs_of_lower_atoms_are_not_taken_for_pairs() -> None:
    half = tiny(3)
    second = int(half.counts[0])
    half.codes[second + int(half.counts[1]) - 1] &= 32767  # the last pair of atom 1 is one of atom 0
    with pytest.raises(ValueError, match="structure 0 in memory cannot be its own"):
        PairTable.of_half(CUTOFF, half).batch(np.zeros(3, dtype=np.int64), np.array([0, 3, 6]))
    thrice = PairTable.of_half(CUTOFF, half).half(np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="codes of structure 1 are not in the order of pairs"):
        thrice.mirrored()  # the first and the last lie where too little is around them to be copied in runs


@pytest.mark.parametrize("n_atoms", [1, 2, 3, 8, FEW, 30])
def test_whatever_codes_there_are_no_atom_of_another_structure_comes_out(n_atoms: int) -> None:
    """What a file holds may be damaged: then pairs may be wrong, but none leads anywhere else."""
    rng = np.random.default_rng(7)
    right = tiny(n_atoms)
    refused = 0
    for _ in range(400):
        codes = right.codes.copy()
        some = rng.integers(0, len(codes), rng.integers(1, 3))
        atoms = rng.choice([codes[some] >> 15, rng.integers(0, n_atoms, len(some)).astype(np.uint32)])
        codes[some] = atoms << 15 | rng.integers(1, 2**15, len(some), dtype=np.uint32)
        bent = HalfPairs(right.offsets, right.counts, right.pair_ends, codes, right.wide_ends, NOBODY)
        table = PairTable.of_half(CUTOFF, bent)
        try:
            pairs = table.batch(np.zeros(2, dtype=np.int64), np.array([0, n_atoms]))
        except ValueError:
            refused += 1
            continue
        for values in (pairs.i, pairs.j):
            assert len(values) == 4 * len(codes)
            first, second = values[: 2 * len(codes)], values[2 * len(codes) :]
            assert 0 <= first.min() <= first.max() < n_atoms <= second.min() <= second.max() < 2 * n_atoms
        assert np.abs(pairs.S).max() <= 15
    assert 0 < refused < 400
