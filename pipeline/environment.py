"""The defaults of the environment: quiet, offline, everything kept inside the workspace.

Addresses, folders and credentials are environment variables and never parameters. `prepare` fills in what the user
has not set; it must run before prefect, mlflow or dvc are imported, since those read the environment as they load.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

SCRATCH = Path(".forcefoundry")  # in the workspace, git-ignored: locks, pid files, checkpoints, Prefect's own database

OUR_LOGGERS = ("pipeline", "forcefoundry")

_QUIET = {
    # No tool of the line calls home. Without a network each would otherwise print an error or wait for a timeout.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that starts on a busy laptop may need longer than Prefect's twenty seconds.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    # What people see comes from our own loggers, on the terminal and (by EXTRA_LOGGERS) on the page of the run.
    # Prefect's lines about task states and its tracebacks go to that page alone.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(OUR_LOGGERS),
    # Threads that wait for work sleep: spinning ones starve the other step on a small machine.
    "OMP_WAIT_POLICY": "passive",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare(workspace: Path | None = None) -> None:
    """Set each variable of the line that is not set yet; `workspace` is the current directory if not given."""
    root = (workspace or Path.cwd()).resolve()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(root / SCRATCH / "prefect"))
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")


def log_to_terminal(level: int = logging.INFO) -> None:
    """Show the records of our own loggers on stderr, message only; calling it twice changes nothing."""
    for name in OUR_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        if not any(isinstance(handler, _Terminal) for handler in logger.handlers):
            logger.addHandler(_Terminal())


class _Terminal(logging.StreamHandler):  # type: ignore[type-arg]  # the class is generic for the type checker only
    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(message)s"))
