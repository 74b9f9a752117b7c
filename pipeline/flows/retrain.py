"""Retraining on a schedule: at once over when nothing changed, else the same steps as train."""

from __future__ import annotations

from typing import Any

from prefect import flow

from pipeline import params, versioning
from pipeline.flows.tasks import TASKS, logger
from pipeline.flows.train import train
from pipeline.lifetime import one_run_at_a_time


@flow(name="retrain", persist_result=False)  # type: ignore[untyped-decorator]
def retrain(overrides: list[str] | None = None, config_dir: str | None = None) -> dict[str, Any]:
    """Train again if the data, the parameters or the code of a step changed since the last run.

    The data may lie outside the workspace: DVC compares the content of the database that `database.path` names.
    """
    with one_run_at_a_time():
        params.write(params.compose(overrides or [], config_dir))
        pending = versioning.pending()
    if not pending:
        logger.info("nothing changed since the last training: nothing was recomputed")
        return {"ran": [], "restored": [], "skipped": list(TASKS), "hashes": {}}
    logger.info("changed: %s", ", ".join(pending))
    done: dict[str, Any] = train(overrides, config_dir)
    return done
