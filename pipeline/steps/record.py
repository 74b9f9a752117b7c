"""record: the finished run into MLflow, with what it was made from."""

from __future__ import annotations

import csv
import hashlib
import logging
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from forcefoundry.files import read_json, write_json, written_whole
from pipeline import summary, tracking
from pipeline.step import Step
from pipeline.steps import data_card
from pipeline.steps.data_card import CARD, COLUMNS
from pipeline.steps.workspace import ASSEMBLE, EVALUATE, LOAD, PAIR_PARAMS, PAIRS, TRAIN

SUMMARY = LOAD / "summary.json"
PAIRS_RECEIPT = PAIRS / "receipt.json"
PAIRS_DIGEST = PAIRS / "digest.json"
GRAPH = ASSEMBLE / "graph.md"
MODEL = TRAIN / "model"
HISTORY = TRAIN / "history.csv"
TRAINED = TRAIN / "receipt.json"
METRICS = EVALUATE / "metrics.json"
PLOTS = EVALUATE / "plots"
RUN = Path("artifacts/record/run.json")
TABLE = Path("artifacts/record/summary.txt")
PAGE = Path("artifacts/record/data_card.html")
LOCK = Path("dvc.lock")

_MOST_KINDS = 100  # config_types in the profile of a data set, the most frequent first

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Record the run and write artifacts/record/: run.json (its id, its experiment, where it is tracked), summary.txt
    and data_card.html.

    TrackingDownError if MLflow is not there; FileNotFoundError if an earlier step has not run.
    """
    table = summary.table(Path(), recorded=False)
    with written_whole(TABLE) as draft:
        draft.write_text(table + "\n", encoding="utf-8")
    card = data_card.write_page(params, PAGE)
    finished = tracking.Finished(
        experiment=str(params["tracking"]["experiment"]),
        name=None if params["tracking"]["run_name"] is None else str(params["tracking"]["run_name"]),
        params=params,
        history=_history(),
        metrics=_metrics(read_json(METRICS)),
        datasets=_datasets(read_json(SUMMARY), card),
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


def _datasets(loaded: Mapping[str, Any], card: Mapping[str, Any]) -> list[tracking.DataSet]:
    """Each split with the files that the data came from; `digest` is theirs, and that of the columns in the profile."""
    source = str(loaded["source"])
    files = [(one["file"], one["sha256"]) for one in card["files"] if one["sha256"]]
    digest = _of_files(files) or loaded["digest"]
    return [
        tracking.DataSet(Path(source).name, split, digest, source, _profile(loaded, card, split, n), files)
        for split, n in loaded["splits"].items()
        if n
    ]


def _of_files(files: Sequence[tuple[str, str]]) -> str:
    """One file's sha256; that over those of several, as sha256sum would list them; empty where there is none."""
    if len(files) < 2:
        return files[0][1] if files else ""
    listed = "".join(f"{digest}  {Path(name).name}\n" for name, digest in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def _profile(loaded: Mapping[str, Any], card: Mapping[str, Any], split: str, n: int) -> dict[str, Any]:
    return {
        "n_structures": n,
        "digest": loaded["digest"],
        "rows": card["rows"],
        "splits": loaded["splits"],
        "species": {one["symbol"]: one["splits"].get(split, 0) for one in card["species"]},
        "config_types": {
            one["config_type"]: one["splits"][split] for one in card["counts"][:_MOST_KINDS] if one["splits"].get(split)
        },
    }


def _files() -> dict[str, Path]:
    for path in (MODEL, PLOTS, GRAPH):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: run the step that writes it first, {path.parent.name}.")
    sources = [path for path in (LOCK, Path("params.yaml")) if path.is_file()]
    shown = {"model": MODEL, "plots": PLOTS, TABLE.name: TABLE, GRAPH.name: GRAPH, PAGE.name: PAGE}
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
        *("pipeline/steps/data_card.py", "pipeline/card_page.py", "pipeline/card_drawing.py"),
        *(str(path) for path in (SUMMARY, CARD, COLUMNS, PAIRS_RECEIPT, PAIRS_DIGEST)),
        *(str(path) for path in (GRAPH, MODEL, HISTORY, TRAINED, METRICS, PLOTS)),
    ),
    # Everything that is logged; not hardware, which changes nothing of what the run is.
    params=("database", *PAIR_PARAMS, "network", "objective", "training", "plots", "tracking"),
    outs=(str(RUN), str(TABLE), str(PAGE)),
    # A tracker that restarts or a database that is locked for a moment is worth a second try.
    retries=2,
)
