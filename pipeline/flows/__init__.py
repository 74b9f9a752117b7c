"""The flows, and the one call that starts any of them. Prefect itself is loaded by the modules of this package only.

Prefect reads its environment as it loads, so the defaults are set before any module here imports it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.environment import OUR_LOGGERS, prepare
from pipeline.lifetime import end_gently

prepare()
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect itself makes one level only
for _name in OUR_LOGGERS:
    # A worker's process has no terminal of ours; what is said goes to the run's page from INFO on.
    logging.getLogger(_name).setLevel(logging.INFO)


def run(overrides: Sequence[str] = (), config_dir: str | None = None, again: bool = False) -> dict[str, Any]:
    """Run the flow `train` (with `again`: `retrain`) from here to its end and give what it gives.

    The server is the one that PREFECT_API_URL names, else an ephemeral one for this run.
    """
    from pipeline.flows.server import have_server

    with end_gently(), have_server():
        if again:
            from pipeline.flows.retrain import retrain as line
        else:
            from pipeline.flows.train import train as line
        done: dict[str, Any] = line(list(overrides), config_dir)
    return done
