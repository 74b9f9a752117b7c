"""Running the other side: a script in the environment that hippynn is installed in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases import Database, from_padded

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"Z": "species", "R": "positions", "C": "cell", "energy": "energy", "F": "forces"}
SCRIPT = Path(__file__).with_name("hippynn_side.py")


def interpreter() -> Path:
    """Python of the environment that FORCEFOUNDRY_PEERS names, or that `make peers` made."""
    return Path(os.environ.get("FORCEFOUNDRY_PEERS") or ROOT / ".peers") / "bin" / "python"


def ask(verb: str, folder: Path) -> None:
    """Let the other side work in a folder; skip the test where there is none."""
    if not interpreter().exists():
        pytest.skip(f"{interpreter()} is absent; `make peers` makes an environment, FORCEFOUNDRY_PEERS names another")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(interpreter()), "-W", "ignore", str(SCRIPT), verb, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def database(arrays: Mapping[str, np.ndarray]) -> Database:
    """Their padded arrays as a database here; all structures in the split `train`."""
    named = {COLUMNS[name]: values for name, values in arrays.items() if name in COLUMNS}
    return from_padded(named, {"train": np.arange(len(arrays["Z"]))})
