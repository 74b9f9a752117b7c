"""One GPU, one step at a time: a place in Prefect's concurrency limit `gpu`, where there is a GPU at all."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

LIMIT = "gpu"

logger = logging.getLogger("pipeline.flows")


@contextmanager
def gpu_slot(step: str, device: str) -> Iterator[None]:
    """Hold the GPU for `step` while the block runs, if `device` (auto, cpu, cuda) and the machine come to that."""
    if device == "cpu":
        logger.info("%s: on the CPU, as hardware.device asks", step)
        yield
    elif not cuda_is_here():
        logger.info("%s: no CUDA device here, so the CPU does it", step)
        yield
    else:
        create_limit()
        logger.info("%s: waits for its turn on the GPU", step)
        with concurrency(LIMIT, occupy=1, strict=True):
            logger.info("%s: on the GPU", step)
            yield


def cuda_is_here() -> bool:
    """Whether torch finds a CUDA device; torch is loaded (seconds) only where the driver is."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def create_limit() -> None:
    """Create the limit `gpu` with one place if the server has none; one that the user widened stays as it is."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            try:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=1))
            except ObjectAlreadyExists:
                logger.debug("another run has just created the limit %r", LIMIT)
