"""The law of pair finders: whatever conf/pairs names gives the contract's pairs, in any batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from forcefoundry.pairs import Finder, ReferenceFinder
from tests.laws.finders import FINDERS
from tests.outside import arrays, files, oracles
from tests.pairs.brute_force import Structure, by_loops, listed, structures

TRICKY = files(oracles(), "pairs_tricky*.npz")


pytestmark = pytest.mark.parametrize("finder", FINDERS)


@given(what=structures())
@settings(max_examples=60)
def test_equals_brute_force_sorted_and_without_duplicates(finder: Finder, what: Structure) -> None:
    expected, margin = by_loops(what)
    assume(margin > 1e-9)
    found = listed(what.found_by(finder))
    assert found == sorted(expected)


@pytest.mark.parametrize("path", TRICKY)
def test_equals_the_tricky_set(finder: Finder, path: Path) -> None:
    d = arrays(path)
    refused = 0
    for s, cutoff in enumerate(d["cutoff"]):
        atoms = slice(d["atom_offsets"][s], d["atom_offsets"][s + 1])
        rows = slice(d["pair_offsets"][s], d["pair_offsets"][s + 1])
        what = Structure(d["pos"][atoms], d["cell"][s], d["pbc"][s], float(cutoff))
        if d["zero_offsets"][s] < d["zero_offsets"][s + 1]:
            refused += 1
            with pytest.raises(ValueError, match="lie in one place"):
                what.found_by(finder)
            continue
        expected = zip(d["pair_i"][rows], d["pair_j"][rows], d["pair_S"][rows], strict=True)
        assert listed(what.found_by(finder)) == [(i, j, tuple(S)) for i, j, S in expected], f"structure {s}"
    assert refused == sum(np.diff(d["zero_offsets"]) > 0)


@given(one=structures(), two=structures(), three=structures())
@settings(max_examples=25)
def test_a_batch_is_each_alone(finder: Finder, one: Structure, two: Structure, three: Structure) -> None:
    parts = [one, two, three]
    offsets = np.concatenate([[0], np.cumsum([len(part.positions) for part in parts])])
    found = finder(
        np.concatenate([part.positions for part in parts]),
        np.stack([part.cell for part in parts]),
        np.stack([part.pbc for part in parts]),
        one.cutoff,
        offsets,
    )
    expected: list[Any] = []
    for part, start in zip(parts, offsets[:-1], strict=True):
        alone = Structure(part.positions, part.cell, part.pbc, one.cutoff).found_by(finder)
        expected += [(i + int(start), j + int(start), S) for i, j, S in listed(alone)]
    assert listed(found) == expected
    assert [array.dtype for array in (found.i, found.j, found.S)] == [np.int64, np.int64, np.int32]


def lattice(repeats: int, constant: float) -> Structure:
    """A simple cubic crystal, its origin anywhere; the cutoff is one lattice constant."""
    grid = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return Structure(grid * constant + 0.3, np.eye(3) * constant * repeats, np.full(3, True), constant)


def test_within_the_cutoff_is_strictly_within(finder: Finder) -> None:
    """3, 4, 5 is exact: at 5.0 the atoms are no pair, in either direction, and one bit farther they are."""
    for origin, pbc in ((0.0, False), (1024.0, False), (0.0, True)):
        positions = np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]]) + origin
        what = Structure(positions, np.eye(3) * 64.0, np.full(3, pbc), 5.0)
        assert listed(what.found_by(finder)) == []
        beyond = replace(what, cutoff=float(np.nextafter(5.0, np.inf)))
        assert listed(beyond.found_by(finder)) == [(0, 1, (0, 0, 0)), (1, 0, (0, 0, 0))]


@pytest.mark.parametrize("constant", [1.1, 2.55, 1 / 3, 4.05 / 2])
def test_on_a_shell_at_the_cutoff_both_directions_agree(finder: Finder, constant: float) -> None:
    """Rounding alone decides on each pair of that shell: once, for both directions, and for every finder alike."""
    for repeats in (2, 3):
        what = lattice(repeats, constant)
        found = listed(what.found_by(finder))
        assert {(j, i, (-S[0], -S[1], -S[2])) for i, j, S in found} == set(found)
        assert found == listed(what.found_by(ReferenceFinder()))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_an_error_that_names_system_and_atom(finder: Finder, number: float) -> None:
    positions, offsets = np.arange(12.0).reshape(4, 3), np.array([0, 1, 4])
    cell, pbc = np.tile(np.eye(3) * 9.0, (2, 1, 1)), np.full((2, 3), True)
    finder(positions, cell, pbc, 3.0, offsets)
    positions[2, 1] = number
    with pytest.raises(ValueError, match="System 1, atom 1: its position is"):
        finder(positions, cell, pbc, 3.0, offsets)
    positions[2, 1] = 7.0
    cell[1, 2, 0] = number
    with pytest.raises(ValueError, match="System 1: its cell is"):
        finder(positions, cell, pbc, 3.0, offsets)


def test_atoms_in_one_place_are_an_error_that_names_system_and_atoms(finder: Finder) -> None:
    positions = np.array([[0.0, 0, 0], [0.5, 0, 0], [1.0, 2, 3], [4.0, 0, 1], [1.0, 2, 3]])
    positions[4] += [7.0, -7.0, 0.0]  # by whole cells away
    with pytest.raises(ValueError, match="System 1: atoms 0 and 2 lie in one place"):
        finder(positions, np.tile(np.eye(3) * 7.0, (2, 1, 1)), np.full((2, 3), True), 3.0, np.array([0, 2, 5]))
