"""Each check by itself, with its defaults, on sets in which nothing is wrong: how many rows it names all the same."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.near import near_duplicates
from forcefoundry.databases.mapped import PackedColumns, structures_of
from tests.contract.real_sets import SETS, measured, read_set, real_sets
from tests.outside import data

MOST = 0.005  # of the rows
GRAVE = ("error", "quarantine")
TRUE = {("nbmotaw_NbW", "unseen_element"): 16}  # test cells of molybdenum and tantalum, trained on niobium and tungsten

Counts = dict[str, tuple[int, int]]


@cache
def placed(name: str) -> Measures:
    """A set with its near duplicates, each row in the official split of its file."""
    measures = measured(name)
    packed = PackedColumns(read_set(name)[0], np.concatenate([[0], np.cumsum(measures.n_atoms)]))
    twin = near_duplicates(measures, lambda rows: structures_of(packed, rows)).twin
    return replace(measures, twin=twin, split=measures.given)


@cache
def counts(name: str) -> Counts:
    """For each check that says anything, how many rows it names, and how often it speaks of the set as a whole."""
    measures, found = placed(name), {}
    for check in known_checks().values():
        told = [one.row for one in check.find(measures, check.options)] if check.find else []
        if told:
            found[check.name] = (len({row for row in told if row is not None}), told.count(None))
    return found


def table(names: list[str]) -> str:
    lines = [f"{'set':15}{'check':26}{'policy':12}{'rows':>6}{'of':>6}{'whole':>6}"]
    for name in names:
        for check, (rows, whole) in counts(name).items():
            true = f"  {TRUE[name, check]} of them true" if (name, check) in TRUE else ""
            policy = known_checks()[check].policy
            lines.append(f"{name:15}{check:26}{policy:12}{rows:6}{len(measured(name)):6}{whole:6}{true}")
    return "\n".join(lines)


@pytest.mark.parametrize("name", real_sets())
def test_what_ends_a_run_or_sets_rows_apart_says_next_to_nothing_of_a_clean_set(name: str) -> None:
    grave = {check: found for check, found in counts(name).items() if known_checks()[check].policy in GRAVE}
    wrongly = {check: rows - TRUE.get((name, check), 0) for check, (rows, _) in grave.items()}
    assert sum(wrongly.values()) <= MOST * len(measured(name)), "\n" + table([name])
    assert all(rows == 0 for check, rows in wrongly.items() if known_checks()[check].policy == "error"), table([name])
    assert all(whole == 0 for _, whole in grave.values()), "\n" + table([name])


def test_what_ends_a_run_or_sets_rows_apart_says_next_to_nothing_of_all_sets() -> None:
    names = [name for name, (folder, _, _) in SETS.items() if (data() / folder).is_dir()]
    if not names:
        pytest.skip(f"{data()} is absent")
    wrongly = sum(
        rows - TRUE.get((name, check), 0)
        for name in names
        for check, (rows, _) in counts(name).items()
        if known_checks()[check].policy in GRAVE
    )
    assert wrongly <= MOST * sum(len(measured(name)) for name in names), "\n" + table(names)


def test_what_is_truly_there_is_found() -> None:
    """An absent finding would make the count above look better than it is."""
    for (name, check), rows in TRUE.items():
        if (data() / SETS[name][0]).is_dir():
            assert counts(name)[check][0] == rows
