"""The table says what the files say, leaves out what was not done, and invents nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forcefoundry.files import write_json
from pipeline.summary import table

FILES: dict[str, Any] = {
    "load/summary.json": {
        "n_structures": 1204,
        "n_atoms": 9000,
        "species": ["H", "C", "O"],
        "periodic": "open",
        "properties": {
            "energy": {"key": "energy", "unit": "eV", "count": 1204},
            "forces": {"key": "forces", "unit": "eV/Å", "count": 1100},
            "dipole": {"key": "dipole", "unit": "e·Å", "count": 1204},
        },
        "splits": {"train": 904, "valid": 100, "test": 100, "held_out": 100},
        "rows": {"in": 1207, "kept": 1204, "quarantined": 3, "rejected": 0},
        "source": "data.db",
        "digest": "d" * 64,
    },
    "precompute_pairs/receipt.json": {
        "computed": 38,
        "kept": 1166,
        "seconds": 0.44,
        "bytes": 9_100_000,
        "device": "cpu",
    },
    "train/receipt.json": {
        "epochs": 412,
        "best_epoch": 377,
        "seconds": 372.4,
        "n_parameters": 12345,
        "device": "cpu",
        "stopped": "patience",
    },
    "evaluate/metrics.json": {
        "valid": {
            "energy_per_atom": {"mae": 0.0009, "rmse": 0.00134, "r2": 0.99991},
            "forces": {"mae": 0.0212, "rmse": 0.0341, "r2": 0.97512},
        },
        "test": {
            "energy_per_atom": {"mae": 0.001, "rmse": 0.0014, "r2": None},
            "forces": {"mae": 0.022, "rmse": 0.036, "r2": 0.97},
        },
        "held_out": {},
    },
    "record/run.json": {"run_id": "abc123", "experiment": "forcefoundry", "tracking_uri": "sqlite:///mlflow.db"},
}

WHOLE = """\
data    1 204 structures   H C O   energy eV ✓  forces eV/Å on 1 100  stress –  dipole e·Å ✓   3 quarantined
        904 train, 100 valid, 100 test, 100 held out
pairs   1 166 kept, 38 computed in 0.4 s   9.1 MB
train   412 epochs in 6 m 12 s (best 377)   12 345 weights   on cpu
              E meV/atom                F meV/Å
              MAE     RMSE    R²        MAE     RMSE    R²
valid         0.9     1.3     0.9999    21      34      0.9751
test          1.0     1.4     –         22      36      0.9700
review  MLflow experiment forcefoundry, run abc123   make ui"""


def workspace(folder: Path, names: list[str]) -> Path:
    for name in names:
        write_json(folder / "artifacts" / name, FILES[name])
    return folder


def test_the_whole_table(tmp_path: Path) -> None:
    assert table(workspace(tmp_path, list(FILES))) == WHOLE


def test_what_was_converted_or_kept_out_is_told(tmp_path: Path) -> None:
    told = {
        "energy": {"unit": "eV", "count": 20, "unit_read": "kcal/mol", "factor": 0.04336, "sign": None},
        "forces": {"unit": "eV/Å", "count": 8, "unit_read": "kcal/mol/Å", "factor": -0.04336, "sign": "gradients"},
        "stress": {"unit": "eV/Å³", "count": 20, "unit_read": "eV/Å³", "factor": 1.0, "sign": None},
    }
    summary = {"n_structures": 20, "species": ["O"], "properties": told, "isolated_atoms": 3, "splits": {"train": 17}}
    summary["rows"] = {"in": 22, "kept": 20, "quarantined": 0, "rejected": 2}
    write_json(tmp_path / "artifacts/load/summary.json", summary)
    assert table(tmp_path).splitlines() == [
        "data    20 structures   O   energy eV from kcal/mol ✓  forces eV/Å from kcal/mol/Å gradients on 8  "
        "stress eV/Å³ ✓   2 rejected",
        "        17 train   3 isolated atoms kept out",
    ]


def test_before_it_is_recorded_there_is_no_review_row(tmp_path: Path) -> None:
    assert table(workspace(tmp_path, list(FILES)), recorded=False) == WHOLE.rpartition("\n")[0]


@pytest.mark.parametrize("missing", list(FILES))
def test_a_step_that_did_not_run_has_no_row(tmp_path: Path, missing: str) -> None:
    shown = table(workspace(tmp_path, [name for name in FILES if name != missing])).splitlines()
    absent = [line for line in WHOLE.splitlines() if line not in shown]
    starts = {"load": "data", "precompute_pairs": "pairs", "train": "train", "evaluate": " ", "record": "review"}
    assert absent[0].startswith(starts[missing.split("/")[0]])
    assert set(shown) < set(WHOLE.splitlines())


def test_stress_has_its_own_columns(tmp_path: Path) -> None:
    workspace(tmp_path, [])
    metrics = {
        "test": {"forces": {"mae": 0.1, "rmse": 0.2, "r2": 0.5}, "stress": {"mae": 0.001, "rmse": 0.002, "r2": 0.9}}
    }
    write_json(tmp_path / "artifacts/evaluate/metrics.json", metrics)
    head, columns, row = table(tmp_path).splitlines()
    assert head.split() == ["F", "meV/Å", "S", "meV/Å³"]
    assert columns.split() == ["MAE", "RMSE", "R²"] * 2
    assert row.split() == ["test", "100", "200", "0.5000", "1.00", "2.00", "0.9000"]


def test_nothing_to_show_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing to show in .*artifacts: start a run with `python"):
        table(tmp_path)
