"""Faults planted one at a time into real sets: each is found, by its check, file and row, and nothing else is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from forcefoundry.contract.door import ContractError
from tests.contract import planted_labels, planted_structures
from tests.contract.planting import (
    BASE,
    Planted,
    Spoil,
    brought,
    check_found,
    clean,
    joined,
    numbers,
    texts,
    told,
    vectors,
    with_atom,
    with_numbers,
)

FAULTS = planted_structures.PLAN.faults + planted_labels.PLAN.faults


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_and_the_good_rows_come_in(fault: Planted, tmp_path: Path) -> None:
    config, path = fault.plant(tmp_path / "data")
    before, after = clean(fault.base, **fault.changes), brought(config, tmp_path / "out")
    check_found(before, after, fault.check, (str(path), f"frame {fault.at}"), fault.apart)


def first_of_each_check() -> list[Planted]:
    by_check: dict[str, Planted] = {}
    for fault in FAULTS:
        by_check.setdefault(fault.check, fault)
    return list(by_check.values())


@pytest.mark.parametrize("fault", first_of_each_check(), ids=lambda fault: fault.check)
def test_a_fault_ends_the_run_where_the_policy_says_so(fault: Planted, tmp_path: Path) -> None:
    config, path = fault.plant(tmp_path / "data")
    with pytest.raises(ContractError) as error:
        brought(config, tmp_path / "out", {fault.check: {"policy": "error"}})
    (found,) = [one for one in told(tmp_path / "out") if one["check"] == fault.check and one["row"] is not None]
    said = f"{path}, frame {fault.at}: {found['what']} is {found['got']}, expected {found['expected']}. "
    assert str(error.value).startswith(said + found["remedy"])


# What is no fault.


def left_handed_cell(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice").reshape(3, 3)[[1, 0, 2]])


def blank_lines_behind(frame: str) -> str:
    return frame + "\n\n"


def lines_of_windows(frame: str) -> str:
    return frame.replace("\n", "\r\n")


def an_atom_in_the_next_cell(frame: str) -> str:
    return with_atom(frame, 5, x=vectors(frame)[5, 0] + 2 * numbers(frame, "Lattice")[0])


@pytest.mark.parametrize(
    "change",
    [left_handed_cell, blank_lines_behind, lines_of_windows, an_atom_in_the_next_cell],
    ids=lambda change: change.__name__,
)
def test_nothing_is_found_of_what_is_right(change: Spoil, tmp_path: Path) -> None:
    config, path = Planted("", change, BASE, "test", 7, False, {}).plant(tmp_path / "data")
    after = brought(config, tmp_path / "out")
    assert path.read_bytes() != joined(texts(BASE, "test"))
    assert after.findings == []
    assert after.summary["rows"] == clean(BASE).summary["rows"]
    assert (Counter(after.rows) - Counter(clean(BASE).rows)).total() <= 1  # the cell, or where the atom lies
