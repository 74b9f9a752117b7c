"""The data set in memory refuses what does not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forcefoundry.batches import Packer, Sampler, in_order
from forcefoundry.databases import Database
from tests.builders import database


def test_energies_may_come_as_a_column() -> None:
    base = database(4)
    again = Database({**base.columns, "energy": base.columns["energy"][:, None]})
    np.testing.assert_array_equal(again.columns["energy"], base.columns["energy"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"forces": np.zeros((3, 3))}, r"Column 'forces' has shape \(3, 3\), expected \(\d+, 3\)"),
        ({"energy": np.zeros(3)}, r"Column 'energy' has shape \(3,\), expected \(4,\)"),
        ({"energi": np.zeros(4)}, "'energi' is not a column. Did you mean energy"),
    ],
)
def test_columns_that_do_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Database({**database(4).columns, **changes})


def test_a_missing_column_is_told() -> None:
    columns = dict(database(4).columns)
    del columns["pbc"]
    with pytest.raises(ValueError, match="lacks the columns pbc"):
        Database(columns)


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"a": [0, 1], "b": [1]}, "in the splits twice"),
        ({"a": [0, 0]}, "in the splits twice"),
        ({"a": [0, 4]}, "names structure 4, expected 0 to 3"),
        ({"a": [2, -1]}, "names structure -1, expected 0 to 3"),
    ],
)
def test_splits_that_do_not_fit(splits: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Database(database(4).columns, splits)


def test_packing_any_structures_in_any_order() -> None:
    base = database(6)
    rows = np.array([4, 0, 4, 2])
    packed = Packer(base, ["positions", "system_of_atom", "cell", "energy", "n_atoms"]).pack(rows)
    expected = np.concatenate([base.columns["positions"][base.atoms(int(at))] for at in rows])
    np.testing.assert_array_equal(packed["positions"].numpy(), expected)
    np.testing.assert_array_equal(packed["energy"].numpy(), base.columns["energy"][rows])
    counts = base.columns["n_atoms"][rows]
    np.testing.assert_array_equal(packed["system_of_atom"].numpy(), np.repeat(np.arange(4), counts))
    assert list(packed) == ["positions", "system_of_atom", "cell", "energy", "n_atoms"]
    packed["positions"].zero_()  # a batch is a copy
    np.testing.assert_array_equal(expected, Packer(base, ["positions"]).pack(rows)["positions"].numpy())


def test_a_column_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="no column 'charges'; it has"):
        Packer(database(3), ["charges"])


def test_batches_cover_everything_once_and_depend_on_seed_and_epoch_alone() -> None:
    rows = np.arange(10, 33)
    np.testing.assert_array_equal(np.concatenate(list(in_order(rows, 5))), rows)
    seen = {}
    for seed in (0, 1):
        for epoch in (1, 2):
            batches = Sampler(rows, 5, seed).epoch(epoch)
            assert [len(part) for part in batches] == [5, 5, 5, 5, 3]
            seen[seed, epoch] = tuple(np.concatenate(batches))
            np.testing.assert_array_equal(np.sort(seen[seed, epoch]), rows)
            assert seen[seed, epoch] == tuple(np.concatenate(Sampler(rows, 5, seed).epoch(epoch)))
    assert len(set(seen.values())) == 4
