"""Processes that end when they should: one run in a workspace, and no step that outlives its run."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

from pipeline.environment import SCRATCH

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_GRACE = 1.5  # seconds: Ctrl-C at a terminal reaches the step by itself, and a second signal would disturb its tidying
_LAST_WORD = 8.0  # seconds that a step has for its tidying before it is killed
_SHELLS = {"sh", "dash", "bash", "ash", "zsh", "fish", "ksh", "mksh", "busybox"}


class WorkspaceBusyError(ValueError):
    """Another run is under way in this workspace."""


@contextlib.contextmanager
def one_run_at_a_time(workspace: Path | None = None) -> Iterator[None]:
    """Hold the workspace for one run; a second one is refused with the number of the first one's process.

    The lock belongs to the open file, so that a killed run leaves none behind.
    """
    root = (workspace or Path.cwd()).resolve()
    path = root / SCRATCH / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise WorkspaceBusyError(
                f"A run (process {holder}) is under way in {root}, and a workspace takes one at a time. "
                f"Wait for it, end it with `kill {holder}`, or start this one in another clone or git worktree."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def end_gently() -> Iterator[None]:
    """Let SIGTERM (kill, a batch system, a container that stops) unwind what runs, as Ctrl-C does, exit code 143."""

    def unwind(code: int, frame: object) -> None:
        raise SystemExit(128 + code)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interruptible(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own while this one stays open to signals.

    Whatever ends the waiting here, no process that `work` started is left.
    """
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    done: list[T] = []
    failed: list[BaseException] = []
    over = threading.Event()  # not Thread.join: interrupted, it takes a living thread for an ended one (Python 3.11)

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=run, name="dvc").start()
    try:
        while not over.wait(0.5):
            pass
    except BaseException:
        _end(over, before)
        raise
    if failed:
        raise failed[0]
    return done[0]


def _end(over: threading.Event, before: set[int]) -> None:
    """End the processes that were started since `before`: waiting first, then asking, then killing."""
    if over.wait(_GRACE):
        return
    for code in (signal.SIGINT, signal.SIGKILL):
        for child in psutil.Process().children(recursive=True):
            if child.pid not in before:
                _send(child, code)
        if over.wait(_LAST_WORD):
            return


def _send(child: psutil.Process, code: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        child.send_signal(code)


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it is gone, kill -9 included.

    Only where DVC started it: a step that a person typed may go on after the shell is closed. DVC starts a step
    through a shell, which some shells stay in between (dash) and others leave (bash): then the shell's own parent is
    watched as well. On systems without these calls nothing happens.
    """
    if sys.platform != "linux" or "DVC_STAGE" not in os.environ:
        return
    parent = os.getppid()
    grandparent = _parent_of_shell(parent)
    end_with_parent()
    if grandparent is not None:
        _end_with(grandparent)


def end_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process as soon as its parent ends; the setting survives an exec."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _parent_of_shell(pid: int) -> int | None:
    """The number of the process above `pid` if `pid` is a shell, else None."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
    except OSError:
        return None
    return int(rest.split()[1]) if name in _SHELLS else None


def _end_with(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return

    def watch() -> None:
        gone = select.poll()
        gone.register(descriptor, select.POLLIN)
        gone.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="ends with the run", daemon=True).start()
