"""Every real set through the door: what its README says of it is found, and hardly anything else is set apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forcefoundry.contract.door import COLUMNS, ContractError, bring_in
from forcefoundry.databases import Database
from tests.contract.planting import info, needed, texts, told
from tests.contract.real_sets import SETS, real_sets, set_config
from tests.outside import arrays, data

MOST = 0.005
"""Of the rows of sets in which nothing is wrong, so many may be set apart."""

TRULY = {"nbmotaw_NbW": {"unseen_element": 16}}
"""What is set apart for a reason: alloys of molybdenum and tantalum, which Nb-W training data do not have."""


@dataclass(frozen=True)
class Came:
    """What a set came to."""

    summary: dict[str, Any]
    findings: list[dict[str, Any]]
    database: Database

    def places(self, check: str) -> list[tuple[str, str]]:
        """The file names and places of a check's findings."""
        return [(Path(one["file"]).name, one["where"]) for one in self.findings if one["check"] == check]


Coming = Callable[[str], Came]


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Coming:
    """Brings a set in, once."""
    held: dict[str, Came] = {}

    def coming(name: str) -> Came:
        needed(name)
        if name not in held:
            out = tmp_path_factory.mktemp(name) / "out"
            contract = {"unseen_element": {"policy": "quarantine"}}
            summary = bring_in(set_config(name), contract if name in TRULY else None, out)
            held[name] = Came(summary, told(out), Database.load(out / COLUMNS))
        return held[name]

    return coming


def false_alarms(came: Came, name: str) -> tuple[int, int]:
    """How many rows are set apart that should not be, of how many."""
    rows = came.summary["rows"]
    return rows["quarantined"] - sum(TRULY.get(name, {}).values()), rows["in"]


@pytest.mark.parametrize("name", real_sets())
def test_hardly_a_row_of_a_set_is_set_apart(name: str, came: Coming) -> None:
    found = came(name)
    apart, rows = false_alarms(found, name)
    assert apart <= MOST * rows, f"{apart} of {rows} rows: {found.summary['quarantine']}"
    assert found.summary["rows"]["rejected"] == 0
    assert {check: found.summary["quarantine"].get(check) for check in TRULY.get(name, {})} == TRULY.get(name, {})


def test_hardly_a_row_of_all_sets_is_set_apart(came: Coming) -> None:
    there = [name for name, (folder, _, _) in SETS.items() if (data() / folder).is_dir()]
    if not there:
        pytest.skip(f"{data()} is absent")
    counts = {name: false_alarms(came(name), name) for name in there}
    table = "\n".join(f"{name:15}{apart:6} of {rows:6}" for name, (apart, rows) in counts.items())
    apart, rows = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    assert apart <= MOST * rows, f"{apart} of {rows} rows are set apart:\n{table}"


@pytest.mark.parametrize("name", real_sets())
def test_nothing_is_said_of_units_signs_and_keys(name: str, came: Coming) -> None:
    known = {"near_duplicate", "split_overlap", "missing_labels", "bridges_splits", *TRULY.get(name, {})}
    assert set(came(name).summary["findings"]) <= known
    # Of acac scans are validated on, which have energies alone.
    scans = "no structure of the split 'valid' has forces"
    assert [one.startswith(scans) for one in came(name).summary["warnings"]] == [True] * name.startswith("acac")


@pytest.mark.parametrize(
    "name", [one for one in real_sets() if one.values[0] not in ("h2co",) and "rmd17" not in one.id]
)
def test_energies_are_those_of_the_text_to_the_last_bit(name: str, came: Coming) -> None:
    key = came(name).summary["properties"]["energy"]["key"]
    frames = [frame for split in SETS[name][1] for frame in texts(name, split)]
    given = np.array([float(info(frame, key)) for frame in frames])
    found = came(name).database
    assert found.columns["energy"].dtype == np.float64
    if name in TRULY:
        assert set(found.columns["energy"].tolist()) <= set(given.tolist())
    else:
        np.testing.assert_array_equal(found.columns["energy"], given)


def test_tests_of_mlearn_that_repeat_training_are_told(came: Coming) -> None:
    assert came("mlearn_Li").places("split_overlap") == [("Li_test.xyz", f"frame {at}") for at in (26, 27, 28)]
    assert came("mlearn_Si").places("split_overlap") == [("Si_test.xyz", f"frame {at}") for at in (22, 23, 24)]
    for name in ("mlearn_Li", "mlearn_Si"):
        said = [one["got"] for one in came(name).findings if one["check"] == "split_overlap"]
        assert all(one.startswith("nearly that of ") and f"{name[-2:]}_train.xyz, frame " in one for one in said)


def test_surfaces_without_a_stress_are_masked(came: Coming) -> None:
    found = came("mlearn_Si")
    lacking = np.isnan(found.database.columns["stress"]).all(axis=(1, 2))
    kinds = [info(frame, "config_type") for split in ("train", "test") for frame in texts("mlearn_Si", split)]
    assert [kinds[row] for row in np.flatnonzero(lacking)] == ["Surface"] * 14
    assert found.database.partial == ("stress",)
    (said,) = [one for one in found.findings if one["check"] == "missing_labels"]
    assert (said["row"], said["what"], said["got"]) == (None, "stress in rows of 'Surface'", "absent from 14 of 14")


def test_carbonates_of_training_in_the_test_are_told(came: Coming) -> None:
    found = came("solvent_xtb")
    overlap = found.places("split_overlap")
    assert [file for file, _ in overlap] == ["solvent_xtb_test.xyz"] * 5
    assert found.summary["isolated_atoms"] == 3
    single = np.flatnonzero(found.database.n_atoms == 1)
    assert len(single) == 3
    assert not set(single.tolist()) & {row for rows in found.database.splits.values() for row in rows.tolist()}


@pytest.mark.parametrize("name", ["acac_300K", "acac_600K"])
def test_a_cell_beside_open_boundaries_makes_no_row_periodic(name: str, came: Coming) -> None:
    found = came(name).database
    assert not found.columns["pbc"].any()
    assert (found.columns["energy"][found.n_atoms == 15] < -9380).all()
    assert np.isnan(found.columns["forces"]).any()  # of the scans
    assert found.partial == ("forces",)


@pytest.mark.parametrize("molecule", ["aspirin", "benzene", "ethanol"])
def test_the_noisy_labels_of_rmd17_are_not_taken(molecule: str, came: Coming) -> None:
    found = came(f"rmd17_{molecule}")
    assert [found.summary["properties"][name]["key"] for name in ("energy", "forces")] == ["energies", "forces"]
    energy, noisy = (
        np.concatenate(
            [arrays(data() / "rmd17" / f"rmd17_{molecule}_{part}_01.npz")[key] for part in ("train", "test")]
        )
        for key in ("energies", "old_energies")
    )
    kcal = found.summary["properties"]["energy"]["factor"]
    np.testing.assert_array_equal(found.database.columns["energy"], energy * kcal)
    assert (found.database.columns["energy"] != noisy * kcal).mean() > 0.99


def test_an_element_that_training_lacks_ends_the_run(tmp_path: Path) -> None:
    needed("nbmotaw_NbW")
    with pytest.raises(ContractError, match=r"Multinary_Test\.xyz, frame 0: .* \(15 more such findings\) \[unseen"):
        bring_in(set_config("nbmotaw_NbW"), None, tmp_path / "out")
