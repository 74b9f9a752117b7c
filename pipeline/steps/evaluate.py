"""evaluate: validation losses and plots of every split that was not trained on, on the CPU."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from forcefoundry.files import write_json
from pipeline.step import Step
from pipeline.steps.workspace import (
    EVALUATE,
    LOAD,
    MODEL_CODE,
    PAIR_PARAMS,
    PAIRS,
    TRAIN,
    assembled_with_pairs,
    load_columns,
    prepare_process,
    progress_bar,
)

if TYPE_CHECKING:
    from forcefoundry.databases import Database

_ATOMS_AT_ONCE = 500_000

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/evaluate/: metrics.json, plots/ and a receipt."""
    from forcefoundry.batches import Packer, in_order, prefetched
    from forcefoundry.build import build
    from forcefoundry.experiment.settings import TrainingSettings
    from forcefoundry.interfaces.model_folder import build_objective, check_model, load_weights
    from forcefoundry.plots.maker import PlotMaker

    started = time.perf_counter()
    prepare_process(params)
    settings = TrainingSettings.of_params(params["training"])
    database = load_columns()
    objective = build_objective(params, database.species)
    maker = PlotMaker([build(config, quantities=objective.quantities) for config in params["plots"]])
    modules, _ = assembled_with_pairs(params, database, objective, maker)
    check_model(TRAIN / "model", params)
    load_weights(TRAIN / "model" / "model.safetensors", modules.model)
    packer = Packer(database, [*database.inputs, *database.targets], "cpu")
    budgets = packer.budgets(settings.max_atoms, settings.max_pairs)

    metrics: dict[str, Any] = {}
    for split in [name for name in database.splits if name != "train"]:
        batches = in_order(database.split(split), settings.evaluation_batch_size, budgets)
        with prefetched(packer, batches, int(params["hardware"]["workers"])) as packed:
            shown = progress_bar(packed, f"evaluate {split}", "batches", len(batches))
            found = modules.evaluator.evaluate(shown, plot_as=split)
        lacking = _unlabelled(database, split)
        metrics[split] = {
            name: parts
            for name, parts in _nested(found)
            if name not in lacking and not name.startswith(tuple(f"{one}_" for one in lacking))
        }
    write_json(EVALUATE / "metrics.json", metrics)
    pictures = maker.save(EVALUATE / "plots")
    write_json(EVALUATE / "receipt.json", {"seconds": round(time.perf_counter() - started, 3), "plots": pictures})


def _unlabelled(database: Database, split: str) -> tuple[str, ...]:
    """The labels that no structure of a split has: there are no errors of them, nor of energy_per_atom and the like."""
    import numpy as np

    from forcefoundry.databases.mapped import pieces

    rows = database.split(split)
    found = []
    for name in [name for name in database.targets if name in database.partial]:
        parts = pieces(rows, database.n_atoms, _ATOMS_AT_ONCE)
        if all(np.isnan(database.columns.take(name, part)).all() for part in parts):
            found.append(name)
    return tuple(found)


def _nested(found: Mapping[str, float]) -> Iterator[tuple[str, dict[str, float | None]]]:
    """QUANTITY_METRIC: value to QUANTITY: {METRIC: value}."""
    quantities = dict.fromkeys(name.rpartition("_")[0] for name in found)
    for quantity in quantities:
        parts: dict[str, float | None] = {
            name.rpartition("_")[2]: value for name, value in found.items() if name.rpartition("_")[0] == quantity
        }
        # R² is undefined where all truths are one number, as in a split of one structure; null says so.
        if "r2" in parts and not math.isfinite(found[f"{quantity}_r2"]):
            parts["r2"] = None
        yield quantity, parts


STEP = Step(
    "evaluate",
    run,
    deps=(
        "pipeline/steps/evaluate.py",
        "pipeline/steps/workspace.py",
        *MODEL_CODE,
        "src/forcefoundry/batches",
        "src/forcefoundry/plots",
        str(LOAD / "columns"),
        str(PAIRS / "digest.json"),
        str(TRAIN / "model"),
    ),
    params=("network", "objective", *PAIR_PARAMS, "plots", "training.seed", "training.dtype"),
    outs=(str(EVALUATE / "receipt.json"),),
    metrics=(str(EVALUATE / "metrics.json"),),
    plots=(str(EVALUATE / "plots"),),
)
