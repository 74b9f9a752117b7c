"""Prefect's ephemeral server, in a process that ends with the run, whatever ends it.

Prefect starts one by itself where no server is configured, but leaves it behind when the flow is killed, lets Ctrl-C
at the terminal end it before the flow could tell how it ended, and waits for it before anything else is loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

PATIENCE = 90.0  # seconds for the server's first answer; 6 on two free cores


@contextlib.contextmanager
def have_server() -> Iterator[None]:
    """Have PREFECT_API_URL name a server that answers: the user's, or else one of our own, started now.

    Our own is awaited when the block is entered, after Prefect was loaded beside it, and ends with the process, later
    than Prefect's threads that still send it their last records.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.set_inheritable(True)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline.flows.server", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C at the terminal is the run's to answer
            env={**os.environ, "PREFECT_UI_ENABLED": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"},
        )
    atexit.register(_end, server)
    os.environ["PREFECT_API_URL"] = url
    # Loading these takes as long as the server's start: side by side.
    import pipeline.flows.retrain  # noqa: F401

    _wait(server, url)
    yield


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.05)
    ended = f"ended with exit code {server.returncode}" if server.poll() is not None else f"took over {PATIENCE:.0f} s"
    raise ValueError(
        f"Prefect's ephemeral server did not start: it {ended}. Its database lies in {os.environ.get('PREFECT_HOME')}; "
        "move that folder aside, or start a server (`make serve`) and set PREFECT_API_URL."
    )


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(descriptor: int) -> None:
    from pipeline.lifetime import end_with_parent

    end_with_parent()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
