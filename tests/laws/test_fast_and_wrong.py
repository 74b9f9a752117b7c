"""Neighbour lists that were fast and wrong, elsewhere: a test for each mistake, on every finder that runs here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs import Finder, Pairs, PairStore, PairTable
from forcefoundry.pairs.cache import fill_cache, read_table
from forcefoundry.pairs.table import Part
from tests.laws.finders import FINDERS
from tests.laws.rooms import changed
from tests.laws.rooms import structures as database
from tests.pairs.brute_force import Pair, Structure, by_loops, listed

PERIODIC = np.array([True, True, True])

finders = pytest.mark.parametrize("finder", FINDERS)


def expected(what: Structure) -> list[Pair]:
    """The pairs by plain loops; none so near the cutoff that rounding decides."""
    found, margin = by_loops(what)
    assert margin > 1e-9
    return sorted(found)


def crowd(n_atoms: int, lengths: tuple[float, float, float], cutoff: float, seed: int = 0) -> Structure:
    """Atoms anywhere in a periodic cell that is a little skewed."""
    rng = np.random.default_rng(seed)
    cell = np.diag(lengths) + rng.uniform(-0.1, 0.1, (3, 3)) * min(lengths)
    return Structure(rng.uniform(0.0, 1.0, (n_atoms, 3)) @ cell, cell, PERIODIC, cutoff)


@finders
@pytest.mark.parametrize("what", [crowd(1, (1.0, 1.0, 1.0), 6.9), crowd(6, (2.0, 1.9, 2.1), 4.0)], ids=["1", "6"])
def test_overflow(finder: Finder, what: Structure) -> None:
    """Neighbours beyond a guessed number were dropped without a word: here an atom has hundreds."""
    pairs = expected(what)
    assert len(pairs) > 150 * len(what.positions)
    assert listed(what.found_by(finder)) == pairs


@finders
@pytest.mark.parametrize("lengths", [(2.0, 9.0, 30.0), (1.1, 1.2, 30.0), (3.9, 4.0, 4.1)])
def test_duplicates(finder: Finder, lengths: tuple[float, float, float]) -> None:
    """Where a cell is as small as the cutoff, bins that were wrapped met themselves and listed pairs twice."""
    what = crowd(6, lengths, 4.0)
    found = listed(what.found_by(finder))
    assert len(set(found)) == len(found)
    assert found == expected(what)


@finders
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_wrong_pairs_on_axes_that_are_not_periodic_beyond_the_box(finder: Finder, axis: int) -> None:
    """Atoms beyond the cell along an open axis were wrapped into it, and met atoms that are far away."""
    what = crowd(10, (5.0, 5.2, 5.4), 4.0, seed=axis)
    pbc = np.arange(3) != axis
    positions = what.positions + np.linspace(-2.0, 2.0, 10)[:, None] * what.cell[axis]
    what = replace(what, positions=positions, pbc=pbc)
    found = what.found_by(finder)
    assert not found.S[:, axis].any()
    assert listed(found) == expected(what)


@finders
@pytest.mark.parametrize("vector", [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [3.0, 3.0, 0.1], [np.nan, np.inf, 0.0]])
def test_wrong_pairs_on_axes_that_are_not_periodic_whose_vector_means_nothing(
    finder: Finder, vector: list[float]
) -> None:
    """What stands in the cell for an open axis found its way into the pairs."""
    what = crowd(8, (5.0, 5.2, 5.4), 4.0)
    cell, pbc = what.cell.copy(), np.array([True, False, True])
    cell[1] = 0.0
    pairs = expected(replace(what, cell=cell, pbc=pbc))
    assert len(pairs) > 8
    cell[1] = vector
    assert listed(replace(what, cell=cell, pbc=pbc).found_by(finder)) == pairs


@finders
def test_int32_wrap_in_what_a_finder_gives(finder: Finder) -> None:
    """Atoms of a batch are counted in 64 bits, and shifts of atoms that are 2^30 cells apart are right."""
    far = float(2**29)
    what = Structure(np.array([[far, 0.0, 0.0], [0.25 - far, 0.5, 0.0]]), np.eye(3), PERIODIC, 0.75)
    found = what.found_by(finder)
    assert [array.dtype for array in (found.i, found.j, found.S)] == [np.int64, np.int64, np.int32]
    there, back = [(2**30, -1, 0), (2**30, 0, 0)], [(-(2**30), 0, 0), (-(2**30), 1, 0)]
    assert listed(found) == [*((0, 1, S) for S in there), *((1, 0, S) for S in back)]


def test_int32_wrap_in_totals() -> None:
    """By arithmetic, not by allocating: rows, structures and tables go on beyond 2^31 pairs."""
    from forcefoundry.pairs.native.chunks import cuts_of
    from forcefoundry.pairs.native.mirror import full_rows

    counts = np.full(8, 2**30, dtype=np.int32)
    starts, filled = np.empty(9, np.int64), np.empty(8, np.int64)
    full_rows(8, 2**40, counts, 0, np.zeros(0, np.uint32), 0, 0, np.zeros((0, 4), np.int32), 0, starts, filled)
    assert starts.tolist() == [2**40 + at * 2**30 for at in range(9)]
    assert cuts_of(np.array([0, 2**33, 2**34, 2**35]), 2**34).tolist() == [0, 2, 3]
    none = Part(np.zeros(0, np.uint8), np.zeros(0, np.uint32), np.zeros(0, np.int32))
    ends, zero = np.array([2**31, 2**33, 2**34]), np.zeros(3, np.int64)
    table = PairTable(5.0, [none], zero, zero, zero, np.array([0, 2**31, 2**33]), ends, zero, zero)
    assert table.pairs_of_structure.tolist() == [2**32, 2**34 - 2**32, 2**34]
    assert table.n_pairs == 2**35


def test_int32_wrap_is_refused_where_32_bits_are_kept() -> None:
    """The CPU's finder counts candidates in 32 bits: more of them are told before any memory is taken."""
    from forcefoundry.pairs.cpu import CpuFinder

    with pytest.raises(ValueError, match="System 0 has more than 2\\^31 images of atoms within the cutoff"):
        Structure(np.arange(9.0).reshape(3, 3) * 1e-3, np.eye(3) * 0.011, PERIODIC, 5.0).found_by(CpuFinder())


