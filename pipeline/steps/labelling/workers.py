"""Worker processes with one thread each: the same numbers come out however many of them there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# Small molecules lose by threads (two are dozens of times slower than one), and sums over threads may differ in the
# last bit. The libraries read these when they are loaded, so they must stand in a worker's environment from its start.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def usual_processes() -> int:
    """Two processes, or one where there is only one core to run on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, cores)


def mapped(work: Callable[[Job], Result], jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """Yield `work(job)` for each job, in the order of `jobs`, computed by that many fresh processes.

    Even one process is a fresh one: this one may have loaded its libraries with more threads. What `work` raises is
    raised here; a process that dies is a RuntimeError.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_settle) as pool:
            with _environment(ONE_THREAD):
                results = pool.map(work, jobs)
            yield from results
    except BrokenProcessPool:
        raise RuntimeError(
            "A labelling process died (killed, or out of memory). Run the step again, with fewer processes "
            "(hardware.processes=1) if memory was short."
        ) from None


def _settle() -> None:
    # Ctrl-C reaches every process of a terminal: the parent alone answers it. And a parent that is killed must not
    # leave its workers waiting for jobs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
