"""The compiled finder where the laws do not reach: large structures, batches, threads, packing, and known mistakes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from forcefoundry.pairs import Pairs, ReferenceFinder
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.native import compiling
from forcefoundry.pairs.native.candidates import LARGEST_J, LARGEST_S
from forcefoundry.pairs.native.chunks import cuts_of
from forcefoundry.pairs.native.home import home_in, most_candidates
from forcefoundry.pairs.native.mirror import full_rows
from forcefoundry.pairs.native.search import BINS_FROM
from tests.pairs.brute_force import Structure, structures

FINDER = CpuFinder()
BRUTE = ReferenceFinder()
PERIODIC = np.array([True, True, True])


def equal(left: Pairs, right: Pairs) -> None:
    """Fail unless two lists are equal to the last number and type."""
    for name in ("i", "j", "S"):
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype == (np.int32 if name == "S" else np.int64)
        np.testing.assert_array_equal(a, b)


def gas(rng: np.random.Generator, n_atoms: int, pbc: np.ndarray, skew: float, cutoff: float) -> Structure:
    """Atoms anywhere in a cell of any shape, some of them cells away."""
    lengths = (n_atoms / 0.05) ** (1 / 3) * np.exp(rng.normal(0.0, 0.4, 3))
    cell = (np.eye(3) + rng.uniform(-skew, skew, (3, 3))) * lengths[:, None]
    fractional = rng.uniform(0.0, 1.0, (n_atoms, 3)) + rng.integers(-3, 4, (n_atoms, 3)) * pbc
    return Structure(fractional @ cell, cell, pbc, cutoff)


def batch(parts: list[Structure]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]:
    """Structures as a finder's arguments."""
    offsets = np.concatenate([[0], np.cumsum([len(part.positions) for part in parts])])
    positions = np.concatenate([part.positions for part in parts])
    return positions, np.stack([p.cell for p in parts]), np.stack([p.pbc for p in parts]), parts[0].cutoff, offsets


def some(number: int, seed: int = 0, cutoff: float = 3.5) -> list[Structure]:
    """Structures of all sizes, with and without bins."""
    rng = np.random.default_rng(seed)
    return [gas(rng, int(rng.integers(1, 400)), rng.random(3) < 0.6, 0.3 * (at % 2), cutoff) for at in range(number)]


