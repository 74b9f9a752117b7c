"""Threads that stay: calls made side by side, without starting a thread for every one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

_threads: list[Thread] = []
_jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
_lock = Lock()


def side_by_side(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make calls at the same time, the first of them in this thread; the results in order.

    None may depend on what another does, so that the number of threads changes no result. However often Ctrl-C is
    pressed, the others are waited for, and it is passed on then; a call that was given out in the very moment may go on
    all the same, so what it writes to must not be used again if this does not return.
    """
    if len(calls) == 1:
        return [calls[0]()]
    _have_threads(len(calls) - 1)
    jobs = [_Job(call) for call in calls[1:]]
    try:
        for job in jobs:
            _jobs.put(job)
            job.is_given_out = True
        own = calls[0]()
    finally:
        _all_done([job for job in jobs if job.is_given_out])  # what they write to must not be given up before
    return [own, *(job.result() for job in jobs)]


class _Job(Generic[Result]):
    """A call that another thread makes.

    Of what threads have to wait for one another only the lock is used: what is written in Python, as events, futures
    and pools are, can be left half done by a Ctrl-C, and is waited for in vain then.
    """

    def __init__(self, call: Callable[[], Result]):
        self._call, self._found, self._error = call, list[Result](), list[BaseException]()
        self.is_given_out, self._is_done, self._done = False, False, Lock()
        self._done.acquire()

    def run(self) -> None:
        try:
            self._found.append(self._call())
        except BaseException as error:
            self._error.append(error)
        self._is_done = True
        self._done.release()

    def wait(self) -> None:
        while not self._is_done:
            self._done.acquire()

    def result(self) -> Result:
        if self._error:
            raise self._error[0]
        return self._found[0]


def _all_done(jobs: Sequence[_Job[Any]]) -> None:
    stopped: BaseException | None = None
    while True:
        try:
            for job in jobs:
                job.wait()
            break
        except BaseException as error:
            stopped = error
    if stopped is not None:
        raise stopped


def _have_threads(number: int) -> None:
    if len(_threads) < number:
        with _lock:
            while len(_threads) < number:
                thread = Thread(target=_serve, args=(_jobs,), name=f"pairs-{len(_threads)}", daemon=True)
                thread.start()
                _threads.append(thread)


def _serve(jobs: SimpleQueue[_Job[Any]]) -> None:
    while True:
        jobs.get().run()


def _forget() -> None:
    # A child process has none of the parent's threads, and maybe a lock that nobody will open.
    global _jobs, _lock
    _threads.clear()
    _jobs, _lock = SimpleQueue(), Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
