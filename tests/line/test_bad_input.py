"""Bad input, as a person meets it at the command line: one clear line, an exit code, nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase
import ase.db
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from forcefoundry.files import read_json
from tests.line.workspace import Workspace, clone

OWN_DATA = ["database=ase_db", "database.path=mine.db", "database.split.valid=0.3", "database.split.test=0.2"]
SMALL = ["network.n_features=4", "network.n_sensitivities=4", "network.n_interactions=1", "network.n_atom_layers=1"]

BALANCED = np.array([[1.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.0, -0.5, 0.0]])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone in which nothing has run."""
    base = tmp_path_factory.mktemp("bare")
    return clone(base / "clone", base / "store")


def waters(path: Path, n: int = 24, spoil: dict[int, str] | None = None) -> None:
    """An ASE database of shaken water molecules; `spoil` says what is wrong with which row."""
    path.unlink(missing_ok=True)
    rng = np.random.default_rng(0)
    with ase.db.connect(path, type="db") as database:
        for number in range(n):
            wrong = (spoil or {}).get(number)
            atoms = ase.Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
            atoms.positions += rng.normal(0, 0.05, (3, 3))
            if wrong == "nan":
                atoms.positions[1, 2] = np.nan
            results = {"energy": -380.0 + rng.normal(0, 0.1), "forces": rng.normal(0, 1, (3, 3))}
            if wrong == "no forces":
                del results["forces"]
            atoms.calc = SinglePointCalculator(atoms, **results)
            database.write(atoms, fold=number % 4)


