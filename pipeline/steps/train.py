"""train: from the assembled graph and its initial weights to the best weights."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefoundry.files import read_json, write_json, written_whole
from pipeline.step import Step
from pipeline.steps.workspace import (
    ASSEMBLE,
    LOAD,
    MODEL_CODE,
    PAIR_PARAMS,
    PAIRS,
    SCRATCH,
    TRAIN,
    assembled_with_pairs,
    choose_device,
    load_columns,
    prepare_process,
)

if TYPE_CHECKING:
    from forcefoundry.experiment.trainer import Row

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/train/: model/, history.csv and a receipt. An interrupted run goes on where it was."""
    from forcefoundry.experiment.resolved import check_same, describe
    from forcefoundry.experiment.settings import TrainingSettings
    from forcefoundry.experiment.trainer import Trainer
    from forcefoundry.interfaces.model_folder import build_objective, load_weights, save_model

    prepare_process(params)
    settings = TrainingSettings.of_params(params["training"])
    device = choose_device(params)
    database = load_columns()
    objective = build_objective(params, database.species)
    modules, info = assembled_with_pairs(params, database, objective)
    check_same(read_json(ASSEMBLE / "graph.json"), describe(modules.model, info))
    load_weights(ASSEMBLE / "initial.safetensors", modules.model)

    scratch = SCRATCH / f"train-{_job(params)}"
    if (scratch / "checkpoint.pt").exists():
        logger.info("an interrupted run of this very job is there: going on where it was")
    with _Report(settings.max_epochs, len(database.split("train"))) as report:
        trainer = Trainer(
            modules,
            database,
            settings,
            device,
            scratch / "checkpoint.pt",
            report.on_epoch,
            report.on_batch,
            int(params["hardware"]["workers"]),
        )
        try:
            result = trainer.run()
        except KeyboardInterrupt:
            done = report.epochs
            kept = (
                f"the checkpoint of epoch {done} stays, and the next run goes on from it" if done else "nothing is kept"
            )
            raise KeyboardInterrupt(f"training was interrupted: {kept}") from None
    save_model(TRAIN / "model", modules.model, params, objective.network.species)
    _write_history(TRAIN / "history.csv", result.history)
    write_json(
        TRAIN / "receipt.json",
        {
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "stopped": result.stopped,
            "seconds": round(result.seconds, 3),
            "n_parameters": sum(w.numel() for w in modules.model.parameters() if w.requires_grad),
            "device": device,
        },
    )
    shutil.rmtree(scratch, ignore_errors=True)


class _Report:
    """Shows how training goes: a bar on a terminal, a line now and then in a log."""

    def __init__(self, max_epochs: int, n_structures: int):
        from tqdm import tqdm

        self.epochs = 0
        self._max_epochs, self._n_structures = max_epochs, n_structures
        self._bar = tqdm(
            total=max_epochs * n_structures,
            desc="train",
            unit=" structures",
            disable=None,
            leave=False,
            dynamic_ncols=True,
        )

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def on_batch(self, n_structures: int) -> None:
        """Move the bar."""
        self._bar.update(n_structures)

    def on_epoch(self, row: Row) -> None:
        """Say how the model did."""
        self.epochs = int(row["epoch"])
        shown = ", ".join(f"{name.removeprefix('valid_')} {row[name]:.4g}" for name in row if name.endswith("_rmse"))
        self._bar.n = self.epochs * self._n_structures
        self._bar.set_description(f"train, epoch {self.epochs}/{self._max_epochs}, {shown}")
        if self._bar.disable and self.epochs % max(1, self._max_epochs // 10) == 0:
            logger.info("epoch %d of %d: valid %s", self.epochs, self._max_epochs, shown)


def _job(params: Mapping[str, Any]) -> str:
    """A name for exactly this job: its parameters, its data, its initial weights and the code that trains."""
    job = hashlib.sha256()
    for folder in map(Path, (*MODEL_CODE, "src/forcefoundry/batches")):
        for source in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
            job.update(source.read_bytes())
    sections = {name: params[name] for name in ("network", "objective", "training")}
    sections["pairs"] = {name: params["pairs"][name] for name in ("cutoff", "source")}  # the finder changes no bit
    job.update(json.dumps(sections, sort_keys=True).encode())
    job.update(read_json(LOAD / "summary.json")["digest"].encode())
    for path in (PAIRS / "digest.json", ASSEMBLE / "graph.json", ASSEMBLE / "initial.safetensors"):
        job.update(path.read_bytes())
    return job.hexdigest()[:16]


def _write_history(path: Path, history: list[Row]) -> None:
    with written_whole(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


STEP = Step(
    "train",
    run,
    deps=(
        "pipeline/steps/train.py",
        "pipeline/steps/workspace.py",
        *MODEL_CODE,
        "src/forcefoundry/batches",
        str(LOAD / "columns"),
        str(PAIRS / "digest.json"),
        str(ASSEMBLE / "graph.json"),
        str(ASSEMBLE / "initial.safetensors"),
    ),
    params=("network", "objective", *PAIR_PARAMS, "training"),
    outs=(str(TRAIN / "model"), str(TRAIN / "receipt.json")),
    plots=(str(TRAIN / "history.csv"),),
    gpu=True,
)
