"""Batches in chunks: however they are cut and whoever takes which, the pairs are those of the structures alone."""

from __future__ import annotations

import numpy as np
import pytest

from forcefoundry.pairs.contract import Ints, Pairs
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.native import chunks, work
from forcefoundry.pairs.native.search import FINE
from forcefoundry.pairs.native.sheets import FullSheet, HalfSheet

OPEN, PERIODIC = np.zeros(3, bool), np.ones(3, bool)

Batch = tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ATOMS", 40)
    monkeypatch.setattr(chunks, "FEWEST", 10)


def batch(kinds: list[tuple[int, float, float]], seed: int = 0, cutoff: float = 2.0) -> Batch:
    """Structures of so many atoms at such a density, moved away by so many cells; every third is open."""
    rng = np.random.default_rng(seed)
    positions, cells, pbc = [], [], []
    for at, (n, density, far) in enumerate(kinds):
        edge = max((max(n, 1) / density) ** (1 / 3), 0.5)
        places = rng.uniform(0.0, edge, (n, 3))
        places[1::2] += far * edge if at % 3 else 0.0
        positions.append(places)
        cells.append(np.eye(3) * edge)
        pbc.append(PERIODIC if at % 3 else OPEN)
    offsets = np.concatenate([[0], np.cumsum([n for n, *_ in kinds])])
    return np.concatenate([np.zeros((0, 3)), *positions]), np.array(cells), np.array(pbc), cutoff, offsets


def alone(given: Batch) -> Pairs:
    """The pairs of each structure, found by itself, one behind another."""
    positions, cell, pbc, cutoff, offsets = given
    found = []
    for s in range(len(cell)):
        atoms = slice(offsets[s], offsets[s + 1])
        one = CpuFinder()(
            positions[atoms], cell[s : s + 1], pbc[s : s + 1], cutoff, np.array([0, atoms.stop - atoms.start])
        )
        found.append(Pairs(one.i + offsets[s], one.j + offsets[s], one.S))
    i, j, S = (np.concatenate([getattr(one, name) for one in found]) for name in ("i", "j", "S"))
    return Pairs(i, j, S)


