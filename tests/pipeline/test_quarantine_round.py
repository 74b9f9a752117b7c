"""From a file to a decision and back: what is accepted comes in with the next run, what is rejected stays out."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.files import read_json
from pipeline import __main__ as door
from pipeline.environment import OUR_LOGGERS
from tests.outside import ROOT
from tests.pipeline.crystals import crystals

Say = Callable[..., str]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A repository with the project's configuration and a file of which three rows are wrong."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCEFOUNDRY_TRACEBACK", raising=False)
    for name in ("GIT_CONFIG_GLOBAL", "PREFECT_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for words in (["init", "-q"], ["config", "user.name", "Ada"], ["config", "user.email", "ada@example.org"]):
        subprocess.run(["git", *words], check=True)
    rows = crystals(60, "bulk")
    rows[11].positions[1] = rows[11].positions[0] + 0.3
    rows[23].calc.results["forces"] = rows[23].calc.results["forces"] * 1e4
    rows[42].calc.results["energy"] = np.nan
    Path("data").mkdir()
    ase.io.write("data/rows.xyz", rows, format="extxyz")
    yield
    for name in OUR_LOGGERS:  # the door's handler writes to the terminal of this test alone
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Say:
    """What `python -m pipeline WORDS` prints."""

    def say(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        got = door.main(words)
        said = capsys.readouterr()
        assert got == code, said
        return said.out + said.err

    return say


def rows() -> tuple[int, ...]:
    told = read_json("artifacts/load/summary.json")["rows"]
    return tuple(told[name] for name in ("in", "kept", "quarantined", "rejected"))


def ids(typed: Say) -> dict[str, str]:
    """The id of each row that was set apart, by its place."""
    listed = [line.split("  ") for line in typed("quarantine", "list").splitlines() if "data/rows.xyz" in line]
    return {words[2].strip(): words[0] for words in listed}


def test_a_file_is_looked_at_brought_in_reviewed_and_brought_in_again(typed: Say) -> None:
    said = typed("inspect", "data/rows.xyz", "--write", "mine")
    assert "frame 11: the distance between atoms 0 and 1 is" in said
    assert "frame 42: energy (key 'energy') is not finite." in said
    typed("params", "database=mine")
    said = typed("load")
    assert "structures in 60 = 57 kept + 3 quarantined\n" in said
    assert "3 rows are set apart: `python -m pipeline quarantine list` shows them\n" in said
    assert rows() == (60, 57, 3, 0)
    found = ids(typed)
    assert set(found) == {"frame 11", "frame 23", "frame 42"}
    assert "cannot be accepted" in typed("quarantine", "accept", found["frame 42"], "--why", "x", code=2)
    typed("quarantine", "accept", found["frame 23"], "--why", "a shock run")
    typed("quarantine", "reject", found["frame 11"], "--why", "atoms in one place")
    assert rows() == (60, 57, 3, 0)  # nothing changes before the next run
    assert "structures in 60 = 58 kept + 1 quarantined + 1 rejected\n" in typed("load")
    assert rows() == (60, 58, 1, 1)
    largest = np.abs(Database.load("artifacts/load/columns").columns["forces"]).max()
    assert largest == np.abs(ase.io.read("data/rows.xyz", 23).calc.results["forces"]).max()  # to the last bit
    assert {line[:12] for line in typed("quarantine", "list").splitlines()} >= set(found.values())
    typed("quarantine", "undo", found["frame 23"], found["frame 11"])
    typed("load")
    assert rows() == (60, 57, 3, 0)


def test_a_row_that_changes_is_no_longer_decided_about(typed: Say) -> None:
    typed("inspect", "data/rows.xyz", "--write", "mine")
    typed("params", "database=mine")
    typed("load")
    typed("quarantine", "accept", ids(typed)["frame 23"], "--why", "a shock run")
    changed = ase.io.read("data/rows.xyz", ":")
    changed[23].calc.results["forces"] = changed[23].calc.results["forces"] * 1.5
    ase.io.write("data/rows.xyz", changed, format="extxyz")
    typed("load")
    assert rows() == (60, 57, 3, 0)
    said = typed("quarantine", "list")
    assert "1 decision of reviews.yaml meets no row of the last run: such a row has changed or is gone" in said
    assert "2 to be decided" in said
