"""Twenty thousand rows through the door in a process of their own: all accounted for, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.door import write_files
from tests.outside import ROOT

ROWS = 20_000


def door(folder: Path, format_name: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.door",
        "--child",
        "door",
        "--keep",
        str(folder),
        "--format",
        format_name,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("format_name", ["extxyz", "ase_lmdb"])
def test_twenty_thousand_rows_in_bounded_memory(tmp_path: Path, format_name: str) -> None:
    write_files(tmp_path / "files", ROWS, format_name)
    first = door(tmp_path, format_name)
    assert first["rows"] == ROWS
    # The compiled finders and SciPy are imported on the way, about 100 MB; a row itself takes a third of a kilobyte.
    assert first["above_imports_mb"] < 500
    again = door(tmp_path, format_name)
    assert again["rows"] == ROWS
    assert again["above_imports_mb"] < 50  # nothing was read
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    rows = summary["rows"]
    assert rows["in"] == ROWS == rows["kept"] + rows["quarantined"] + rows["rejected"]
    assert rows["kept"] > 0.999 * ROWS