def training_of(workspace: Workspace) -> subprocess.Popen[str]:
    """The train step as a terminal starts it, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train"],
        cwd=workspace.folder,
        env=workspace.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def refused(workspace: Workspace, *words: str, code: int = 2) -> str:
    """The one line with which a command refuses; 2 stands for wrong input, 1 for what the system would not do."""
    lines = workspace.pipeline(*words, code=code).strip().splitlines()
    assert lines[-1].startswith("forcefoundry: ")
    assert "Traceback" not in "".join(lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["network=hipnm"], "hipnn"),
        (["experiment=cu_ag"], "cu_au"),
        (["training.max_epoch=3"], "training.max_epochs"),
        (["netwrok=hipnn"], "network"),
        (["pairs.cutoff=-1"], "cutoff"),
    ],
)
def test_a_wrong_parameter_is_one_line_with_the_nearest(bare: Workspace, words: list[str], told: str) -> None:
    before = (bare.folder / "params.yaml").read_bytes()
    assert told in refused(bare, "run", *words)
    assert (bare.folder / "params.yaml").read_bytes() == before


def test_a_database_that_is_not_there(bare: Workspace) -> None:
    (bare.folder / "mine.db").unlink(missing_ok=True)
    bare.pipeline("params", *OWN_DATA)
    said = refused(bare, "load", code=1)
    assert "mine.db does not exist" in said
    assert not (bare.folder / "mine.db").exists()


@pytest.mark.parametrize(
    ("n", "spoil", "more", "told"),
    [
        (0, {}, [], ["mine.db", "is empty"]),
        (24, {}, ["database.keys.energy=enrgy"], ["'enrgy'", "Did you mean energy?"]),
        (24, {}, ["database.split.valid=0.0"], ["nothing to validate on", "database.split.valid"]),
        (24, {5: "nan"}, ["contract.not_finite.policy=error"], ["mine.db, row 6", "atom 1"]),
        (24, dict.fromkeys(range(24), "no forces"), [], ["No row carries forces", "Rows carry energy, fold"]),
        (24, {}, ["database.units.energy=Hartre"], ["database.units.energy", "Did you mean Hartree?"]),
        (24, {}, ["database.signs.forces=gradient"], ["database.signs.forces", "Did you mean gradients?"]),
        (24, {}, ["database.group=fold", "database.split.held_out=[9]"], ["'9'", "fold"]),
        (24, {}, ["database.format=ase_bd"], ["ase_db"]),
    ],
)
def test_data_that_cannot_be_loaded(
    bare: Workspace, n: int, spoil: dict[int, str], more: list[str], told: list[str]
) -> None:
    waters(bare.folder / "mine.db", n, spoil)
    bare.pipeline("params", *OWN_DATA, *more)
    said = refused(bare, "load")
    for words in told:
        assert words in said
    assert {path.name for path in (bare.folder / "artifacts/load").glob("*")} <= {"findings.jsonl"}


def test_an_element_that_the_network_does_not_know(bare: Workspace) -> None:
    waters(bare.folder / "mine.db")
    bare.pipeline("params", *OWN_DATA, *SMALL, "network.species=[1,6]")
    for step in ("load", "precompute_pairs"):
        bare.pipeline(step)
    assert "[8]" in refused(bare, "assemble")


def test_an_element_that_is_judged_but_not_trained_on(bare: Workspace) -> None:
    waters(bare.folder / "mine.db")
    with ase.db.connect(bare.folder / "mine.db", type="db") as database:
        ammonia = ase.Atoms("NHH", [[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
        ammonia.calc = SinglePointCalculator(ammonia, energy=-100.0, forces=BALANCED)
        database.write(ammonia, fold=9)
    chosen = [*OWN_DATA, *SMALL, "database.group=fold", "database.split.held_out=[9]"]
    bare.pipeline("params", *chosen)
    assert "in 'held_out', is one with N" in refused(bare, "load")
    bare.pipeline("params", *chosen, "contract.unseen_element.policy=warn")
    for step in ("load", "precompute_pairs"):
        bare.pipeline(step)
    assert "'held_out' contains N" in refused(bare, "assemble")


def test_a_model_of_other_parameters_is_not_judged(bare: Workspace) -> None:
    waters(bare.folder / "mine.db")
    chosen = [*OWN_DATA, *SMALL, "training.max_epochs=1", "database.group=fold", "database.split.held_out=[3]"]
    bare.pipeline("params", *chosen)
    for step in ("load", "precompute_pairs", "assemble", "train"):
        bare.pipeline(step)
    bare.pipeline("params", *chosen, "pairs.cutoff=6.0")
    for step in ("precompute_pairs", "assemble"):
        bare.pipeline(step)
    assert "was made with network.cutoff = 5.0, but it is 6.0 now" in refused(bare, "evaluate")


def test_a_split_too_small_for_r2_has_none_and_still_its_errors(bare: Workspace) -> None:
    waters(bare.folder / "mine.db")
    with ase.db.connect(bare.folder / "mine.db", type="db") as database:
        water = ase.Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.24, 0.95, 0]])
        water.calc = SinglePointCalculator(water, energy=-380.0, forces=BALANCED)
        database.write(water, fold=9)
    chosen = [*OWN_DATA, *SMALL, "training.max_epochs=1", "database.group=fold", "database.split.held_out=[9]"]
    bare.pipeline("params", *chosen)
    for step in ("load", "precompute_pairs", "assemble", "train", "evaluate"):
        bare.pipeline(step)
    metrics = read_json(bare.folder / "artifacts/evaluate/metrics.json")["held_out"]
    assert metrics["energy_per_atom"]["r2"] is None
    assert metrics["energy_per_atom"]["rmse"] > 0
    table = bare.pipeline("summary")
    assert next(line for line in table.splitlines() if line.startswith("held out")).count("–") == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(bare: Workspace, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk]).returncode:
        pytest.skip("mounting a small disk takes root")
    artifacts = bare.folder / "artifacts"
    try:
        waters(bare.folder / "mine.db", n=600)
        bare.pipeline("params", *OWN_DATA)
        if artifacts.exists():
            subprocess.run(["rm", "-rf", artifacts], check=True)
        artifacts.symlink_to(disk)
        lines = bare.pipeline("load", code=1).strip().splitlines()
        assert lines[-1].startswith("forcefoundry: ")
        assert "disk is full" in lines[-1]
        assert "artifacts/load/columns" in lines[-1]
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    finally:
        artifacts.unlink(missing_ok=True)
        subprocess.run(["umount", disk], check=True)


def test_ctrl_c_in_training_keeps_the_last_checkpoint_and_the_next_run_goes_on(bare: Workspace) -> None:
    waters(bare.folder / "mine.db")
    bare.pipeline("params", *OWN_DATA, *SMALL, "training.max_epochs=100000")
    for step in ("load", "precompute_pairs", "assemble"):
        bare.pipeline(step)
    shutil.rmtree(bare.folder / "artifacts/train", ignore_errors=True)  # an earlier test's model is not this one's
    with training_of(bare) as training:
        deadline = time.monotonic() + 120
        while not list((bare.folder / ".forcefoundry/scratch").glob("train-*/checkpoint.pt")):
            assert time.monotonic() < deadline
            assert training.poll() is None
            time.sleep(0.05)
        os.killpg(training.pid, signal.SIGINT)
        said = training.communicate(timeout=30)[1]
    assert training.returncode == 130
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert "interrupted" in last
    assert "checkpoint" in last
    assert not (bare.folder / "artifacts/train").exists()
    # The checkpoint is named after the very job, so only that job goes on from it.
    (checkpoint,) = (bare.folder / ".forcefoundry/scratch").glob("train-*/checkpoint.pt")
    with training_of(bare) as again:
        assert again.stderr is not None
        first = next(line for line in again.stderr if "going on" in line or "forcefoundry:" in line)
        os.killpg(again.pid, signal.SIGINT)
        again.communicate(timeout=30)
    assert "going on where it was" in first
    assert checkpoint.exists()
