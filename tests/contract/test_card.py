"""The data card counts what is there: every row once, in plain JSON, whatever the set."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forcefoundry.contract.card import NO_KIND, NOWHERE, SHOWN, card, periodicity
from forcefoundry.contract.findings import Finding, Origins
from forcefoundry.contract.histograms import BINS, histogram, streamed_histogram
from forcefoundry.contract.measures import Measures
from tests.contract.real_sets import measured, read_set, real_sets


def card_of(measures: Measures, findings: list[Finding] | None = None, **more: Any) -> dict[str, Any]:
    n = len(measures)
    origins = Origins(("a.xyz", "b.xyz"), (np.arange(n) % 2).astype(np.int32), [f"frame {at}" for at in range(n)])
    summary = {"rows": {"in": n + 3, "kept": n, "quarantined": 2, "rejected": 1}, **more}
    found = card(measures, findings or [], summary, origins, {"a.xyz": "a" * 64})
    again: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    assert again == found  # plain JSON, of which nothing is lost
    return found


def finding(row: int | None, check: str = "force_outlier") -> Finding:
    return Finding(check, row, "the force", "212 eV/Å", "at most 31 eV/Å", "Look at the row.")


@pytest.mark.parametrize("name", real_sets())
def test_every_row_of_a_real_set_is_counted_once(name: str) -> None:
    columns, kinds, given = read_set(name)
    known = measured(name)
    measures = replace(known, split=known.given)
    found = card_of(measures)
    n = len(columns["n_atoms"])
    splits = Counter(NOWHERE if one is None else one for one in given)
    assert found["splits"] == dict(splits)
    assert list(found["splits"])[-1] == NOWHERE or NOWHERE not in splits
    expected = Counter(NO_KIND if one is None else one for one in kinds)
    assert {one["config_type"]: one["rows"] for one in found["counts"]} == dict(expected)
    assert [one["rows"] for one in found["counts"]] == sorted(expected.values(), reverse=True)
    for one in found["counts"]:
        pairs = zip(kinds, given, strict=True)
        of_split = Counter(split or NOWHERE for kind, split in pairs if (kind or NO_KIND) == one["config_type"])
        assert {split: rows for split, rows in one["splits"].items() if rows} == dict(of_split)
    assert found["atoms"] == sum(one["atoms"] for one in found["species"]) == columns["n_atoms"].sum()
    assert sum(found["periodicity"].values()) == n
    assert [(one["file"], one["sha256"]) for one in found["files"]] == [("a.xyz", "a" * 64), ("b.xyz", None)]
    assert sum(one["rows"] for one in found["files"]) == n


@pytest.mark.parametrize("name", real_sets())
def test_every_value_of_a_real_set_is_in_a_bar_or_told_to_be_outside(name: str) -> None:
    columns, _, _ = read_set(name)
    known = measured(name)
    made = card_of(replace(known, split=known.given))["histograms"]
    values = {
        "energy_per_atom": columns["energy"] / columns["n_atoms"],
        "n_atoms": columns["n_atoms"].astype(float),
        "distance": known.distance,
        "max_force": known.max_force,
    }
    for quantity, of_rows in values.items():
        one, finite = made[quantity], of_rows[np.isfinite(of_rows)]
        drawn = sum(map(sum, one["counts"].values()))
        assert drawn + one["below"] + one["above"] == one["n"] == len(finite)
        assert (one["min"], one["max"]) == (finite.min(), finite.max())
        np.testing.assert_allclose([one["median"], one["mean"]], [np.median(finite), finite.mean()], rtol=1e-12)
        edges = np.array(one["edges"])
        assert (np.diff(edges) > 0).all()
        assert len(edges) <= BINS + 2
        assert drawn >= 0.99 * len(finite)
        inside = finite[(finite >= edges[0]) & (finite <= edges[-1])]
        np.testing.assert_array_equal(
            np.sum([np.array(bins) for bins in one["counts"].values()], axis=0), np.histogram(inside, edges)[0]
        )


def test_above_the_energies_of_atoms_a_set_lies_around_zero_to_the_last_digits() -> None:
    known = measured("acac_300K") if _there("acac_300K") else pytest.skip("acac is absent")
    made = card_of(known)["histograms"]["energy_above_atoms"]
    assert abs(made["median"]) < 1e-3  # eV/atom, of totals of −9391 eV
    assert made["max"] - made["min"] < 0.2


def _there(name: str) -> bool:
    return not next(one for one in real_sets() if one.id == name).marks


def test_findings_are_counted_by_check_and_the_first_are_kept() -> None:
    measures = some()
    findings = [finding(at % 4) for at in range(SHOWN + 5)] + [finding(None, "net_forces")]
    found = card_of(measures, findings, policies={"force_outlier": "quarantine"}, quarantine={"force_outlier": 4})
    first, second = found["findings"]
    assert (first["check"], first["count"], first["rows"], first["policy"]) == (
        "force_outlier",
        SHOWN + 5,
        4,
        "quarantine",
    )
    assert len(first["first"]) == SHOWN
    assert first["first"][1]["where"] == "b.xyz, frame 1"
    assert (second["check"], second["rows"], second["policy"], second["first"][0]["where"]) == (
        "net_forces",
        0,
        None,
        "",
    )
    assert found["quarantine"] == {"force_outlier": 4}


def test_rows_in_no_split_and_without_a_kind_have_their_own_columns() -> None:
    measures = some()
    split = np.array([0, 0, 1, -1])
    found = card_of(replace(measures, splits=("train", "valid", "test"), split=split))
    assert found["splits"] == {"train": 2, "valid": 1, NOWHERE: 1}
    assert found["counts"] == [
        {"config_type": NO_KIND, "rows": 4, "splits": {"train": 2, "valid": 1, NOWHERE: 1}},
    ]
    assert card_of(measures)["splits"] == {NOWHERE: 4}


def some() -> Measures:
    """Four rows, measured."""
    from forcefoundry.contract.measuring import measure
    from tests.builders import database

    return measure(database(4).columns, [None] * 4, [None] * 4)


def test_periodicities_are_told_apart() -> None:
    pbc = np.array([[True] * 3, [False] * 3, [True, False, True], [False, False, True]])
    assert periodicity(pbc) == {"open": 1, "periodic": 1, "periodic in part": 2}


@pytest.mark.parametrize("sizes", [(1000,), (1, 0, 999), (333, 333, 334)])
def test_blocks_give_what_the_whole_gives(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values, split = rng.normal(size=1000), rng.integers(0, 3, 1000)
    values[::7] = np.nan
    cuts = np.cumsum(sizes)[:-1]
    parts = list(zip(np.split(values, cuts), np.split(split, cuts), strict=True))
    names = ["train", "valid", "test"]
    streamed, whole = streamed_histogram(lambda: parts, names, "eV"), histogram(values, split, names, "eV")
    assert streamed is not None
    assert whole is not None
    assert streamed.pop("mean") == pytest.approx(whole.pop("mean"), rel=1e-12)  # sums differ in their last digit
    assert streamed == whole


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [0.0] * 5,
        [-9391.123456789] * 3,
        [1e-300, 2e-300],
        [1e300, -1e300],
        [5.0, 5.0, 5.0, 6.0],
        [np.nan, 2.0],
        list(np.r_[np.zeros(2000), 1e6]),
        [-626.1, np.nextafter(-626.1, 0.0)],
    ],
)
def test_odd_values_make_a_histogram(values: list[float]) -> None:
    made = histogram(np.array(values), np.zeros(len(values), dtype=np.int64), ["train"], "eV")
    assert made is not None
    assert all(np.isfinite(made["edges"]))
    assert (np.diff(made["edges"]) > 0).all()
    drawn = sum(made["counts"].get("train", []))
    assert drawn + made["below"] + made["above"] == made["n"] == np.isfinite(values).sum()


def test_a_few_outliers_do_not_stretch_the_bars_and_are_told() -> None:
    values = np.r_[np.random.default_rng(0).normal(0, 1, 200), 700.0, -5000.0]
    made = histogram(values, np.zeros(202, dtype=np.int64), ["train"], "eV")
    assert made is not None
    assert (made["below"], made["above"], made["min"], made["max"]) == (1, 1, -5000.0, 700.0)
    assert made["edges"][-1] - made["edges"][0] < 12


def test_whole_numbers_get_bars_of_their_own() -> None:
    made = histogram(np.array([2.0, 3.0, 3.0, 7.0]), np.zeros(4, dtype=np.int64), ["train"], "atoms")
    assert made is not None
    assert made["edges"] == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert made["counts"] == {"train": [1, 2, 0, 0, 0, 1]}


def test_where_there_is_nothing_there_is_no_histogram() -> None:
    assert histogram(np.full(3, np.nan), np.zeros(3, dtype=np.int64), ["train"], "eV") is None
    assert "pressure" not in card_of(some())["histograms"]


def test_of_very_many_values_a_sample_tells_the_edges_and_all_are_counted() -> None:
    rng = np.random.default_rng(0)
    blocks = [(rng.normal(size=50_000), np.zeros(50_000, dtype=np.int64)) for _ in range(10)]
    made = streamed_histogram(lambda: blocks, ["train"], "eV")
    assert made is not None
    assert sum(made["counts"]["train"]) + made["below"] + made["above"] == made["n"] == 500_000
    assert abs(made["median"]) < 0.01
