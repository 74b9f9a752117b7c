"""Threads that stay: calls made side by side, without starting a thread for every one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

Result = TypeVar("Result")

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()


def side_by_side(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make calls at the same time, the first of them in this thread; the results in order.

    None may depend on what another does, so that the number of threads changes no result.
    """
    if len(calls) == 1:
        return [calls[0]()]
    pool = _pool(len(calls))
    later: list[Future[Result]] = []
    try:
        later.extend(pool.submit(call) for call in calls[1:])
        own = calls[0]()
    finally:
        _all_done(later)  # what they write to must not be given up before
    return [own, *(future.result() for future in later)]


def _all_done(later: Sequence[Future[Result]]) -> None:
    """Wait for calls however often Ctrl-C is pressed; it is passed on afterwards."""
    stopped: BaseException | None = None
    while True:
        try:
            wait(later)
            break
        except BaseException as error:
            stopped = error
    if stopped is not None:
        raise stopped


def _pool(number: int) -> ThreadPoolExecutor:
    with _lock:
        if number not in _pools:
            _pools[number] = ThreadPoolExecutor(number - 1, thread_name_prefix="pairs")
        return _pools[number]


def _forget() -> None:
    # A child process has the parent's pools, but none of their threads, and maybe a lock that nobody will open.
    global _lock
    _pools.clear()
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