def check(given: Batch) -> HalfPairs:
    """Fail unless full lists and halves of the batch are those of its structures; gives the half."""
    expected, halves = alone(given), []
    for threads in (1, 2, 5):
        finder = CpuFinder(threads=threads)
        half = finder.half(*given)
        for found in (finder(*given), half.mirrored()):
            for name in ("i", "j", "S"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        halves.append([getattr(half, name).tobytes() for name in HalfPairs.__dataclass_fields__])
    assert all(half == halves[0] for half in halves)
    return half


def test_structures_of_all_sizes() -> None:
    rng = np.random.default_rng(1)
    check(batch([(int(n), 0.1, 0.0) for n in rng.integers(0, 60, 70)]))


def test_empty_structures_and_empty_batches() -> None:
    check(batch([(0, 0.1, 0.0)] * 3))
    check(batch([(0, 0.1, 0.0), (90, 0.1, 0.0), (0, 0.1, 0.0), (30, 0.1, 0.0), (0, 0.1, 0.0)]))
    none = CpuFinder(threads=2).half(np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros((0, 3), bool), 2.0, np.array([0]))
    assert len(none.codes) == 0
    assert none.pair_ends.tolist() == [0]


@pytest.mark.parametrize("kind", [HalfSheet, FullSheet])
def test_more_pairs_than_the_first_chunks_lead_to_expect(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is made a second time, and what was put down before is kept."""
    opened = []
    real = kind.open

    def noted(sheet: HalfSheet | FullSheet, n_codes: int) -> None:
        opened.append((sheet.room, n_codes))
        real(sheet, n_codes)

    monkeypatch.setattr(kind, "open", noted)
    given = batch([(30, 0.01, 0.0)] * 20 + [(60, 1.5, 0.0)] * 20)
    check(given)
    assert any(room > 0 for room, _ in opened)
    assert all(n_codes > room for room, n_codes in opened)


@pytest.mark.parametrize("kind", [HalfSheet, FullSheet])
def test_more_room_than_there_is_is_not_needed_because_the_first_chunks_are_dense(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batch([(60, 1.5, 0.0)] + [(30, 0.01, 0.0)] * 40)
    needed, refused = len(CpuFinder().half(*given).codes), []
    real = kind.open

    def within_memory(sheet: HalfSheet | FullSheet, n_codes: int) -> None:
        if n_codes > 2 * needed:
            refused.append(n_codes)
            raise MemoryError
        real(sheet, n_codes)

    monkeypatch.setattr(kind, "open", within_memory)
    check(given)
    assert refused


def test_room_for_many_more_pairs_than_there_are_is_not_kept() -> None:
    """The first chunks were dense: what is kept of the batch holds on to no more memory than it needs."""
    given = batch([(60, 1.5, 0.0)] * 3 + [(30, 0.001, 0.0)] * 300)
    check(given)
    for threads in (1, 3):
        half = CpuFinder(threads=threads).half(*given)
        assert half.codes.flags.owndata
        sheet = FullSheet(given[-1])
        search = chunks.Chunks(given, sheet, threads, careful=True)
        assert search.search() == (FINE, 0, 0, 0)
        assert sheet.room > 2 * len(half.codes)
        assert len(sheet.pairs().i) == 2 * len(half.codes) == 2 * sheet.room


def test_wide_pairs_of_any_chunks() -> None:
    """Shifts of more than 15 cells, in chunks between others that have none."""
    rng = np.random.default_rng(2)
    kinds = [(int(rng.integers(2, 30)), 0.3, 20.0 * (at % 4 == 1)) for at in range(60)]
    half = check(batch(kinds))
    per_structure = np.diff(half.wide_ends)
    assert len(half.wide) == half.wide_ends[-1] == per_structure.sum() > 0
    zeros = [np.count_nonzero(half.codes[a:b] == 0) for a, b in zip(half.pair_ends, half.pair_ends[1:], strict=False)]
    assert per_structure.tolist() == zeros


def test_the_first_structure_that_is_wrong_is_told_whoever_finds_it() -> None:
    for threads in (1, 2, 5):
        for wrong in ({31, 7}, {7, 8}, {39}):
            positions, *rest, offsets = batch([(12, 0.1, 0.0)] * 40, seed=3)
            for s in wrong:
                positions[offsets[s] + 5] = positions[offsets[s] + 2]
            with pytest.raises(ValueError, match=f"System {min(wrong)}: atoms 2 and 5 lie in one place"):
                CpuFinder(threads=threads)(positions, *rest, offsets)
            positions[offsets[35]] = np.nan
            first = min(wrong)
            told = f"System {first}: atoms 2 and 5 lie" if first < 35 else "System 35, atom 0: its position is"
            with pytest.raises(ValueError, match=told):
                CpuFinder(threads=threads).half(positions, *rest, offsets)


def test_a_thread_that_is_held_up_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other searches what is left, and the result is the same."""
    import threading
    import time

    shares: list[tuple[bool, int]] = []
    real = work.work

    def slow(*arguments: object) -> object:
        main = threading.current_thread() is threading.main_thread()
        if not main:
            time.sleep(0.3)
        found = real(*arguments)
        shares.append((main, int(arguments[12][work.TAKEN])))  # type: ignore[index]
        return found

    monkeypatch.setattr(work, "work", slow)
    given = batch([(20, 0.1, 0.0)] * 100, seed=4)
    found = CpuFinder(threads=2)(*given)
    assert max(taken for main, taken in shares if not main) == 0
    expected = alone(given)
    np.testing.assert_array_equal(found.i, expected.i)
    np.testing.assert_array_equal(found.j, expected.j)


def test_cuts_cover_all_structures_once() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 3, 50):
        ends: Ints = np.concatenate([[0], np.cumsum(rng.integers(0, 9, n))])
        for atoms in (1, 2, 3, 70, 1000):
            cuts = chunks.cuts_of(ends, atoms)
            assert [cuts[0], cuts[-1]] == [0, n]
            assert n == 0 or (np.diff(cuts) > 0).all()
