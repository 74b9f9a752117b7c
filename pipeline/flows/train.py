"""The line as a flow: parameters first, then every step in its order, each only if it has changed."""

from __future__ import annotations

from typing import Any

from prefect import flow

from pipeline import params
from pipeline.flows.tasks import TASKS, logger
from pipeline.lifetime import one_run_at_a_time
from pipeline.versioning import Outcome


@flow(name="train", persist_result=False)  # type: ignore[untyped-decorator]
def train(overrides: list[str] | None = None, config_dir: str | None = None) -> dict[str, Any]:
    """Structures in, a trained and reviewed potential out; what has not changed is kept.

    `overrides` are Hydra's (`["experiment=cu_au", "training.max_epochs=20"]`), `config_dir` is a folder of one's own
    configurations. The steps hand on nothing but the hashes of what they wrote.
    """
    with one_run_at_a_time():
        composed = params.compose(overrides or [], config_dir)
        params.write(composed)

        outcomes: dict[str, Outcome] = {}
        hashes: dict[str, str] = {}
        for name, task in TASKS.items():
            outcomes[name] = task(given=hashes)
            hashes = {**hashes, **outcomes[name].hashes}

    return _told(outcomes, hashes)


def _told(outcomes: dict[str, Outcome], hashes: dict[str, str]) -> dict[str, Any]:
    """What was done, as plain lists of step names, and the hashes of all that the line has written."""
    ran = [name for name, outcome in outcomes.items() if outcome.ran]
    restored = [name for name, outcome in outcomes.items() if outcome.restored]
    skipped = [name for name in outcomes if name not in ran and name not in restored]
    if not ran and not restored:
        logger.info("nothing changed: nothing was recomputed")
    elif not ran:
        logger.info("these results were at hand from an earlier run: nothing was recomputed")
    return {"ran": ran, "restored": restored, "skipped": skipped, "hashes": hashes}
