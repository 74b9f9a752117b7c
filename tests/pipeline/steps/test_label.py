"""The label step: equal bytes each time, right labels, and one clear line for what cannot be done."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase.db import connect

from forcefoundry.files import DiskFullError
from pipeline.steps.label import KINDS, STEP
from pipeline.steps.labelling import crystals, molecules
from pipeline.steps.labelling.settings import filled
from pipeline.steps.labelling.workers import mapped

ROOT = Path(__file__).resolve().parents[3]
PATH = "artifacts/label/structures.db"
WATERS: dict[str, Any] = {
    "kind": "molecules_xtb",
    "seed": 0,
    "frames": 3,
    "temperature": 800,
    "timestep": 1.2,
    "stride": 4,
    "friction": 0.02,
    "min_atoms": 3,
    "max_atoms": 4,
    "max_molecules": 2,
    "max_force": 40,
}
CRYSTALS: dict[str, Any] = {
    "kind": "crystals_emt",
    "seed": 0,
    "structures": 10,
    "max_atoms": 16,
    "strain": 0.04,
    "rattle": 0.08,
    "max_force": 40,
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def label(config: dict[str, Any] | None, processes: int | None = 1, path: str = PATH) -> None:
    STEP.run({"database": {"path": path, "label": config}, "hardware": {"processes": processes}})


def digests() -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in Path("artifacts/label").iterdir()}


def rows() -> list[Any]:
    return list(connect(PATH).select())


def test_two_generations_of_molecules_give_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    label(WATERS, processes=1)
    first = digests()
    monkeypatch.setenv("USER", "someone else")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    label(WATERS, processes=2)
    assert digests() == first
    assert set(first) == {"structures.db", "label.json"}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert os.listdir("artifacts") == ["label"]


def test_two_generations_of_crystals_give_equal_bytes() -> None:
    label(CRYSTALS, processes=1)
    first = digests()
    label(CRYSTALS, processes=2)
    assert digests() == first
    label(CRYSTALS | {"seed": 1})
    assert not set(digests().values()) & set(first.values())


def test_molecules_carry_their_labels() -> None:
    label(WATERS)
    assert [row.frame for row in rows()] == [0, 1, 2] * 2
    assert len({row.unique_id for row in rows()}) == 6
    receipt = json.loads(Path("artifacts/label/label.json").read_text())
    assert receipt["rows"] == 6
    assert receipt["groups"] == dict.fromkeys(molecules.chosen(settings(WATERS)), 3)
    for row in rows():
        atoms = row.toatoms()
        assert row.calculator == "tblite"
        assert not atoms.pbc.any()
        assert atoms.get_forces().shape == (len(atoms), 3)
        assert atoms.get_dipole_moment().shape == (3,)
        assert atoms.get_charges().sum() == pytest.approx(0, abs=1e-8)


def test_crystals_carry_their_labels() -> None:
    label(CRYSTALS)
    assert {row.name for row in rows()} == set(crystals.FAMILIES)
    for row in rows():
        atoms = row.toatoms()
        assert row.calculator == "emt"
        assert atoms.pbc.all()
        assert atoms.get_stress(voigt=False).shape == (3, 3)


@pytest.mark.parametrize("option", ["molecules", "cu_au"])
def test_the_configurations_fit(option: str) -> None:
    config = yaml.safe_load((ROOT / f"conf/database/{option}.yaml").read_text())
    assert config["path"] == PATH
    chosen = settings(config["label"])
    names = molecules.chosen(chosen) if option == "molecules" else crystals.FAMILIES
    assert set(config["split"]["held_out"]) < set(names)
    if option == "molecules":
        assert len(names) >= 50


def test_your_own_data_leave_a_receipt_alone() -> None:
    label(None, path="my/structures.db")
    assert os.listdir("artifacts/label") == ["label.json"]
    assert "my/structures.db" in Path("artifacts/label/label.json").read_text()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (WATERS | {"kind": "molecule_xtb"}, r"kind is 'molecule_xtb'\. Did you mean 'molecules_xtb'\?"),
        (WATERS | {"frame": 3}, r"database\.label has no key 'frame'\. Did you mean 'frames'\?"),
        ({"kind": "crystals_emt", "seed": 0}, r"database\.label lacks structures, max_atoms"),
        (WATERS | {"frames": 0}, r"database\.label\.frames is 0, expected a whole number of at least 1"),
        (WATERS | {"temperature": "hot"}, r"temperature is 'hot', expected a number of at least 0"),
        (WATERS | {"max_molecules": True}, r"max_molecules is True, expected .*, or null"),
        (WATERS | {"min_atoms": 9}, r"No closed-shell molecule of H, C, N, O has 9 to 4 atoms"),
        (CRYSTALS | {"max_force": 0}, r"Not one of 10 structures could be labelled"),
    ],
)
def test_bad_configurations_are_one_clear_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        label(config)
    assert "\n" not in str(caught.value)
    assert not Path("artifacts").exists()


def test_path_and_label_must_agree() -> None:
    with pytest.raises(ValueError, match=r"Set database\.label=null where the data are yours"):
        label(WATERS, path="my/structures.db")
    with pytest.raises(ValueError, match=r"Point database\.path at your own data"):
        label(None)
    with pytest.raises(ValueError, match=r"hardware\.processes is 0"):
        label(WATERS, processes=0)


def test_what_is_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    label(CRYSTALS | {"max_force": 2})
    receipt = json.loads(Path("artifacts/label/label.json").read_text())
    assert receipt["rows"] + len(receipt["left_out"]) == 10
    assert 0 < receipt["rows"] == len(rows()) < 10
    assert "is above max_force = 2" in receipt["left_out"][0]["reason"]
    assert f"{len(receipt['left_out'])} of 10 structures were left out" in caplog.text


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(RuntimeError, match="A labelling process died"):
        list(mapped(os._exit, [3], 1))


def test_a_full_disk_is_told_and_leaves_nothing(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_disk)
    with pytest.raises(DiskFullError, match="The disk is full: artifacts/label"):
        label(CRYSTALS)
    assert os.listdir("artifacts") == []


def test_the_step_is_cheap_to_import() -> None:
    code = "import sys, pipeline.steps.label; sys.exit(bool({'ase', 'tblite', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(disk)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no leave to mount a small tmpfs here")
    yield disk
    os.chdir(tmp_path)
    subprocess.run(["umount", str(disk)], check=True)


def settings(config: dict[str, Any]) -> Any:
    module = {"molecules_xtb": molecules, "crystals_emt": crystals}[config["kind"]]
    assert KINDS[config["kind"]] == module.__name__
    return filled(module.Settings, {key: value for key, value in config.items() if key != "kind"}, "database.label")
