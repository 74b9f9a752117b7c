"""load: a database's rows become packed columns and splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from forcefoundry.files import write_json
from pipeline.step import Step
from pipeline.steps.workspace import DATA_CODE, LOAD, progress_bar

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/load/columns and summary.json; what is wrong with the data is a ValueError that names the row."""
    from forcefoundry.databases.loading import load_database

    database, summary = load_database(params["database"], lambda rows: progress_bar(rows, "load", "rows"))
    database.save(LOAD / "columns")
    write_json(LOAD / "summary.json", summary)
    for name, found in summary["properties"].items():
        logger.info("%s: %s rows under key %r, %s", name, found["count"], found["key"], found["unit"])
    logger.info("splits: %s", ", ".join(f"{name} {n}" for name, n in summary["splits"].items()))


STEP = Step(
    "load",
    run,
    deps=("pipeline/steps/load.py", *DATA_CODE, "${database.path}"),
    params=("database.path", "database.format", "database.files", "database.keys", "database.group", "database.split"),
    outs=(str(LOAD / "columns"), str(LOAD / "summary.json")),
)
