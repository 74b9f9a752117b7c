"""The law of pair finders: whatever conf/pairs names gives the contract's pairs, in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from forcefoundry.pairs import Finder
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
