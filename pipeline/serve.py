"""The line as a service on this machine: a Prefect server with a worker, and MLflow. `stop` ends them again."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline import services
from pipeline.environment import SCRATCH, prepare
from pipeline.services import Service

PORTS = {"PREFECT_SERVER_API_PORT": 4200, "MLFLOW_PORT": 5000}
HOST = "127.0.0.1"  # nobody else's machine reaches an open door

logger = logging.getLogger(__name__)


def serve(workspace: Path | None = None) -> None:
    """Start everything, wait until each part answers, and print where.

    Raises ValueError in one line for a busy port, for a second `serve`, and where a part does not start (with the end
    of what it said); what was started by then is ended again.
    """
    root = (workspace or Path.cwd()).resolve()
    prepare(root)
    folder = root / SCRATCH / "serve"
    if running := services.running(folder):
        raise ValueError(f"Already serving here ({', '.join(sorted(running))}): `make stop` ends it.")
    prefect_port, mlflow_port = (_free_port(name, default) for name, default in PORTS.items())
    api, mlflow = f"http://{HOST}:{prefect_port}/api", f"http://{HOST}:{mlflow_port}"
    environment = _environment(root, api, mlflow)
    try:
        server = services.start(folder, _server(prefect_port, api), environment)
        tracker = services.start(folder, _tracker(mlflow_port, mlflow, root), environment)
        services.wait(server)
        _deploy(folder, environment)
        worker = services.start(folder, _worker(api), environment)
        services.wait(tracker)
        services.wait(worker)
    except BaseException:
        services.stop(folder)
        raise
    print(_where(api, mlflow), flush=True)


def stop(workspace: Path | None = None) -> None:
    """End what `serve` started in this workspace, runs of the worker included, and nothing else."""
    ended = services.stop((workspace or Path.cwd()).resolve() / SCRATCH / "serve")
    print(f"ended: {', '.join(ended)}" if ended else "nothing was being served here", flush=True)


def _environment(root: Path, api: str, mlflow: str) -> dict[str, str]:
    tracking = os.environ["MLFLOW_TRACKING_URI"]
    own = {
        "PREFECT_API_URL": api,
        # Runs are tracked by the server beside them, unless the user names another one.
        "MLFLOW_TRACKING_URI": tracking if tracking.startswith("http") else mlflow,
        # Flows are loaded in a folder of the worker's: this is where they find `pipeline`.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PYTHONUNBUFFERED": "1",
    }
    # Not the file of the ephemeral servers: SQLite takes one writer at a time.
    database = f"sqlite+aiosqlite:///{root / SCRATCH / 'serve' / 'prefect.db'}"
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database, **os.environ, **own}


def _server(port: int, api: str) -> Service:
    command = ("prefect", "server", "start", "--host", HOST, "--port", str(port))
    return Service("prefect-server", command, answers=f"{api}/health")


def _worker(api: str) -> Service:
    # "forge" is the pool that pipeline/flows/deploying.py has made.
    command = ("prefect", "worker", "start", "--pool", "forge", "--type", "process", "--name", "workbench")
    return Service("prefect-worker", command, answers=f"{api}/work_pools/forge/workers/filter", holds='"ONLINE"')


def _tracker(port: int, address: str, root: Path) -> Service:
    store = os.environ["MLFLOW_TRACKING_URI"]
    if store.startswith("http"):
        store = f"sqlite:///{root / 'mlflow.db'}"
    options = ("--backend-store-uri", store, "--artifacts-destination", str(root / "mlartifacts"))
    command = ("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *options)
    return Service("mlflow", command, answers=f"{address}/health")


def _deploy(folder: Path, environment: Mapping[str, str]) -> None:
    log = folder / "deploy.log"
    with log.open("w", encoding="utf-8") as said:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.flows.deploying"],
            cwd=folder.parents[1],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
        )
    if done.returncode:
        raise ValueError(f"The deployments of prefect.yaml were not accepted; see {log}: {services.last_words(log)}")


def _free_port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"{variable} is {text!r}: give a port number, for instance {variable}={default}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, int(text)))
        except OSError:
            raise ValueError(
                f"Port {text} is taken on this machine: end what uses it, or give another, {variable}={int(text) + 1}."
            ) from None
    return int(text)


def _where(api: str, mlflow: str) -> str:
    return f"""\
Prefect  {api.removesuffix("/api")}
MLflow   {mlflow}

In the shell from which you start runs (with .venv active):
  export PREFECT_API_URL={api}
  export MLFLOW_TRACKING_URI={mlflow}
  prefect deployment run 'train/cpu' --watch

`make stop` ends all of it."""
