"""The pair benchmarks are kept for good: they run, check what they time, and end in a line of JSON that others read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some shaken cells in a file."""
    rng, made = np.random.default_rng(0), []
    for at in range(40):
        atoms = bulk("Al", cubic=True) * (1 + at % 2, 2, 2)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        made.append(atoms)
    path = tmp_path_factory.mktemp("given") / "shaken.xyz"
    ase.io.write(path, made, format="extxyz")
    return path


@pytest.mark.parametrize("name", ["pairs", "store", "batches"])
def test_quick_on_a_file_ends_in_one_line_of_json(name: str, structures: Path) -> None:
    words = ["--quick", "--data", str(structures), "--cutoff", "5.0"]
    words += ["--structures", "500"] if name == "store" else []
    command = [sys.executable, "-m", f"benchmarks.{name}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(last)
    assert "Python" in said["machine"]
    (row,) = (row for row in said["rows"] if row["set"] == "shaken.xyz")
    mine = {"pairs": ("forcefoundry", "packed"), "store": ("forcefoundry",), "batches": ("cache", "found anew")}[name]
    for code in mine:
        assert row["ns_per_pair"][code] > 0
    if name == "pairs":
        assert row["other_pairs"] == {}
    if name != "pairs" or "vesin" in row["ns_per_pair"]:
        assert row["ratio"] > 0
