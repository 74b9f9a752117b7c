"""The line as a service: the real processes, the whole job through the worker, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from forcefoundry.files import read_json, write_json
from pipeline import serve, services
from tests import fake_line
from tests.tiny import TINY

LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "cache",
    "tmp",
    "artifacts",
    ".forcefoundry",
    "__pycache__",
    ".*_cache",
    "mlflow.db*",
    "mlartifacts",
)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; all are held until all are found, so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def of_workspace(root: Path) -> list[str]:
    """The command lines of the processes that work in `root` or were started for it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(root) in (
                process.cwd(),
                process.environ().get("PYTHONPATH"),
            ):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    first, second = free_ports(2)
    monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(first))
    monkeypatch.setenv("MLFLOW_PORT", str(second))
    return first, second


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of this repository as a fresh clone would be, with a store of pairs of its own."""
    root = tmp_path / "clone"
    shutil.copytree(fake_line.ROOT, root, ignore=LEFT_OUT)
    fake_line.commit(root)
    monkeypatch.setenv("FORCEFOUNDRY_STORE", str(tmp_path / "store"))
    yield root
    fake_line.run(root, "stop")


def ask(address: str, question: dict[str, object] | None = None) -> dict[str, object]:
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(address, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer: dict[str, object] = json.load(reply)
    return answer


def test_a_deployment_does_the_whole_job_and_stop_leaves_nothing(repository: Path, ports: tuple[int, int]) -> None:
    started = fake_line.run(repository, "serve")
    assert started.returncode == 0, started.stderr
    api, mlflow = f"http://127.0.0.1:{ports[0]}/api", f"http://127.0.0.1:{ports[1]}"
    assert f"export PREFECT_API_URL={api}" in started.stdout
    assert f"export MLFLOW_TRACKING_URI={mlflow}" in started.stdout

    again = fake_line.run(repository, "serve")
    assert again.returncode != 0
    assert "Already serving here (mlflow, prefect-server, prefect-worker)" in again.stderr

    given = {"PREFECT_API_URL": api, "MLFLOW_TRACKING_URI": mlflow}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "deployment",
            "run",
            "train/cpu",
            "--watch",
            "-p",
            f"overrides={json.dumps(TINY)}",
        ],
        cwd=repository.parent,  # from anywhere
        env=fake_line.environment(**given),
        capture_output=True,
        text=True,
        check=False,
    )
    log = (repository / ".forcefoundry/serve/prefect-worker.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "Completed" in done.stdout
    metrics = read_json(repository / "artifacts/evaluate/metrics.json")
    assert metrics["test"]["forces"]["rmse"] > 0
    assert "up to date" in fake_line.dvc(repository, "status")
    run = read_json(repository / "artifacts/record/run.json")
    assert run["tracking_uri"] == mlflow
    assert ask(f"{mlflow}/api/2.0/mlflow/runs/get?run_id={run['run_id']}")["run"]

    stopped = fake_line.run(repository, "stop")
    assert stopped.stdout == "ended: mlflow, prefect-server, prefect-worker\n"
    assert of_workspace(repository) == []
    assert fake_line.run(repository, "stop").stdout == "nothing was being served here\n"


def test_a_busy_port_is_one_line_and_nothing_is_started(
    tmp_path: Path, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_HOME", "MLFLOW_TRACKING_URI"):  # `serve` sets them for its process; not to outlive this test
        monkeypatch.setenv(name, str(tmp_path / name))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[1]))
        taken.listen()
        with pytest.raises(ValueError, match=rf"^Port {ports[1]} is taken .*MLFLOW_PORT={ports[1] + 1}\.$"):
            serve.serve(tmp_path)
    monkeypatch.setenv("MLFLOW_PORT", "many")
    with pytest.raises(ValueError, match="MLFLOW_PORT is 'many': give a port number"):
        serve.serve(tmp_path)
    assert not (tmp_path / ".forcefoundry/serve").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where notes and logs of services lie, in a workspace that has nothing else."""
    return tmp_path / ".forcefoundry" / "serve"


def test_a_service_that_does_not_start_is_told_with_its_last_words(folder: Path) -> None:
    service = services.Service("lame", ("forcefoundry.no_such_module",), answers="http://127.0.0.1:9/")
    started = services.start(folder, service, dict(os.environ))
    with pytest.raises(
        ValueError, match=r"lame did not start: it ended with exit code 1; see .*lame\.log: .*no_such_module"
    ):
        services.wait(started)
    assert services.stop(folder) == []


def test_stop_ends_its_own_processes_and_no_others(folder: Path) -> None:
    (port,) = free_ports(1)
    command = ("http.server", str(port), "--bind", "127.0.0.1")
    service = services.Service("pages", command, answers=f"http://127.0.0.1:{port}/")
    started = services.start(folder, service, dict(os.environ))
    services.wait(started)
    # A note whose process number now belongs to somebody else: this very process.
    write_json(folder / "recycled.pid", {"pid": os.getpid(), "since": 1.0})
    (folder / "broken.pid").write_text("{")
    assert list(services.running(folder)) == ["pages"]
    assert services.stop(folder) == ["pages"]
    assert started.process.poll() is not None
    assert services.running(folder) == {}
    assert list(folder.glob("*.pid")) == []
