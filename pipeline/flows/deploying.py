"""`python -m pipeline.flows.deploying`: what deployments need on a Prefect server, then the deployments themselves.

Asks nothing and may be repeated. The server is the one that PREFECT_API_URL names.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from pipeline.flows.gpu import create_limit

POOL = "forge"


def deploy() -> int:
    """Create the work pool and the limit `gpu` where missing, deploy all of prefect.yaml; the CLI's exit code."""
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    create_limit()
    return subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=False).returncode


if __name__ == "__main__":
    sys.exit(deploy())
