"""The door to DVC: has a step changed, and do it if so. Nothing else imports dvc.

DVC is called in this process (its command costs half a second a call, a `Repo` that is open 20 ms a stage), one call
at a time: whoever calls holds the workspace by `pipeline.lifetime.one_run_at_a_time`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline.lifetime import interruptible

T = TypeVar("T")

_INTERRUPTED = {-signal.SIGINT, 128 + signal.SIGINT}


class StepFailedError(RuntimeError):
    """A step ended with an exit code other than 0; it has told the reason itself."""


@dataclass(frozen=True)
class Outcome:
    """What became of a step: whether its command ran, whether older results of the same job were put back instead,
    and the md5 of each of its outs by path."""

    ran: bool
    hashes: Mapping[str, str] = field(default_factory=dict)
    restored: bool = False


def changed(step: str) -> bool:
    """Whether `step` would have to be done: its command, parameters, deps or outs differ from dvc.lock."""
    with _repo() as repo:
        return bool(repo.status(step))


def pending() -> tuple[str, ...]:
    """The steps that are not up to date with what lies in the workspace now, data outside it included."""
    with _repo() as repo:
        status: dict[str, Any] = repo.status()
    return tuple(status)


def reproduce(step: str) -> Outcome:
    """Do `step` if it has changed, as `dvc repro --single-item` would, and leave the same dvc.lock.

    Results of the same command, parameters and deps that DVC still keeps are put back without running anything.

    Raises:
        StepFailedError: the step's command failed.
        KeyboardInterrupt: the step was interrupted; nothing of it runs any more.
    """
    with _repo() as repo, _Listener() as heard:
        if not repo.status(step):
            return Outcome(ran=False, hashes=hashes(step))
        _require_deps(repo, step)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        _told(step, lambda: repo.reproduce(step, single_item=True, run_env={"PATH": path}))
    return Outcome(ran=not heard.restored, hashes=hashes(step), restored=heard.restored)


def hashes(step: str, workspace: Path | None = None) -> dict[str, str]:
    """The md5 of each out of `step` as dvc.lock has it, by path; empty before the first run."""
    lock = (workspace or Path.cwd()) / "dvc.lock"
    if not lock.exists():
        return {}
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    return {out["path"]: out["md5"] for out in stages.get(step, {}).get("outs", ()) if "md5" in out}


@contextmanager
def _repo() -> Iterator[Any]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo() as repo:
            yield repo
    except NotDvcRepoError:
        raise ValueError(
            f"{Path.cwd()} is no workspace: it has no folder .dvc. Start from the root of a clone of the repository."
        ) from None
    except SCMError as error:
        raise ValueError(f"{error}. DVC keeps its books by git: run `git init` here, or start from a clone.") from None
    except DvcException as error:
        raise ValueError(_one_line(error)) from None


def _require_deps(repo: Any, step: str) -> None:
    """Say which input of `step` is not there, in the words of its parameter: DVC would name the path alone."""
    (stage,) = repo.stage.collect(step)
    written = yaml.safe_load((Path(repo.root_dir) / "dvc.yaml").read_text(encoding="utf-8"))["stages"][step]
    files = [dep for dep in stage.deps if dep not in stage.params]
    for dep, name in zip(files, written.get("deps", ()), strict=True):
        if not dep.exists:
            key = name[2:-1] if name.startswith("${") else None
            remedy = f"Correct the path, or give another one: {key}=PATH." if key else "Run the step that writes it."
            raise ValueError(f"Step {step!r} reads {dep.def_path}, which does not exist. {remedy}")


def _told(step: str, work: Callable[[], T]) -> T:
    """Do `work` and turn the failure of the step's command into our own words."""
    from dvc.exceptions import ReproductionError
    from dvc.stage.exceptions import StageCmdFailedError

    try:
        # In the main thread DVC ignores Ctrl-C while a step runs: a signal to this process alone would be lost.
        return interruptible(work)
    except ReproductionError as error:
        cause = error.__cause__
        if not isinstance(cause, StageCmdFailedError):
            raise ValueError(f"Step {step!r}: {_one_line(cause or error)}") from None
        code = _exit_code(cause)
        if code in _INTERRUPTED:
            raise KeyboardInterrupt from None
        raise StepFailedError(
            f"Step {step!r} failed ({_in_words(code)}); what it said stands above. The steps before it are kept."
        ) from None


class _Listener(logging.Handler):
    """Hears whether DVC put results back from its run cache: it tells so in its log only."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.restored = False

    def emit(self, record: logging.LogRecord) -> None:
        if "is cached - skipping run" in str(record.msg):
            self.restored = True

    def __enter__(self) -> _Listener:
        self._logger = logging.getLogger("dvc.stage.cache")
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._before


def _exit_code(error: BaseException) -> int | None:
    # DVC keeps the code nowhere but in its message.
    found = re.search(r"exited with (-?\d+)$", str(error))
    return int(found[1]) if found else None


def _in_words(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
