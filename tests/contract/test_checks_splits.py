"""Structures in two splits, and elements that are judged and never trained on."""

from __future__ import annotations

import numpy as np
import pytest

from forcefoundry.contract.checks import known_checks
from tests.contract.finding import N, atom, atoms, crystals, found, in_splits, measured, rows

TRAIN_AND_TEST = [0] * 30 + [2] * 10


def test_nothing_is_found_in_sound_splits() -> None:
    measures = in_splits(measured(crystals()), TRAIN_AND_TEST, [-1] * N)
    assert rows("split_overlap", measures) == []
    assert rows("unseen_element", measures) == []


@pytest.mark.parametrize("check", ["split_overlap", "unseen_element"])
def test_nothing_is_said_before_rows_are_in_splits(check: str) -> None:
    assert known_checks()[check].after_splits
    columns = crystals()
    columns["species"][atom(35, 2)] = 79
    columns["positions"][atoms(36)], columns["cell"][36] = columns["positions"][atoms(3)], columns["cell"][3]
    assert rows(check, columns) == []


def repeated() -> list[int]:
    """Rows 33 and 12 are row 3 again, to the bit."""
    columns = crystals()
    for row in (12, 33):
        columns["positions"][atoms(row)], columns["cell"][row] = columns["positions"][atoms(3)], columns["cell"][3]
    measures = in_splits(measured(columns), TRAIN_AND_TEST)
    told = found("split_overlap", measures)
    assert all(one.other == 3 for one in told)
    assert told[0].what == "the structure, in 'test',"
    assert told[0].got == f"that of {told[0].OTHER} in 'train'"
    return [one.row for one in told if one.row is not None]


def test_a_structure_in_two_splits_is_named_and_one_twice_in_a_split_is_not() -> None:
    assert repeated() == [33]


def test_near_duplicates_in_two_splits() -> None:
    twin = np.full(N, -1)
    twin[[5, 31]] = 2, 2
    (one,) = found("split_overlap", in_splits(measured(crystals()), TRAIN_AND_TEST, twin.tolist()))
    assert (one.row, one.other, one.got) == (31, 2, f"nearly that of {one.OTHER} in 'train'")


def test_what_is_repeated_to_the_bit_is_not_told_again_as_nearly_so() -> None:
    columns = crystals()
    columns["positions"][atoms(33)], columns["cell"][33] = columns["positions"][atoms(3)], columns["cell"][3]
    twin = np.full(N, -1)
    twin[33] = 3
    (one,) = found("split_overlap", in_splits(measured(columns), TRAIN_AND_TEST, twin.tolist()))
    assert (one.row, one.got.startswith("nearly")) == (33, False)


def test_rows_in_no_split_overlap_with_none() -> None:
    split = [*TRAIN_AND_TEST]
    split[2], split[34] = -1, -1
    twin = np.full(N, -1)
    twin[[31, 34]] = 2, 4
    assert rows("split_overlap", in_splits(measured(crystals()), split, twin.tolist())) == []


def test_an_element_that_training_lacks() -> None:
    columns = crystals()
    columns["species"][[atom(35, 2), atom(35, 3), atom(38, 0)]] = 79, 47, 79
    columns["species"][atom(4, 0)] = 47
    told = found("unseen_element", in_splits(measured(columns), TRAIN_AND_TEST))
    assert [(one.row, one.got) for one in told] == [(35, "one with Au"), (38, "one with Au")]
    told = found(
        "unseen_element", in_splits(measured(columns), [-1 if row == 4 else s for row, s in enumerate(TRAIN_AND_TEST)])
    )
    assert [(one.row, one.got) for one in told] == [(35, "one with Ag, Au"), (38, "one with Au")]


def test_rows_of_training_and_of_no_split_may_have_any_element() -> None:
    columns = crystals()
    columns["species"][[atom(3, 0), atom(36, 0)]] = 79, 47
    split = [*TRAIN_AND_TEST]
    split[36] = -1
    assert rows("unseen_element", in_splits(measured(columns), split)) == []
