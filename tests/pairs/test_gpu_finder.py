"""The GPU finder: the CPU finder's pairs to the last bit, its words for what is wrong, and code without fused products.

Without a CUDA device its kernels run in Triton's interpreter, on the CPU and slowly, which must be said before Triton
is imported: so this file is best run by itself, `make gpu-tests`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="triton is not installed; `make gpu-tests` does that")

from forcefoundry.pairs import Pairs, ReferenceFinder
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.gpu import GpuFinder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.kernels import search
from forcefoundry.pairs.nodes import FindPairs
from tests.outside import arrays, data, files, oracles
from tests.pairs.brute_force import Structure, structures

if not torch.cuda.is_available() and not search.INTERPRETED:
    pytest.skip("another test imported triton before this could tell it to interpret", allow_module_level=True)

Batch = tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]
GPU, CPU = GpuFinder("cuda" if torch.cuda.is_available() else "cpu"), CpuFinder()
PERIODIC = np.array([True, True, True])
TRICKY = files(oracles(), "pairs_tricky*.npz")
REAL = [path for name in ("mlearn", "nbmotaw", "solvent_xtb") for path in files(data(), f"{name}/*.xyz")]


def batch(parts: list[Structure]) -> Batch:
    """Structures as a finder's arguments, with the cutoff of the first."""
    offsets = np.concatenate([[0], np.cumsum([len(part.positions) for part in parts])]).astype(np.int64)
    positions = np.concatenate([part.positions for part in parts])
    return positions, np.stack([p.cell for p in parts]), np.stack([p.pbc for p in parts]), parts[0].cutoff, offsets


def gas(rng: np.random.Generator, n_atoms: int, pbc: np.ndarray, skew: float, cutoff: float) -> Structure:
    """Atoms anywhere in a cell of any shape, some of them cells away."""
    lengths = (n_atoms / 0.05) ** (1 / 3) * np.exp(rng.normal(0.0, 0.4, 3))
    cell = (np.eye(3) + rng.uniform(-skew, skew, (3, 3))) * lengths[:, None]
    fractional = rng.uniform(0.0, 1.0, (n_atoms, 3)) + rng.integers(-3, 4, (n_atoms, 3)) * pbc
    return Structure(fractional @ cell, cell, pbc, cutoff)


def equal(left: Pairs, right: Pairs) -> None:
    """Fail unless two lists are equal to the last number and type."""
    for name in ("i", "j", "S"):
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype == (np.int32 if name == "S" else np.int64)
        np.testing.assert_array_equal(a, b)


def candidates(what: Batch) -> search.Candidates:
    """What the search prepares of a batch."""
    positions, cell, pbc, offsets = (torch.from_numpy(what[at]).to(GPU.device) for at in (0, 1, 2, 4))
    return search.count_candidates(positions, cell, pbc.view(torch.uint8), offsets, what[3])


def same_bytes(left: HalfPairs, right: HalfPairs) -> None:
    """Fail unless two packed halves are equal byte for byte."""
    for name in HalfPairs.__dataclass_fields__:
        a, b = getattr(left, name), getattr(right, name)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name


@pytest.mark.parametrize("path", TRICKY)
def test_every_tricky_structure_exactly(path: str) -> None:
    d = arrays(path)  # type: ignore[arg-type]
    fine = np.flatnonzero(np.diff(d["zero_offsets"]) == 0)
    for cutoff in np.unique(d["cutoff"][fine]):
        chosen = [s for s in fine if d["cutoff"][s] == cutoff]
        spans = [slice(d["atom_offsets"][s], d["atom_offsets"][s + 1]) for s in chosen]
        rows = np.concatenate([np.arange(d["pair_offsets"][s], d["pair_offsets"][s + 1]) for s in chosen])
        what = batch(
            [
                Structure(d["pos"][a], d["cell"][s], d["pbc"][s], float(cutoff))
                for a, s in zip(spans, chosen, strict=True)
            ]
        )
        firsts = np.repeat(what[-1][:-1], np.diff(d["pair_offsets"])[chosen])
        half = GPU.half(*what)
        equal(
            half.mirrored(),
            Pairs(d["pair_i"][rows] + firsts, d["pair_j"][rows] + firsts, d["pair_S"][rows].astype(np.int32)),
        )
        same_bytes(half, CPU.half(*what))
        if cutoff == 6.0:
            equal(GPU(*what), CPU(*what))