@finders
def test_edges_across_systems_of_a_batch(finder: Finder) -> None:
    """Systems that lie in one place saw each other's atoms; empty ones and single atoms are among them."""
    rng = np.random.default_rng(7)
    parts = [
        Structure(rng.uniform(0, 4, (n, 3)), np.eye(3) * 4.0, np.full(3, bool(n % 2)), 2.5) for n in (5, 0, 6, 1, 0, 5)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(part.positions) for part in parts])])
    found = finder(
        np.concatenate([part.positions for part in parts]),
        np.stack([part.cell for part in parts]),
        np.stack([part.pbc for part in parts]),
        2.5,
        offsets,
    )
    alone = [
        (i + start, j + start, S) for part, start in zip(parts, offsets, strict=False) for i, j, S in expected(part)
    ]
    assert listed(found) == alone


@finders
@pytest.mark.parametrize("mirror", [[-1, 1, 1], [1, -1, 1], [-1, -1, -1]])
def test_left_handed_cells(finder: Finder, mirror: list[int]) -> None:
    """A cell of negative volume gave no pairs, or those of another cell."""
    what = crowd(8, (5.0, 3.2, 4.4), 4.0)
    left = replace(what, cell=what.cell * np.array(mirror)[:, None])
    assert np.linalg.det(left.cell) < 0
    assert listed(left.found_by(finder)) == expected(left)


@finders
@pytest.mark.parametrize("farthest", [1, 3, 200])
def test_unwrapped_atoms(finder: Finder, farthest: int) -> None:
    """Atoms that wandered off by some cells lost their neighbours; the shifts say how far they went."""
    what = crowd(8, (5.0, 4.2, 4.4), 4.0)
    away = np.random.default_rng(farthest).integers(-farthest, farthest + 1, what.positions.shape)
    wandered = replace(what, positions=what.positions + away @ what.cell)
    shifted = [(i, j, tuple(int(n) for n in np.array(S) + away[i] - away[j])) for i, j, S in expected(what)]
    assert listed(wandered.found_by(finder)) == sorted(shifted)


@finders
def test_a_cache_keyed_by_row_that_stays_stale(finder: Finder, tmp_path: Path) -> None:
    """Rows that changed, moved or were given another cell read the pairs of what stood in that row before."""
    before = database(6)

    def read(base: object, cutoff: float = 3.0) -> list[Pairs]:
        store = PairStore(tmp_path, cutoff)
        with pytest.raises(ValueError, match="Run precompute_pairs"):
            read_table(base, store)  # type: ignore[arg-type]
        fill_cache(base, store, finder)  # type: ignore[arg-type]
        table = read_table(base, store)  # type: ignore[arg-type]
        return [table.batch(np.array([at]), np.array([0])) for at in range(len(table))]

    def fresh(base: object, cutoff: float = 3.0) -> list[Pairs]:
        columns, offsets = base.columns, base.offsets  # type: ignore[attr-defined]
        return [
            Structure(columns["positions"][offsets[s] : offsets[s + 1]], cell, pbc, cutoff).found_by(finder)
            for s, (cell, pbc) in enumerate(zip(columns["cell"], columns["pbc"], strict=True))
        ]

    moved, strained, flipped = before.columns["positions"].copy(), before.columns["cell"] * 1.01, before.columns["pbc"]
    moved[before.offsets[1]] += 0.5
    bases = [before, changed(before, positions=moved), changed(before, cell=strained)]
    bases.append(changed(before, pbc=flipped & np.array([True, True, False])))
    assert len({keys_of(base.columns).tobytes() for base in bases}) == 4
    for base, cutoff in [*((base, 3.0) for base in bases), (before, 3.5)]:
        for found, truth in zip(read(base, cutoff), fresh(base, cutoff), strict=True):
            assert listed(found) == listed(truth)
    order = np.arange(len(before))[::-1]
    positions, cell, pbc, offsets = before.take(order)
    species = np.concatenate([before.columns["species"][before.atoms(at)] for at in order])
    turned = type(before)(
        {"n_atoms": np.diff(offsets), "species": species, "positions": positions, "cell": cell, "pbc": pbc}, {}
    )
    table = read_table(turned, PairStore(tmp_path, 3.0))  # nothing new: only the order is
    for at, truth in enumerate(fresh(turned)):
        assert listed(table.batch(np.array([at]), np.array([0]))) == listed(truth)
