"""The pair finder: exact on the tricky structures, equal to plain loops and to ASE, and clear about bad input."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import ase.neighborlist
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs import ReferenceFinder, nodes, structure_key
from forcefoundry.pairs.finders import known_finders, make_finder
from tests.builders import database
from tests.outside import arrays, files, oracles
from tests.pairs.brute_force import Structure, by_loops, listed, structures

TRICKY = files(oracles(), "pairs_tricky*.npz")
FINDER = ReferenceFinder()
SQUARE = np.eye(3) * 4.0
PERIODIC = np.array([True, True, True])
OPEN = np.array([False, False, False])


def tricky(d: dict[str, np.ndarray]) -> list[Structure]:
    """The structures of a file."""
    spans = zip(d["atom_offsets"][:-1], d["atom_offsets"][1:], strict=True)
    return [
        Structure(d["pos"][start:stop], d["cell"][s], d["pbc"][s], float(d["cutoff"][s]))
        for s, (start, stop) in enumerate(spans)
    ]


@pytest.mark.parametrize("path", TRICKY)
def test_every_tricky_structure_exactly(path: Path) -> None:
    d = arrays(path)
    for s, what in enumerate(tricky(d)):
        rows = slice(d["pair_offsets"][s], d["pair_offsets"][s + 1])
        if d["zero_offsets"][s + 1] > d["zero_offsets"][s]:
            first = d["zero_offsets"][s]
            i, j = sorted((int(d["zero_i"][first]), int(d["zero_j"][first])))
            with pytest.raises(ValueError, match=f"System 0: atoms {i} and {j} lie in one place"):
                what.found_by(FINDER)
            continue
        found = what.found_by(FINDER)
        np.testing.assert_array_equal(found.i, d["pair_i"][rows], err_msg=f"structure {s}")
        np.testing.assert_array_equal(found.j, d["pair_j"][rows], err_msg=f"structure {s}")
        np.testing.assert_array_equal(found.S, d["pair_S"][rows], err_msg=f"structure {s}")


@pytest.mark.parametrize("path", TRICKY)
def test_a_batch_of_tricky_structures_is_each_alone(path: Path) -> None:
    d = arrays(path)
    whole = [
        what for s, what in enumerate(tricky(d)) if d["zero_offsets"][s + 1] == d["zero_offsets"][s] and s % 3 == 0
    ]
    cutoff = 3.7
    offsets = np.concatenate([[0], np.cumsum([len(what.positions) for what in whole])])
    found = FINDER(
        np.concatenate([what.positions for what in whole]),
        np.stack([what.cell for what in whole]),
        np.stack([what.pbc for what in whole]),
        cutoff,
        offsets,
    )
    alone = [Structure(what.positions, what.cell, what.pbc, cutoff).found_by(FINDER) for what in whole]
    np.testing.assert_array_equal(found.i, np.concatenate([p.i + o for p, o in zip(alone, offsets, strict=False)]))
    np.testing.assert_array_equal(found.j, np.concatenate([p.j + o for p, o in zip(alone, offsets, strict=False)]))
    np.testing.assert_array_equal(found.S, np.concatenate([p.S for p in alone]))


@given(structures())
@settings(max_examples=120)
def test_equal_to_plain_loops(what: Structure) -> None:
    expected, margin = by_loops(what)
    assume(margin > 1e-9)
    found = listed(what.found_by(FINDER))
    assert found == sorted(expected)  # also: sorted by (i, j, S), and none twice
    assert all((j, i, (-S[0], -S[1], -S[2])) in expected for i, j, S in found)


@given(structures())
@settings(max_examples=60)
def test_equal_to_ase(what: Structure) -> None:
    _, margin = by_loops(what)
    assume(margin > 1e-9)
    # ASE wants a cell with volume; what stands in a direction that is not periodic changes no pair.
    cell = ase.geometry.complete_cell(np.where(what.pbc[:, None], what.cell, 0.0))
    i, j, S = ase.neighborlist.primitive_neighbor_list("ijS", what.pbc, cell, what.positions, what.cutoff)
    expected = sorted((int(a), int(b), tuple(int(n) for n in c)) for a, b, c in zip(i, j, S, strict=True))
    assert listed(what.found_by(FINDER)) == expected


@given(structures())
@settings(max_examples=40)
def test_rows_and_images_taken_in_parts_change_nothing(what: Structure) -> None:
    from forcefoundry.pairs import reference

    whole = listed(what.found_by(FINDER))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "_CANDIDATES_AT_ONCE", 7)
        assert listed(what.found_by(FINDER)) == whole


def test_a_cutoff_far_beyond_the_cell_is_right_only_large() -> None:
    found = Structure(np.zeros((1, 3)), np.eye(3), PERIODIC, 8.0).found_by(FINDER)
    grid = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = (grid**2).sum(axis=1)
    assert len(found.i) == np.count_nonzero((squares > 0) & (squares < 64))


def test_what_a_direction_that_is_not_periodic_holds_is_ignored() -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 4, (6, 3))
    pbc = np.array([True, False, True])
    plain = Structure(positions, np.diag([4.0, 0.0, 4.0]), pbc, 3.0).found_by(FINDER)
    for other in ([1.0, 2.0, 3.0], [np.nan, np.inf, 0.0], [4.0, 0.0, 0.0]):
        cell = np.diag([4.0, 0.0, 4.0])
        cell[1] = other
        assert listed(Structure(positions, cell, pbc, 3.0).found_by(FINDER)) == listed(plain)


def test_nothing_in_nothing_out() -> None:
    found = FINDER(np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros((0, 3), dtype=bool), 3.0, np.array([0]))
    assert (found.i.shape, found.j.shape, found.S.shape) == ((0,), (0,), (0, 3))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_no_number_is_named(number: float) -> None:
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [0.0, number, 0], [3.0, 0, 0]])
    offsets = np.array([0, 1, 4])
    with pytest.raises(ValueError, match=r"System 1, atom 1: its position is .*expected finite numbers"):
        FINDER(positions, np.zeros((2, 3, 3)), np.zeros((2, 3), dtype=bool), 3.0, offsets)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), PERIODIC),
        (np.array([[3.0, 0, 0], [0, 3.0, 0], [3.0, 3.0, 0]]), PERIODIC),
        (np.array([[3.0, 0, 0], [6.0, 0, 0], [0, 0, 3.0]]), np.array([True, True, False])),
        (np.zeros((3, 3)), np.array([False, True, False])),
    ],
)
def test_a_cell_without_volume_is_refused(cell: np.ndarray, pbc: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"System 0 is periodic but.*Give a cell with volume"):
        Structure(np.zeros((1, 3)), cell, pbc, 3.0).found_by(FINDER)


def test_a_cell_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"System 0: its cell is .*finite"):
        Structure(np.zeros((1, 3)), np.full((3, 3), np.nan), PERIODIC, 3.0).found_by(FINDER)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_a_cutoff_that_is_no_length_is_refused(cutoff: float) -> None:
    with pytest.raises(ValueError, match=r"The cutoff is .* Set pairs\.cutoff"):
        Structure(np.zeros((1, 3)), SQUARE, PERIODIC, cutoff).found_by(FINDER)


def test_atoms_in_one_place_are_named_with_their_system() -> None:
    positions = np.array([[0.0, 0, 0], [5.0, 0, 0], [1.0, 1, 1], [2.0, 2, 2], [1.0, 1, 1]])
    with pytest.raises(ValueError, match="System 1: atoms 0 and 2 lie in one place"):
        FINDER(positions, np.zeros((2, 3, 3)), np.zeros((2, 3), dtype=bool), 3.0, np.array([0, 2, 5]))


def test_keys_follow_every_bit_of_what_pairs_depend_on() -> None:
    rng = np.random.default_rng(0)
    species, positions = np.array([1, 6, 8]), rng.uniform(0, 4, (3, 3))
    pbc = np.array([True, True, False])
    key = structure_key(species, positions, SQUARE, pbc)
    seen = {key}
    for flat in range(9):
        for toward in (-np.inf, np.inf):
            moved = positions.copy()
            moved.flat[flat] = np.nextafter(moved.flat[flat], toward)
            seen.add(structure_key(species, moved, SQUARE, pbc))
            strained = SQUARE.copy()
            strained.flat[flat] = np.nextafter(strained.flat[flat], toward)
            seen.add(structure_key(species, positions, strained, pbc))
    assert len(seen) == 1 + 18 + 12  # the third lattice vector is not periodic: it counts for nothing
    for axis in range(3):
        flipped = pbc.copy()
        flipped[axis] = not flipped[axis]
        seen.add(structure_key(species, positions, SQUARE, flipped))
    seen.add(structure_key(np.array([1, 8, 6]), positions, SQUARE, pbc))
    assert len(seen) == 31 + 4
    assert structure_key(species, np.where(positions == 0, -0.0, positions), SQUARE, pbc) == key
    assert structure_key(species.astype(np.int32), positions, np.where(SQUARE == 0, -0.0, SQUARE), pbc) == key
    zero = np.zeros((3, 3))
    assert structure_key(species, positions, zero, PERIODIC) != structure_key(species, positions, zero, OPEN)
    # Numbers that run on from one array into the next are told apart by the number of atoms.
    assert structure_key(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), OPEN) != structure_key(
        np.array([1, 0]), np.zeros((2, 3)), np.zeros((3, 3)), OPEN
    )


def test_keys_of_many_structures_are_those_of_each() -> None:
    """Of open, periodic and mixed ones; without volume along an axis too, which pbc alone then tells apart."""
    base = database(8)
    pbc, cell = base.columns["pbc"].copy(), base.columns["cell"].copy()
    pbc[1], pbc[3], pbc[0] = [True, False, True], [False, True, False], [True, True, True]
    every = {**base.columns, "pbc": pbc, "cell": cell}
    made = keys_of(every)
    for at, key in enumerate(made):
        atoms = base.atoms(at)
        species, positions = every["species"][atoms], every["positions"][atoms]
        assert key.tobytes() == structure_key(species, positions, cell[at], pbc[at])
    assert not np.any(cell[0])
    assert key_of_first(every, np.full(3, False)) != made[0].tobytes()


def key_of_first(columns: dict[str, np.ndarray], pbc: np.ndarray) -> bytes:
    """The key of the first structure with another pbc."""
    return keys_of({**columns, "pbc": np.concatenate([pbc[None], columns["pbc"][1:]])})[0].tobytes()


@pytest.mark.parametrize(("apart", "shift"), [(0.0, 0.0), (1e-12, 0.0), (1e-12, 4.0)])
def test_atoms_within_rounding_of_one_place_are_told(apart: float, shift: float) -> None:
    positions = np.array([[0.3, 0.2, 0.1], [0.3 + shift + apart, 0.2, 0.1]])
    cell, pbc = np.diag([4.0, 4.0, 4.0])[None], np.full((1, 3), shift > 0)
    with pytest.raises(ValueError, match=r"System 0: atoms 0 and 1 lie in one place"):
        ReferenceFinder()(positions, cell, pbc, 3.0, np.array([0, 2]))


def test_an_unknown_finder_is_told_with_the_nearest() -> None:
    assert known_finders() == ["auto", "cpu", "gpu", "reference"]
    with pytest.raises(ValueError, match=r"pairs.finder is 'referenc', which is not known. Did you mean reference\?"):
        make_finder("referenc")
    for path in ("../pairs/cpu", "contract", "nodes", "native"):
        with pytest.raises(ValueError, match="which is not known"):
            make_finder(path)


@pytest.mark.parametrize("triton", [True, False])
def test_auto_is_gpu_on_cuda_with_triton_and_else_cpu(triton: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class GpuFinder:
        def __init__(self, device: str, threads: int):
            asked.append((device, threads))

    gpu = types.ModuleType("forcefoundry.pairs.gpu")
    gpu.GpuFinder = GpuFinder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "forcefoundry.pairs.gpu", gpu)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: gpu if triton else None)
    made = make_finder("auto", "cuda:1", threads=2)
    assert type(made).__name__ == ("GpuFinder" if triton else "CpuFinder")
    assert asked == ([("cuda:1", 2)] if triton else [])
    assert type(make_finder("auto", "cpu")).__name__ == "CpuFinder"


def test_cpu_may_be_asked_for_where_the_model_is_on_cuda() -> None:
    square = Structure(np.array([[0.0, 0, 0], [1.0, 0, 0]]), SQUARE, PERIODIC, 2.0)
    assert listed(square.found_by(make_finder("cpu", "cuda"))) == [(0, 1, (0, 0, 0)), (1, 0, (0, 0, 0))]


def test_what_a_finder_needs_and_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "forcefoundry.pairs.cpu", raising=False)
    monkeypatch.setitem(sys.modules, "forcefoundry.pairs.half", None)
    with pytest.raises(ValueError, match=r"The finder 'cpu' needs forcefoundry.pairs.half, which is not inst"):
        make_finder("cpu")


def test_pairs_are_imported_without_what_finding_them_takes() -> None:
    """Steps that read their pairs need not wait for a compiler to be imported."""
    code = (
        "import sys, forcefoundry.pairs as pairs, forcefoundry.pairs.nodes as nodes\n"
        "from forcefoundry.pairs.finders import make_finder\n"
        "nodes.FindPairs(5.0), make_finder('auto')\n"
        "print([name for name in ('numba', 'triton') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pairs_are_found_by_the_best_finder_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def make(name: str, device: str) -> ReferenceFinder:
        asked.append((name, device))
        return ReferenceFinder()

    monkeypatch.setattr(nodes, "make_finder", make)
    nodes._best_finder.cache_clear()
    try:
        module = nodes.FindPairs(1.5)
        assert asked == []
        positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
        none = torch.zeros(1, 3, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.bool), torch.tensor([2])
        for _ in range(2):
            i, j, S = module(positions, *none)
            assert (i.tolist(), j.tolist(), S.tolist()) == ([0, 1], [1, 0], [[0, 0, 0]] * 2)
        assert asked == [("auto", "cpu")]
    finally:
        nodes._best_finder.cache_clear()
