"""The checks of repeated structures and of splits, on rows made for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from forcefoundry.contract.checks import duplicates, splits


def rows() -> Any:
    """Five rows: 1 repeats 0 with another energy, 2 is nearly 0, 3 and 4 are others; 4 alone has gold."""

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return 5

    keys = np.zeros((5, 32), dtype=np.uint8)
    keys[:, 0] = [1, 1, 2, 3, 4]
    return Rows(
        keys=keys,
        n_atoms=np.full(5, 2),
        energy=np.array([-1.0, -1.5, -1.0, -2.0, np.nan]),
        twin=np.array([-1, 0, 0, -1, -1]),
        splits=("train", "valid", "test"),
        split=np.array([0, 2, 1, 0, 2]),
        species=(29, 79),
        composition=np.array([[2, 0], [2, 0], [2, 0], [2, 0], [1, 1]]),
    )


def test_repeats_are_named_with_what_they_repeat() -> None:
    assert [(one.row, one.other) for one in duplicates.exact(rows(), {})] == [(1, 0)]
    assert [(one.row, one.other) for one in duplicates.near(rows(), {})] == [(2, 0)]


def test_other_energies_of_one_structure() -> None:
    assert [one.row for one in duplicates.labels_differ(rows(), {"energy_per_atom": 0.2, "near": 0.2})] == [1]
    assert not list(duplicates.labels_differ(rows(), {"energy_per_atom": 0.3, "near": 0.2}))


def test_other_energies_of_nearly_one_structure() -> None:
    held = rows()
    held.energy[2] = -1.5
    told = list(duplicates.labels_differ(held, {"energy_per_atom": 0.3, "near": 0.2}))
    assert [(one.row, one.other) for one in told] == [(2, 0)]
    assert "nearly the same structure in" in told[0].got
    held.n_atoms[2] = 1  # check isolated_atoms tells of these
    assert not list(duplicates.labels_differ(held, {"energy_per_atom": 0.3, "near": 0.2}))


def test_structures_in_two_splits_and_elements_never_trained_on() -> None:
    told = [(one.row, one.got.replace(one.OTHER, str(one.other))) for one in splits.overlap(rows(), {})]
    assert told == [(1, "that of 0 in 'train'"), (2, "nearly that of 0 in 'train'")]
    assert [(one.row, one.got) for one in splits.unseen_element(rows(), {})] == [(4, "one with Au")]
