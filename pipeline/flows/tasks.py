"""One Prefect task for each step, made from the same definition as its DVC stage."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline import params, versioning
from pipeline.flows.gpu import gpu_slot
from pipeline.step import Step
from pipeline.steps import STEPS
from pipeline.versioning import Outcome

logger = logging.getLogger("pipeline.flows")

RETRY_AFTER = 5  # seconds: what a retry can help against (a tracker that restarts) is over by then, or not soon


def as_task(step: Step) -> Callable[..., Outcome]:
    """The task that does `step`. It takes and gives paths and hashes only; what was done is DVC's to keep, so that
    Prefect caches and persists nothing."""

    @task(  # type: ignore[untyped-decorator]  # Prefect's types are not followed: reading them takes mypy a minute
        name=step.name,
        task_run_name=step.name,
        retries=step.retries,
        retry_delay_seconds=RETRY_AFTER,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def do(given: dict[str, str]) -> Outcome:
        if not versioning.changed(step.name):
            logger.info("%s: kept", step.name)
            return Outcome(ran=False, hashes=versioning.hashes(step.name))
        with _place(step):
            logger.info("%s: starts", step.name)
            outcome = versioning.reproduce(step.name)
        if outcome.restored:
            logger.info("%s: put back, since an earlier run did the same", step.name)
        return outcome

    typed: Callable[..., Outcome] = do
    return typed


def _place(step: Step) -> AbstractContextManager[None]:
    return gpu_slot(step.name, params.read()["hardware"]["device"]) if step.gpu else nullcontext()


TASKS: dict[str, Callable[..., Outcome]] = {step.name: as_task(step) for step in STEPS}