@pytest.mark.parametrize("path", TRICKY)
def test_coincident_atoms_of_the_tricky_set_are_named(path: str) -> None:
    d = arrays(path)  # type: ignore[arg-type]
    for s in np.flatnonzero(np.diff(d["zero_offsets"])):
        atoms = slice(d["atom_offsets"][s], d["atom_offsets"][s + 1])
        first = d["zero_offsets"][s]
        i, j = sorted((int(d["zero_i"][first]), int(d["zero_j"][first])))
        with pytest.raises(ValueError, match=f"System 0: atoms {i} and {j} lie in one place"):
            GPU(*batch([Structure(d["pos"][atoms], d["cell"][s], d["pbc"][s], float(d["cutoff"][s]))]))


@given(parts=st.lists(structures(), min_size=3, max_size=3))
@settings(max_examples=4)
def test_equals_the_reference_in_any_order_of_systems(parts: list[Structure]) -> None:
    what = batch(parts)
    expected = ReferenceFinder()(*what)
    found = GPU(*what)
    equal(found, expected)
    rows = np.column_stack([found.i, found.j, found.S])
    assert len(np.unique(rows, axis=0)) == len(rows)
    back = np.column_stack([found.j, found.i, -found.S])
    np.testing.assert_array_equal(back[np.lexsort(back.T[::-1])], rows)
    turned = batch([Structure(p.positions, p.cell, p.pbc, what[3]) for p in parts[::-1]])
    same_bytes(GPU.half(*turned), CPU.half(*turned))


@pytest.mark.parametrize("path", REAL)
def test_real_structures_have_the_pairs_that_the_reference_finds(path: Path) -> None:
    """The first, the smallest and the largest structure of each file; the largest is large, so the cutoff is short."""
    read = ase.io.read(path, ":")
    sizes = np.array([len(atoms) for atoms in read])
    for number, cutoff in ((0, 4.0), (int(sizes.argmin()), 5.0), (int(sizes.argmax()), 3.0)):
        atoms = read[number]
        what = batch([Structure(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)])
        equal(GPU(*what), ReferenceFinder()(*what))
        same_bytes(GPU.half(*what), CPU.half(*what))
    assert len(GPU(*what).i)


def test_a_batch_is_each_alone() -> None:
    rng = np.random.default_rng(0)
    parts = [gas(rng, n, rng.random(3) < 0.6, 0.3, 3.0) for n in (3, 40, 17)]
    parts.insert(2, Structure(np.zeros((0, 3)), np.eye(3), PERIODIC, 3.0))
    whole = GPU.half(*batch(parts))
    i, j, S = whole.unpacked()
    for s, part in enumerate(parts):
        rows = slice(whole.pair_ends[s], whole.pair_ends[s + 1])
        alone = GPU.half(*batch([part]))
        for one, all_of in zip(alone.unpacked(), (i, j, S), strict=True):
            np.testing.assert_array_equal(one, all_of[rows])


def test_many_bins() -> None:
    rng = np.random.default_rng(1)
    kinds = [(True, True, True), (True, False, True), (False, False, True), (False, False, False)]
    parts = [gas(rng, 150, np.array(pbc), 0.4 * any(pbc), 3.0) for pbc in kinds]
    half = GPU.half(*batch(parts))
    same_bytes(half, CPU.half(*batch(parts)))
    assert (np.diff(half.pair_ends) > 150).all()
    assert candidates(batch(parts)).shape[:, :3].min() > 2