@pytest.mark.parametrize("pbc", list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("skew", [0.0, 0.4])
def test_large_structures_equal_brute_force(pbc: tuple[bool, ...], skew: float) -> None:
    n_atoms = BINS_FROM // 2 if all(pbc) else BINS_FROM + 50  # brute force takes its time for every image
    what = gas(np.random.default_rng(sum(pbc)), n_atoms, np.array(pbc), skew, 4.0)
    equal(what.found_by(FINDER), what.found_by(BRUTE))


def test_a_crystal_with_a_shell_at_the_cutoff_equals_brute_force() -> None:
    """Every decision on that shell falls to rounding, in bins and without."""
    for repeats in (3, 10):
        grid = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        for cutoff in (1.1, 2.2, np.sqrt(3.0) * 1.1):
            what = Structure(grid * 1.1 + 0.3, np.eye(3) * 1.1 * repeats, PERIODIC, float(cutoff))
            equal(what.found_by(FINDER), what.found_by(BRUTE))


def test_clusters_far_apart_take_memory_by_their_atoms() -> None:
    rng = np.random.default_rng(1)
    positions = np.concatenate(
        [rng.uniform(0, 12, (500, 3)), rng.uniform(0, 12, (500, 3)) + np.array([1e6, -2e6, 0.0])]
    )
    what = Structure(positions, np.zeros((3, 3)), ~PERIODIC, 3.0)
    equal(what.found_by(FINDER), what.found_by(BRUTE))


def test_atoms_in_one_place_are_named_in_large_structures_too() -> None:
    what = gas(np.random.default_rng(2), 1500, PERIODIC, 0.2, 3.0)
    what.positions[1234] = what.positions[77] + 2 * what.cell[1]
    with pytest.raises(ValueError, match="System 0: atoms 77 and 1234 lie in one place"):
        what.found_by(FINDER)


def test_the_first_structure_that_is_wrong_is_told() -> None:
    parts = some(6)
    parts[4].positions[0, 0] = np.nan
    with pytest.raises(ValueError, match="System 4, atom 0: its position is"):
        FINDER(*batch(parts))
    parts[2] = Structure(np.zeros((2, 3)), np.zeros((3, 3)), ~PERIODIC, parts[0].cutoff)
    for threads in (1, 3):
        with pytest.raises(ValueError, match="System 2: atoms 0 and 1 lie in one place"):
            CpuFinder(threads=threads)(*batch(parts))


def test_any_batching_any_order_and_any_threads_give_identical_bytes() -> None:
    parts = some(17)
    alone = [part.found_by(FINDER) for part in parts]
    for order in (range(17), reversed(range(17)), np.random.default_rng(3).permutation(17)):
        chosen = list(order)
        arguments = batch([parts[at] for at in chosen])
        offsets = arguments[-1]
        expected = Pairs(
            np.concatenate([alone[at].i + start for at, start in zip(chosen, offsets, strict=False)]),
            np.concatenate([alone[at].j + start for at, start in zip(chosen, offsets, strict=False)]),
            np.concatenate([alone[at].S for at in chosen]),
        )
        halves = []
        for threads in (1, 2, 3, 40):
            finder = CpuFinder(threads=threads)
            equal(finder(*arguments), expected)
            half = finder.half(*arguments)
            halves.append([getattr(half, name).tobytes() for name in HalfPairs.__dataclass_fields__])
        assert all(half == halves[0] for half in halves)


@given(what=structures())
@settings(max_examples=60)
def test_the_half_is_the_canonical_half(what: Structure) -> None:
    full = what.found_by(BRUTE)
    sign = np.where(full.S[:, 0] != 0, full.S[:, 0], np.where(full.S[:, 1] != 0, full.S[:, 1], full.S[:, 2]))
    canonical = (full.i < full.j) | ((full.i == full.j) & (sign > 0))
    half = FINDER.half(*batch([what]))
    i, j, S = half.unpacked()
    assert i.dtype == j.dtype == S.dtype == np.int32
    np.testing.assert_array_equal(i, full.i[canonical])
    np.testing.assert_array_equal(j, full.j[canonical])
    np.testing.assert_array_equal(S, full.S[canonical])
    assert len(half.wide) == np.count_nonzero(np.abs(S).max(axis=1, initial=0) > LARGEST_S)


def test_more_atoms_than_a_code_holds() -> None:
    n_atoms = LARGEST_J + 3
    positions = np.zeros((n_atoms, 3))
    positions[:, 0] = np.arange(n_atoms)
    positions[-1] = [0.0, 0.5, 0.0]
    what = Structure(positions, np.zeros((3, 3)), ~PERIODIC, 1.01)
    half = FINDER.half(*batch([what]))
    assert half.wide.tolist() == [[n_atoms - 1, 0, 0, 0], [n_atoms - 2, 0, 0, 0]]
    found = half.mirrored()
    chain = np.arange(n_atoms - 2)
    expected = sorted(
        [*zip(chain, chain + 1, strict=True), *zip(chain + 1, chain, strict=True), (0, n_atoms - 1), (n_atoms - 1, 0)]
    )
    assert list(zip(found.i, found.j, strict=True)) == expected


def test_what_does_not_belong_together_is_refused() -> None:
    positions, cell, pbc, cutoff, offsets = batch(some(2))
    with pytest.raises(ValueError, match=r"have the shapes .* expected \(N, 3\)"):
        FINDER(positions[:, :2], cell, pbc, cutoff, offsets)
    with pytest.raises(ValueError, match="1 cells and 2 pbc for 2 systems"):
        FINDER(positions, cell[:1], pbc, cutoff, offsets)
    with pytest.raises(ValueError, match="expected numbers that start at 0, never fall, and end within the atoms"):
        FINDER(positions, cell, pbc, cutoff, offsets + 1)
    with pytest.raises(ValueError, match="0 threads, expected 1 or more"):
        CpuFinder(threads=0)


def test_an_atom_too_far_from_home_is_named() -> None:
    what = Structure(np.array([[0.0, 0, 0], [5e12, 0, 0]]), np.eye(3) * 4.0, PERIODIC, 3.0)
    with pytest.raises(ValueError, match=r"System 0, atom 1: its position .* Wrap the atoms into the cell"):
        what.found_by(FINDER)


def test_a_cell_far_smaller_than_the_cutoff_is_refused_before_memory_is_taken() -> None:
    for cell in (np.eye(3) * 1e-4, np.diag([1e-3, 1e-3, 1.0])):
        with pytest.raises(ValueError, match="System 0 has a cell that the cutoff spans more than 500 times along one"):
            Structure(np.zeros((1, 3)), cell, PERIODIC, 5.0).found_by(FINDER)
    positions = np.random.default_rng(0).uniform(0.0, 0.011, (3, 3))
    with pytest.raises(ValueError, match="System 0 has more than 2\\^31 images"):
        Structure(positions, np.eye(3) * 0.011, PERIODIC, 5.0).found_by(FINDER)


def test_compiled_code_is_known_by_all_sources_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba alone would take machine code that was compiled from an older file of what is called."""
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "one.py"))
    before = compiling.sources()
    (tmp_path / "two.py").write_text("x = 2\n")
    assert compiling.sources() != before


def test_where_no_folder_can_be_written_it_still_runs() -> None:
    """Neither beside the files nor in the user's folder: compiled anew in each process."""
    code = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from forcefoundry.pairs.native.mirror import mirror\n"
        "print(type(mirror.__wrapped__).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CPUDispatcher"


KEPT = """
import pathlib, shutil, sys
from forcefoundry.pairs.native.compiling import kept

def make(version):
    def triple(x):
        _ = version
        return 3 * x
    return triple

triple, folder = kept(make), pathlib.Path(sys.argv[1])
print(triple(14), len(list(folder.rglob("*.nbc"))))
shutil.rmtree(folder)
folder.write_text("no folder")
print(triple(2.5))
"""


def test_where_machine_code_can_no_longer_be_kept_it_still_runs(tmp_path: Path) -> None:
    """The folder was there when the process began, and is gone, full or another user's when the code is compiled."""
    (tmp_path / "tripled.py").write_text(KEPT)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    command = [sys.executable, str(tmp_path / "tripled.py"), str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["42", "1", "7.5"]


TOLD = """
import logging, sys
from numba.core import caching
from forcefoundry.pairs.native import compiling

logging.basicConfig(level=logging.INFO, format="%(message)s")
if sys.argv[1:]:
    caching.CacheImpl._locator_classes = []

def make(version):
    def triple(x):
        _ = version
        return 3 * x
    return triple

triple = compiling.kept(make, slow="the threefold")
print(triple(14), triple(15), triple(2.5))
"""


def test_what_takes_long_to_compile_is_told_once_and_not_when_it_was_kept(tmp_path: Path) -> None:
    """Half a minute before the first pair would look as if finding it took that long."""
    (tmp_path / "told.py").write_text(TOLD)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def told(*arguments: str) -> str:
        command = [sys.executable, str(tmp_path / "told.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split() == ["42", "45", "7.5"]
        return done.stderr.strip()

    assert told() == "compiling the threefold for this processor: half a minute, once, for it is kept"
    assert told() == ""
    assert told("nowhere").endswith("half a minute, in every process, for no folder takes it")


# Neighbour lists that were fast and wrong, elsewhere: one test for each mistake.


def test_overflow_a_row_of_any_length_is_whole() -> None:
    """Buffers of a guessed number of neighbours dropped what did not fit: here one atom has thousands."""
    rng = np.random.default_rng(4)
    for n_atoms in (5, 250):
        what = Structure(rng.uniform(0, 2.4, (n_atoms, 3)), np.eye(3) * 2.4, PERIODIC, 3.0)
        equal(what.found_by(FINDER), what.found_by(BRUTE))


def test_duplicates_no_pair_is_listed_twice() -> None:
    """Where a cell is smaller than the cutoff, wrapped bins met themselves."""
    for lengths in ([3.0, 3.0, 120.0], [2.0, 40.0, 40.0], [5.9, 6.0, 6.1]):
        rng = np.random.default_rng(5)
        what = Structure(rng.uniform(0, 1, (60, 3)) * lengths, np.diag(lengths), PERIODIC, 6.0)
        found = what.found_by(FINDER)
        listed = np.column_stack([found.i, found.j, found.S])
        assert len(np.unique(listed, axis=0)) == len(listed)
        equal(found, what.found_by(BRUTE))


@pytest.mark.parametrize("n_atoms", [40, 1200])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_wrong_pairs_on_axes_that_are_not_periodic(axis: int, n_atoms: int) -> None:
    """Atoms outside the box of an open axis were wrapped into it or lost."""
    rng = np.random.default_rng(6)
    edge = (n_atoms / 0.05) ** (1 / 3)
    pbc = PERIODIC.copy()
    pbc[axis] = False
    positions = rng.uniform(0, edge, (n_atoms, 3))
    positions[:, axis] = positions[:, axis] * 3 - edge
    what = Structure(positions, np.eye(3) * edge, pbc, 4.0)
    found = what.found_by(FINDER)
    assert not found.S[:, axis].any()
    equal(found, what.found_by(BRUTE))


def test_int32_wrap_totals_are_counted_in_64_bits() -> None:
    """By arithmetic: rows of 2^30 pairs start beyond 2^31, and so many candidates are counted, not wrapped."""
    n_atoms = 8
    counts = np.full(n_atoms, 2**30, dtype=np.int32)
    starts, filled = np.empty(n_atoms + 1, np.int64), np.empty(n_atoms, np.int64)
    none = np.zeros(0, np.uint32)
    full_rows(n_atoms, 2**40, counts, 0, none, 0, 0, np.zeros((0, 4), np.int32), 0, starts, filled)
    assert starts.tolist() == [2**40 + at * 2**30 for at in range(n_atoms + 1)]
    home, *_ = home_in(np.empty(0), np.empty(0, np.int64), 1000)
    home.bounds[:] = 0.5
    home.span[:] = 150.0
    assert most_candidates(1000, np.full((1, 3), True), 0, home) == 1000 * 301.0**3 > 2**31
    assert cuts_of(np.array([0, 2**33, 2**34, 2**35]), 2**34).tolist() == [0, 2, 3]


def test_edges_across_systems_of_a_batch() -> None:
    """Systems that lie in one place see none of each other's atoms, nor of an empty system's."""
    rng = np.random.default_rng(7)
    parts = [
        Structure(rng.uniform(0, 4, (n, 3)), np.eye(3) * 4.0, np.full(3, bool(n % 2)), 2.5) for n in (5, 0, 6, 1, 0, 9)
    ]
    positions, cell, pbc, cutoff, offsets = batch(parts)
    found = FINDER(positions, cell, pbc, cutoff, offsets)
    system = np.repeat(np.arange(6), np.diff(offsets))
    assert (system[found.i] == system[found.j]).all()
    equal(found, BRUTE(positions, cell, pbc, cutoff, offsets))


@pytest.mark.parametrize("n_atoms", [30, 800])
def test_left_handed_cells(n_atoms: int) -> None:
    what = gas(np.random.default_rng(8), n_atoms, PERIODIC, 0.3, 4.0)
    for cell in (what.cell * [[-1.0], [1.0], [1.0]], what.cell[[1, 0, 2]], -what.cell):
        mirrored = Structure(what.positions, cell, PERIODIC, 4.0)
        equal(mirrored.found_by(FINDER), mirrored.found_by(BRUTE))


@pytest.mark.parametrize("n_atoms", [30, 800])
def test_unwrapped_atoms(n_atoms: int) -> None:
    """Atoms that wandered off keep their pairs; the shifts say how far, beyond what a code holds."""
    rng = np.random.default_rng(9)
    what = gas(rng, n_atoms, PERIODIC, 0.3, 4.0)
    away = rng.integers(-200, 200, what.positions.shape)
    wandered = Structure(what.positions + away @ what.cell, what.cell, PERIODIC, 4.0)
    here, there = what.found_by(FINDER), wandered.found_by(FINDER)
    shifted = np.column_stack([there.i, there.j, there.S + away[there.j] - away[there.i]])
    np.testing.assert_array_equal(shifted[np.lexsort(shifted.T[::-1])], np.column_stack([here.i, here.j, here.S]))
    assert len(FINDER.half(*batch([wandered])).wide) > 0
    equal(there, wandered.found_by(BRUTE))
