"""record: the finished run into MLflow, with what it was made from."""

from __future__ import annotations

import csv
import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from forcefoundry.files import read_json, write_json, written_whole
from pipeline import summary, tracking
from pipeline.step import Step
from pipeline.steps.workspace import ASSEMBLE, EVALUATE, LOAD, PAIRS, TRAIN

SUMMARY = LOAD / "summary.json"
PAIRS_RECEIPT = PAIRS / "receipt.json"
GRAPH = ASSEMBLE / "graph.md"
MODEL = TRAIN / "model"
HISTORY = TRAIN / "history.csv"
TRAINED = TRAIN / "receipt.json"
METRICS = EVALUATE / "metrics.json"
PLOTS = EVALUATE / "plots"
RUN = Path("artifacts/record/run.json")
TABLE = Path("artifacts/record/summary.txt")
LOCK = Path("dvc.lock")

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Record the run and write artifacts/record/: run.json (its id, its experiment, where it is tracked), summary.txt.

    TrackingDownError if MLflow is not there; FileNotFoundError if an earlier step has not run.
    """
    table = summary.table(Path(), recorded=False)
    with written_whole(TABLE) as draft:
        draft.write_text(table + "\n", encoding="utf-8")
    finished = tracking.Finished(
        experiment=str(params["tracking"]["experiment"]),
        name=None if params["tracking"]["run_name"] is None else str(params["tracking"]["run_name"]),
        params=params,
        history=_history(),
        metrics=_metrics(read_json(METRICS)),
        datasets=_datasets(read_json(SUMMARY)),
        tags={**_git(), **_dvc_hashes(), "mlflow.note.content": f"```\n{table}\n```"},
        files=_files(),
    )
    run_id = tracking.log(finished)
    where = {"run_id": run_id, "experiment": finished.experiment, "tracking_uri": tracking.public(tracking.address())}
    write_json(RUN, where)
    logger.info("Recorded as run %s of the MLflow experiment %s.", run_id, finished.experiment)


def _history() -> list[dict[str, float]]:
    try:
        with HISTORY.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise FileNotFoundError(f"{HISTORY} does not exist: run the step that writes it first, train.") from None


def _metrics(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> dict[str, float]:
    # {"test": {"forces": {"rmse": 0.03}}} -> {"test/forces/rmse": 0.03}; null where a split is too small for it
    return {
        f"{split}/{quantity}/{name}": value
        for split, quantities in metrics.items()
        for quantity, errors in quantities.items()
        for name, value in errors.items()
        if value is not None
    }


def _datasets(loaded: Mapping[str, Any]) -> list[tracking.DataSet]:
    source = str(loaded["source"])
    return [
        tracking.DataSet(Path(source).name, split, loaded["digest"], source, n)
        for split, n in loaded["splits"].items()
        if n
    ]


def _files() -> dict[str, Path]:
    for path in (MODEL, PLOTS, GRAPH):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: run the step that writes it first, {path.parent.name}.")
    sources = [path for path in (LOCK, Path("params.yaml")) if path.is_file()]
    shown = {"model": MODEL, "plots": PLOTS, TABLE.name: TABLE, GRAPH.name: GRAPH}
    return {**shown, **{f"made_from/{path.name}": path for path in sources}}


def _git() -> dict[str, str]:
    commit = _said("rev-parse", "HEAD")
    if commit is None:
        return {}
    # Both files change with every experiment and are recorded themselves, so they do not make a run irreproducible.
    changed = _said("status", "--porcelain", "--", ".", ":!params.yaml", ":!dvc.lock")
    return {"mlflow.source.git.commit": commit, "git.dirty": "true" if changed else "false"}


def _said(*words: str) -> str | None:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def _dvc_hashes() -> dict[str, str]:
    if not LOCK.is_file():
        return {}
    stages = (yaml.safe_load(LOCK.read_text(encoding="utf-8")) or {}).get("stages", {})
    outs = [out for name, stage in stages.items() if name != STEP.name for out in stage.get("outs", ())]
    return {f"dvc.{out['path']}": out["md5"] for out in outs if "md5" in out}


STEP = Step(
    name="record",
    run=run,
    deps=(
        *("pipeline/steps/record.py", "pipeline/tracking.py", "pipeline/summary.py"),
        *(str(path) for path in (SUMMARY, PAIRS_RECEIPT, GRAPH, MODEL, HISTORY, TRAINED, METRICS, PLOTS)),
    ),
    # Everything that is logged; not hardware, which changes nothing of what the run is.
    params=("database", "pairs", "network", "objective", "training", "plots", "tracking"),
    outs=(str(RUN), str(TABLE)),
    # A tracker that restarts or a database that is locked for a moment is worth a second try.
    retries=2,
)