def test_a_shell_exactly_at_the_cutoff() -> None:
    """Every decision on that shell falls to rounding, and both directions are decided alike."""
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for cutoff in (1.1, math.sqrt(3.0) * 1.1, math.nextafter(2.2, 3.0)):
        what = batch([Structure(grid * 1.1 + 0.3, np.eye(3) * 3.3000000000000003, PERIODIC, cutoff)])
        equal(GPU(*what), CPU(*what))


def test_left_handed_skewed_tiny_and_unwrapped() -> None:
    rng = np.random.default_rng(3)
    what = gas(rng, 12, PERIODIC, 0.3, 3.0)
    away = rng.integers(-200, 200, what.positions.shape)
    parts = [
        Structure(what.positions, what.cell * [[-1.0], [1.0], [1.0]], PERIODIC, 3.0),
        Structure(what.positions, what.cell[[1, 0, 2]], PERIODIC, 3.0),
        Structure(what.positions + away @ what.cell, what.cell, PERIODIC, 3.0),
        Structure(np.array([[0.1, 0.2, 0.3], [7.0, 0.1, 0.0]]), np.eye(3) * 0.9 + 0.2, PERIODIC, 3.0),
        Structure(rng.uniform(0, 1, (9, 3)) * 4.0, np.array([[0.6, 0, 0], [9.0, 8.0, 0], [0, 0, 0]]), PERIODIC, 3.0),
    ]
    parts[-1] = Structure(parts[-1].positions, parts[-1].cell, np.array([True, True, False]), 3.0)
    half = GPU.half(*batch(parts))
    assert len(half.wide) > 0
    assert np.diff(half.wide_ends)[2] > 0
    same_bytes(half, CPU.half(*batch(parts)))


def test_clusters_far_apart_take_no_more_bins_than_candidates() -> None:
    rng = np.random.default_rng(4)
    positions = rng.uniform(0, 6, (40, 3))
    positions[20:] += [1e6, -2e6, 3.0]
    what = batch([Structure(positions, np.zeros((3, 3)), ~PERIODIC, 3.0)])
    same_bytes(GPU.half(*what), CPU.half(*what))
    these = candidates(what)
    assert these.n_candidates == 40
    assert 0 < these.n_bins <= 40


def test_no_atoms_and_no_structures() -> None:
    none = np.zeros((0, 3))
    for n_systems in (0, 2):
        what = none, np.zeros((n_systems, 3, 3)), np.zeros((n_systems, 3), bool), 3.0, np.zeros(n_systems + 1, np.int64)
        same_bytes(GPU.half(*what), CPU.half(*what))
        equal(GPU(*what), CPU(*what))
    lonely = batch([Structure(np.zeros((n, 3)), np.eye(3) * 9.0, PERIODIC, 3.0) for n in (1, 0, 1)])
    same_bytes(GPU.half(*lonely), CPU.half(*lonely))
    equal(GPU(*lonely), CPU(*lonely))


FINE = Structure(np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.eye(3) * 4.0, PERIODIC, 3.0)
TOUCHING = Structure(np.array([[0.0, 0, 0], [1.0, 0, 0], [5.0, 8.0, 1e-12]]), np.eye(3) * 4.0, PERIODIC, 3.0)
NO_NUMBER = Structure(np.array([[0.0, 0, 0], [np.nan, 0, 0]]), np.eye(3) * 4.0, ~PERIODIC, 3.0)
FLAT = Structure(np.zeros((0, 3)), np.array([[3.0, 0, 0], [0, 3.0, 0], [3.0, 3.0, 0]]), PERIODIC, 3.0)
NAN_CELL = Structure(np.zeros((1, 3)), np.full((3, 3), np.nan), PERIODIC, 3.0)
FAR = Structure(np.array([[0.0, 0, 0], [5e12, 0, 0]]), np.eye(3) * 4.0, PERIODIC, 3.0)
DENSE = Structure(np.zeros((1, 3)), np.eye(3) * 1e-4, PERIODIC, 3.0)
AWAY = Structure(np.array([[0.0, 0, 0], [0, 1e39, 0]]), np.eye(3) * 4.0, ~PERIODIC, 3.0)
HUGE = Structure(np.zeros((1, 3)), np.eye(3) * 1e32, PERIODIC, 3.0)


