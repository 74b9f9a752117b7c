"""Processes that go on after the command that started them: started, awaited, and ended by the note they left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from forcefoundry.files import read_json, write_json

PATIENCE = 120.0  # seconds until a service must have answered; 10 on two free cores
GENTLE = 15.0  # seconds that a service has to end by itself


@dataclass(frozen=True)
class Service:
    """A module's command line, and the address that answers (with `holds` in the answer) once it is ready."""

    name: str
    command: tuple[str, ...]
    answers: str
    holds: str = ""


@dataclass(frozen=True)
class Started:
    """A service under way, and the file to which it writes."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path


def start(folder: Path, service: Service, environment: Mapping[str, str]) -> Started:
    """Start `service` in a session of its own, in the workspace above `folder`, where its log and note are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{service.name}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *service.command],
            cwd=folder.parents[1],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    write_json(_note(folder, service.name), {"pid": process.pid, "since": psutil.Process(process.pid).create_time()})
    return Started(service, process, log)


def wait(started: Started) -> None:
    """Wait until the service answers; ValueError with its last words if it ends before or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and started.process.poll() is None:
        if _answers(started.service):
            return
        time.sleep(0.2)
    code = started.process.poll()
    how = f"took more than {PATIENCE:.0f} s" if code is None else f"ended with exit code {code}"
    raise ValueError(f"{started.service.name} did not start: it {how}; see {started.log}: {last_words(started.log)}")


def running(folder: Path) -> dict[str, psutil.Process]:
    """The services whose notes lie in `folder` and that still run, by name.

    A note counts only while its process number belongs to the process that it was written for.
    """
    alive = {}
    for note in sorted(folder.glob("*.pid")):
        with contextlib.suppress(psutil.Error, json.JSONDecodeError, KeyError):
            said = read_json(note)
            process = psutil.Process(said["pid"])
            if process.create_time() == said["since"] and process.status() != psutil.STATUS_ZOMBIE:
                alive[note.stem] = process
    return alive


def stop(folder: Path) -> list[str]:
    """End the services whose notes lie in `folder` with all that they started; the names of those that still ran."""
    alive = running(folder)
    # The worker first, so that it can tell the server how its runs ended.
    for name in sorted(alive, key=lambda name: "worker" not in name):
        _end(alive[name])
    for note in folder.glob("*.pid"):
        note.unlink()
    return list(alive)


def last_words(log: Path) -> str:
    """The last line of a log, for a message."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "it said nothing")


def _end(process: psutil.Process) -> None:
    family = [process]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)  # runs of the worker have sessions of their own
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, left = psutil.wait_procs([process], GENTLE)
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
    _, left = psutil.wait_procs(family, GENTLE)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, GENTLE)


def _answers(service: Service) -> bool:
    # A filter is asked by POST, a health page by GET.
    body = b"{}" if service.holds else None
    request = urllib.request.Request(service.answers, data=body, headers={"Content-Type": "application/json"})
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(request, timeout=5) as reply:
        return service.holds in reply.read().decode("utf-8", "replace")
    return False


def _note(folder: Path, name: str) -> Path:
    return folder / f"{name}.pid"
