"""The data card of a real run: what the door let in, counted again from the columns and the pairs themselves."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from forcefoundry.contract.door import bring_in
from forcefoundry.contract.histograms import streamed_histogram
from forcefoundry.databases import Database
from forcefoundry.files import read_json
from forcefoundry.pairs.cache import compute_table
from pipeline.steps import data_card, precompute_pairs
from pipeline.steps.workspace import LOAD, REVIEWS, store_root
from tests.contract.test_door import config
from tests.pipeline.crystals import crystals

CUTOFF = 3.0
PARAMS: dict[str, Any] = {
    "database": {"path": "data/rows.xyz"},
    "pairs": {"source": "cache", "cutoff": CUTOFF, "finder": "cpu"},
    "hardware": {"device": "cpu", "threads": 1},
}
ON_THE_FLY = PARAMS | {"pairs": PARAMS["pairs"] | {"source": "on_the_fly"}}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose rows have come in and have their pairs: 80, of which 2 were set apart."""
    folder = tmp_path_factory.mktemp("workspace")
    rows = crystals(50, "bulk") + crystals(29, "<other>")
    rows[7].calc.results["forces"] = rows[7].calc.results["forces"] * 1e5
    rows[40].positions[0] = np.nan
    rows.append(ase.Atoms("Cu", info={"config_type": "IsolatedAtom"}))
    rows[-1].calc = SinglePointCalculator(rows[-1], energy=3.5, forces=np.zeros((1, 3)))
    (folder / "data").mkdir()
    ase.io.write(folder / "data/rows.xyz", rows, format="extxyz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FORCEFOUNDRY_STORE", str(folder / "store"))
        summary = bring_in(config(Path("data/rows.xyz")), None, LOAD)
        assert summary["rows"] == {"in": 80, "kept": 78, "quarantined": 2, "rejected": 0}
        precompute_pairs.run(PARAMS)
    return folder


@pytest.fixture(autouse=True)
def here(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(loaded, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("FORCEFOUNDRY_STORE", str(tmp_path / "workspace" / "store"))


def totals(made: dict[str, Any]) -> dict[str, int]:
    return {name: sum(bins) for name, bins in made["counts"].items()}


def test_forces_and_pairs_are_those_of_the_columns() -> None:
    card = data_card.write_page(PARAMS, Path("card.html"))
    database = Database.load(LOAD / "columns")
    forces = database.columns["forces"]
    made = card["histograms"]["force_components"]
    assert (made["n"], made["min"], made["max"]) == (forces.size, forces.min(), forces.max())
    drawn = np.sum([np.array(bins) for bins in made["counts"].values()], axis=0)
    inside = forces[(forces >= made["edges"][0]) & (forces <= made["edges"][-1])]
    np.testing.assert_array_equal(drawn, np.histogram(inside, made["edges"])[0])
    for name, members in database.splits.items():
        of_split = np.concatenate([forces[database.atoms(at)].ravel() for at in members])
        told = of_split[(of_split >= made["edges"][0]) & (of_split <= made["edges"][-1])]
        assert totals(made)[name] == len(told)
    pairs = card["histograms"]["pairs_per_atom"]
    expected = compute_table(database, CUTOFF).pairs_of_structure / database.n_atoms
    assert (pairs["n"], pairs["min"], pairs["max"]) == (78, expected.min(), expected.max())
    assert pairs["mean"] == pytest.approx(expected.mean(), rel=1e-12)


def test_the_page_tells_what_was_set_apart_and_where_rows_came_from() -> None:
    card = data_card.write_page(PARAMS, Path("card.html"))
    text = Path("card.html").read_text(encoding="utf-8")
    assert "<h1>Data card: rows.xyz</h1>" in text
    assert card["quarantine"] == {"force_outlier": 1, "not_finite": 1}
    assert re.search(r"data/rows\.xyz, frame 7</td><td>the force on atom", text)
    assert re.search(r"data/rows\.xyz, frame 40</td><td>the position of atom 0", text)
    assert card["files"][0]["sha256"] in text
    assert "&lt;other&gt;" in text
    assert "<other>" not in text
    assert card["splits"]["no split"] == 1
    assert read_json(data_card.CARD)["rows"] == {"in": 80, "kept": 78, "quarantined": 2, "rejected": 0}


def test_equal_runs_give_equal_pages() -> None:
    for name in ("a.html", "b.html"):
        data_card.write_page(PARAMS, Path(name))
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()


def test_where_pairs_are_not_kept_the_page_does_without_them(caplog: pytest.LogCaptureFixture) -> None:
    assert "pairs_per_atom" not in data_card.write_page(ON_THE_FLY, Path("card.html"))["histograms"]
    assert not caplog.records
    shutil.rmtree(store_root())
    shutil.rmtree("artifacts/precompute_pairs")
    assert "pairs_per_atom" not in data_card.write_page(PARAMS, Path("card.html"))["histograms"]
    assert "the data card is without the number of pairs" in caplog.text


def test_columns_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data_card.write_page(ON_THE_FLY, Path("card.html"))
    monkeypatch.setattr(data_card, "_AT_ONCE", 10)
    pieces: list[int] = []
    real = streamed_histogram

    def counted(blocks: Any, *words: Any) -> Any:
        pieces.extend(len(values) for values, _ in blocks())
        return real(blocks, *words)

    monkeypatch.setattr("forcefoundry.contract.histograms.streamed_histogram", counted)
    again = data_card.write_page(ON_THE_FLY, Path("card.html"))
    assert len(pieces) > 20
    assert max(pieces) <= 3 * 10
    for card in (whole, again):
        card["histograms"]["force_components"].pop("mean")  # sums differ in their last digit
    assert again == whole


def test_without_forces_there_are_none_on_the_page() -> None:
    rows = crystals(40, "bulk")
    for row in rows:
        row.calc.results.pop("forces")
    ase.io.write("energies.xyz", rows, format="extxyz")
    bring_in(config(Path("energies.xyz")) | {"keys": {"energy": None}}, None, LOAD)
    card = data_card.write_page(ON_THE_FLY, Path("card.html"))
    assert "energy_per_atom" in card["histograms"]
    assert not {"force_components", "rms_force", "max_force"} & set(card["histograms"])
    assert not REVIEWS.exists()
