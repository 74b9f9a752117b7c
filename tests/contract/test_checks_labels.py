"""Labels that rows lack while others have them."""

from __future__ import annotations

import numpy as np

from tests.contract.finding import N, atom, crystals, found, measured, rows


def test_nothing_is_found_where_all_rows_have_all_labels() -> None:
    assert rows("missing_labels", crystals()) == []


def test_the_few_rows_that_lack_a_label_are_named() -> None:
    columns = crystals()
    columns["energy"][[3, 8]] = np.nan
    told = found("missing_labels", columns)
    assert [(one.row, one.what, one.got) for one in told] == [(3, "energy", "absent"), (8, "energy", "absent")]
    assert told[0].expected == f"a label that {N - 2} of {N} rows have (2 of {N} lack it among all rows)"


def test_one_component_of_one_atom_is_enough() -> None:
    columns = crystals()
    columns["forces"][atom(5, 31), 2] = np.nan
    columns["stress"][6, 1, 2] = np.nan
    assert [(one.row, one.what) for one in found("missing_labels", columns)] == [(5, "forces"), (6, "stress")]


def test_what_most_rows_of_a_kind_lack_is_told_once() -> None:
    columns = crystals()
    kinds = ["surface" if row < 10 else "bulk" for row in range(N)]
    columns["stress"][:8] = np.nan
    columns["stress"][20] = np.nan
    told = found("missing_labels", measured(columns, kinds))
    assert [(one.row, one.got) for one in told] == [(None, "absent from 8 of 10"), (20, "absent")]
    assert told[0].what == "stress in rows of 'surface'"
    assert "database.keys.stress" in told[0].remedy
    assert len(found("missing_labels", measured(columns, kinds), most=0.9)) == 9


def test_rows_without_a_kind_are_told_as_such() -> None:
    columns = crystals()
    kinds = [None if row < 10 else "bulk" for row in range(N)]
    columns["stress"][:10] = np.nan
    (one,) = found("missing_labels", measured(columns, kinds))
    assert one.what == "stress in rows without a config_type"
