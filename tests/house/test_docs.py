"""The programs in the documents run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outside import ROOT

PROGRAMS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted((ROOT / "docs").glob("*.md"))
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S))
]


def run(program: str, folder: Path) -> str:
    """What a program prints, run on its own in an empty folder; warnings are errors."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_the_documents_runs(program: str, tmp_path: Path) -> None:
    assert run(program, tmp_path).strip()


def test_the_assembly_program_is_short_and_trains(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "assembly.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len([line for line in program.splitlines() if line.strip()]) <= 40
    printed = run(program, tmp_path)
    assert re.search(r"^energy_readout +EnergyNode", printed, re.M)
    error = float(re.search(r"'valid_F-RMSE': ([0-9.e-]+)", printed)[1])  # type: ignore[index]
    assert error < 0.4  # eV/Å; the forces themselves scatter by more than 1