@pytest.mark.parametrize(
    "parts",
    [
        [FINE, TOUCHING, FINE],
        [FINE, NO_NUMBER, TOUCHING],
        [TOUCHING, NO_NUMBER],
        [FINE, FLAT],
        [NAN_CELL],
        [FINE, FAR, NO_NUMBER],
        [DENSE, FAR],
        [FINE, AWAY, HUGE],
        [FINE, HUGE],
    ],
)
def test_the_first_structure_that_is_wrong_is_told_in_the_cpu_finders_words(parts: list[Structure]) -> None:
    with pytest.raises(ValueError, match="System") as expected:
        CPU(*batch(parts))
    with pytest.raises(ValueError, match="System") as told:
        GPU(*batch(parts))
    assert str(told.value) == str(expected.value)


def test_a_cell_that_is_only_nearly_flat_is_searched() -> None:
    cell = np.array([[3.0, 0, 0], [0, 3.0, 0], [0.5, 3.0, 2e-6]])
    what = batch([FINE, Structure(np.array([[0.1, 0.2, 0.0]]), cell, np.array([True, False, True]), 3.0)])
    assert len(CPU(*what).i) > 0
    equal(GPU(*what), CPU(*what))


def test_what_does_not_fit_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "AT_MOST", 1)
    with pytest.raises(ValueError, match=r"These 1 structures have .* at most 1 can be searched at once"):
        GPU(*batch([FINE]))
    with pytest.raises(ValueError, match="0 threads"):
        GpuFinder("cuda", threads=0)
    with pytest.raises(ValueError, match=r"have the shapes .* expected \(N, 3\)"):
        GPU(np.zeros((2, 2)), np.zeros((1, 3, 3)), np.zeros((1, 3), bool), 3.0, np.array([0, 2]))
    with pytest.raises(ValueError, match="The cutoff is nan"):
        GPU(*batch([FINE])[:3], math.nan, np.array([0, 2]))


def test_totals_are_counted_in_64_bits() -> None:
    """By arithmetic: eight rows of 2^30 pairs end at 2^33."""
    starts = search.before(torch.full((8,), 2**30, dtype=torch.int32))
    assert starts.tolist() == [n * 2**30 for n in range(9)]


@given(length=st.floats(1e-300, 1e300), steps=st.integers(-40, 40))
@settings(max_examples=200)
def test_squares_are_compared_as_if_roots_had_been(length: float, steps: int) -> None:
    threshold = search.square_from(length)
    for start in (threshold, length * length):
        square = start
        for _ in range(abs(steps)):
            square = math.nextafter(square, math.inf if steps > 0 else 0.0)
        assert (square < threshold) == bool(np.sqrt(square) < length)


def test_tensors_stay_where_they_are_and_the_graph_uses_that(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    what = batch([gas(rng, n, PERIODIC, 0.2, 3.0) for n in (9, 4)])
    expected = CPU(*what)
    positions, cell, pbc = (torch.from_numpy(array).to(GPU.device) for array in what[:3])
    i, j, S = GPU.on_device(positions.requires_grad_(), cell, pbc, torch.from_numpy(what[4]), what[3])
    assert i.device == positions.device
    assert not i.requires_grad
    equal(Pairs(i.cpu().numpy(), j.cpu().numpy(), S.cpu().numpy()), expected)

    def refused(*_: object) -> Pairs:
        raise AssertionError("the arrays' way was taken")

    monkeypatch.setattr(GpuFinder, "__call__", refused)
    n_atoms = torch.tensor([9, 4], device=positions.device)
    i, j, S = FindPairs(3.0, GPU)(positions, cell, pbc, n_atoms)
    assert i.device == positions.device
    equal(Pairs(i.cpu().numpy(), j.cpu().numpy(), S.cpu().numpy()), expected)
