"""The door whole: nothing is dropped, nothing is read twice, people decide, and the files are what comes in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from forcefoundry.contract import intake
from forcefoundry.contract.door import COLUMNS, FINDINGS, QUARANTINE, SUMMARY, ContractError, bring_in
from forcefoundry.contract.quarantine import Quarantine, QuarantinedRow
from forcefoundry.contract.reviews import Review, Reviews
from forcefoundry.databases import Database
from forcefoundry.databases.loading import load_database
from tests.builders import tree_bytes
from tests.contract.real_sets import real_sets, set_config
from tests.outside import ROOT


def frames(n: int, seed: int = 0, **info: Any) -> list[ase.Atoms]:
    """Labelled drops of carbons and oxygens that no check has anything to say of."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        count = int(rng.integers(4, 8))
        grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 1.7
        atoms = ase.Atoms(
            rng.choice([6, 8], count), grid[rng.permutation(8)[:count]] + rng.uniform(-0.2, 0.2, (count, 3))
        )
        forces = rng.normal(0, 1, (count, 3))
        energy = float(atoms.numbers.sum() * -10.0 + rng.normal(0, 0.05) * count)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces - forces.mean(axis=0))
        atoms.info.update(info)
        made.append(atoms)
    return made


def write(path: Path, rows: list[ase.Atoms]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, rows, format="extxyz")
    return path


def config(path: Path, format: str = "extxyz", **changes: Any) -> dict[str, Any]:
    split = {"seed": 0, "valid": 0.3, "test": 0.2, "held_out": []} | changes.pop("split", {})
    asked = {"path": str(path), "format": format, "files": None, "keys": {"energy": None, "forces": None}}
    return {**asked, "group": None, "split": split} | changes


def apart(folder: Path) -> list[QuarantinedRow]:
    with Quarantine.open(folder / QUARANTINE) as held:
        return list(held)


def findings(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FINDINGS).read_text(encoding="utf-8").splitlines()]


def broken(rows: list[ase.Atoms], at: int) -> list[ase.Atoms]:
    """The rows, with two atoms of one a hundredth of an Å apart."""
    rows = [row.copy() if number == at else row for number, row in enumerate(rows)]
    rows[at].calc = None
    rows[at].positions[1] = rows[at].positions[0] + [0.01, 0, 0]
    return rows


@pytest.mark.parametrize("name", real_sets())
def test_real_sets_come_in_as_they_are(name: str, tmp_path: Path) -> None:
    plain, _ = load_database(set_config(name))
    # nbmotaw's multinary alloys are of elements that Nb-W training data do not have.
    summary = bring_in(set_config(name), {"unseen_element": {"policy": "quarantine"}}, tmp_path / "out")
    rows = summary["rows"]
    assert summary["quarantine"].get("unseen_element", 0) == (16 if name == "nbmotaw_NbW" else 0)
    assert rows["in"] == len(plain) == rows["kept"] + rows["quarantined"] + rows["rejected"]
    found = Database.load(tmp_path / "out" / COLUMNS)
    assert len(found) == rows["kept"]
    by_key: dict[bytes, int] = {}
    for at, key in enumerate(plain.keys()):
        by_key.setdefault(key.tobytes(), at)
    kept = np.array([by_key[key.tobytes()] for key in found.keys()])  # noqa: SIM118
    for label in plain.columns:
        np.testing.assert_array_equal(found.columns[label], plain.columns.take(label, kept))
    assert sum(len(members) for members in found.splits.values()) + summary["isolated_atoms"] == len(found)


def test_what_was_read_once_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "data.xyz", broken(frames(40), 7))
    first = bring_in(config(path), None, tmp_path / "one", scratch=tmp_path / "scratch")
    monkeypatch.setattr(intake, "read_rows", lambda *_, **__: pytest.fail("a row was read"))
    os.utime(path, (1, 1))
    assert bring_in(config(path), None, tmp_path / "two", scratch=tmp_path / "scratch") == first
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")
    moved = path.rename(tmp_path / "moved.xyz")
    summary = bring_in(config(moved), None, tmp_path / "three", scratch=tmp_path / "scratch")
    assert summary["digest"] == first["digest"]
    assert apart(tmp_path / "three")[0].file == str(moved)
    write(path, frames(40, seed=1))
    with pytest.raises(pytest.fail.Exception, match="a row was read"):
        bring_in(config(path), None, tmp_path / "four", scratch=tmp_path / "scratch")


def test_results_are_the_same_with_and_without_what_was_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "data.xyz", broken(frames(60), 7))
    bring_in(config(path), None, tmp_path / "one", scratch=tmp_path / "scratch")
    shutil.rmtree(tmp_path / "scratch" / "results")
    bring_in(config(path), None, tmp_path / "two", scratch=tmp_path / "scratch")
    bring_in(config(path), None, tmp_path / "three")
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "three")


def test_a_new_file_alone_is_read_and_no_shard_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TOGETHER", 1)
    folder = tmp_path / "data"
    for number in range(3):
        write(folder / f"{number}.xyz", frames(30, seed=number))
    asked = config(folder, "ase_folder")
    bring_in(asked, None, tmp_path / "one", scratch=tmp_path / "scratch")
    before = {path.name: path.stat() for path in (tmp_path / "one" / COLUMNS).glob("*.arrow")}
    write(folder / "3.xyz", frames(30, seed=3))
    real, read = intake.read_rows, []
    monkeypatch.setattr(
        intake, "read_rows", lambda name, place, **more: read.append(place) or real(name, place, **more)
    )
    summary = bring_in(asked, None, tmp_path / "two", scratch=tmp_path / "scratch")
    assert read == [folder / "3.xyz"]
    assert summary["rows"]["in"] == 120
    shards = {path.name: path.stat() for path in (tmp_path / "two" / COLUMNS).glob("*.arrow")}
    for name, stat in before.items():
        if name != "index.arrow":
            assert (shards[name].st_ino, shards[name].st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_thousands_of_small_files_make_few_shards(tmp_path: Path) -> None:
    for number, atoms in enumerate(frames(300)):
        write(tmp_path / "data" / f"{number:04d}.xyz", [atoms])
    summary = bring_in(config(tmp_path / "data", "ase_folder"), None, tmp_path / "out")
    assert summary["rows"] == {"in": 300, "kept": 300, "quarantined": 0, "rejected": 0}
    assert len(list((tmp_path / "out" / COLUMNS).glob("*.arrow"))) == 2  # a shard and the index


def test_a_row_is_set_apart_accepted_rejected_and_changed(tmp_path: Path) -> None:
    rows = broken(frames(40), 7)
    path = write(tmp_path / "data.xyz", rows)
    summary = bring_in(config(path), None, tmp_path / "out")
    assert summary["rows"] == {"in": 40, "kept": 39, "quarantined": 1, "rejected": 0}
    (row,) = apart(tmp_path / "out")
    assert (row.state, row.where, row.checks) == ("quarantined", "frame 7", ("close_atoms",))
    assert summary["quarantine"] == {"close_atoms": 1}

    def decided(verdict: str, checks: tuple[str, ...] = ()) -> tuple[dict[str, int], str]:
        reviews = Reviews([Review(row.id, verdict, "tested", "me", "2026-11-27", checks)])
        rows_now = bring_in(config(path), None, tmp_path / "out", reviews)["rows"]
        return rows_now, apart(tmp_path / "out")[0].state

    assert decided("accept", ("close_atoms",)) == ({"in": 40, "kept": 40, "quarantined": 0, "rejected": 0}, "accepted")
    assert decided("accept", ("net_force",)) == ({"in": 40, "kept": 39, "quarantined": 1, "rejected": 0}, "quarantined")
    assert decided("reject") == ({"in": 40, "kept": 39, "quarantined": 0, "rejected": 1}, "rejected")
    rows[7].positions[1, 1] += 0.001  # another row now, of which nobody has decided
    write(path, rows)
    assert decided("accept", ("close_atoms",))[1] == "quarantined"


def test_a_row_that_no_check_minds_can_be_rejected(tmp_path: Path) -> None:
    rows = frames(40)
    path = write(tmp_path / "data.xyz", [*rows, rows[5]])
    bring_in(config(path), {"exact_duplicate": {"policy": "quarantine"}}, tmp_path / "out")
    (row,) = apart(tmp_path / "out")
    assert row.where == "frame 40"
    reviews = Reviews([Review(row.id, "reject", "there twice", "me", "2026-11-27")])
    summary = bring_in(config(path), None, tmp_path / "out", reviews)
    assert summary["rows"] == {"in": 41, "kept": 40, "quarantined": 0, "rejected": 1}
    assert [row.where for row in apart(tmp_path / "out")] == ["frame 40"]  # and its first one stays


def test_an_error_ends_the_run_and_says_all_that_was_found(tmp_path: Path) -> None:
    rows = broken(broken(frames(40), 7), 9)
    path = write(tmp_path / "data.xyz", rows)
    with pytest.raises(ContractError, match=r"data\.xyz, frame 7: the distance .* \(1 more such findings\)"):
        bring_in(config(path), {"close_atoms": {"policy": "error"}}, tmp_path / "out", scratch=tmp_path / "scratch")
    told = [one for one in findings(tmp_path / "out") if one["check"] == "close_atoms"]
    assert [(one["where"], one["policy"]) for one in told] == [("frame 7", "error"), ("frame 9", "error")]
    assert not (tmp_path / "out" / SUMMARY).exists()
    assert bring_in(config(path), {"close_atoms": {"policy": "off"}}, tmp_path / "out")["rows"]["kept"] == 40


def test_rows_without_a_structure_are_counted_with_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "data.xyz", frames(40))
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*text[:1], "", *text[1:]]).replace(" 1.", " x.", 1))
    summary = bring_in(config(path), None, tmp_path / "out")
    assert summary["rows"]["in"] == 40
    assert summary["rows"]["quarantined"] == 1
    (row,) = apart(tmp_path / "out")
    assert row.checks == ("unreadable",)
    assert row.raw
    assert len(Database.load(tmp_path / "out" / COLUMNS)) == 39


def test_a_row_that_lacks_its_weight_is_set_apart(tmp_path: Path) -> None:
    rows = frames(40, config_weight=2.0)
    del rows[3].info["config_weight"]
    keys = {"energy": None, "forces": None, "weight": None}
    bring_in(config(write(tmp_path / "data.xyz", rows), keys=keys), None, tmp_path / "out")
    (row,) = apart(tmp_path / "out")
    assert (row.where, row.checks) == ("frame 3", ("missing_weight",))


def test_two_keys_that_differ_are_told(tmp_path: Path) -> None:
    rows = frames(40)
    for row in rows:
        row.info["REF_energy"] = row.get_potential_energy() + 0.5
    summary = bring_in(config(write(tmp_path / "data.xyz", rows)), None, tmp_path / "out")
    assert summary["properties"]["energy"]["key"] == "REF_energy"
    assert "differ, by up to 0.5 eV" in summary["warnings"][0]
    assert [one["check"] for one in findings(tmp_path / "out")] == ["rival_keys"]


def test_another_row_is_told_by_its_file_and_place(tmp_path: Path) -> None:
    rows = frames(40)
    asked = config(tmp_path, files={"train": "a.xyz", "test": "b.xyz"}, split={"test": 0.0})
    write(tmp_path / "a.xyz", rows)
    write(tmp_path / "b.xyz", [rows[3], *frames(4, seed=9)])
    bring_in(asked, None, tmp_path / "out")
    told = {one["check"]: one for one in findings(tmp_path / "out")}
    assert set(told) == {"exact_duplicate", "split_overlap"}
    for one in told.values():
        assert one["file"].endswith("b.xyz")
        assert one["where"] == "frame 0"
        assert f"{tmp_path / 'a.xyz'}, frame 3" in one["got"]


@pytest.mark.parametrize(
    ("contract", "told"),
    [
        ({"close_atom": {}}, "contract names the check 'close_atom', which there is not. Did you mean close_atoms"),
        ({"close_atoms": {"fractoin": 1}}, r"contract\.close_atoms\.fractoin is no threshold.*Did you mean fraction"),
        ({"close_atoms": {"policy": "never"}}, r"policy is 'never', expected error or quarantine or warn or off"),
        ({"unreadable": {"policy": "warn"}}, r"expected error or quarantine\. Such rows cannot be let in"),
        ({"close_atoms": {"fraction": "half"}}, r"fraction is 'half', expected a number such as 0\.5"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, contract: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        bring_in(config(tmp_path / "never-read.xyz"), contract, tmp_path / "out")


def test_killed_at_any_moment_the_next_run_is_right(tmp_path: Path) -> None:
    path = write(tmp_path / "data.xyz", broken(frames(1500), 7))
    bring_in(config(path), None, tmp_path / "expected")
    program = (
        "import json, sys; from forcefoundry.contract.door import bring_in; "
        "bring_in(json.loads(sys.argv[1]), None, sys.argv[2], scratch=sys.argv[3])"
    )
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    command = [sys.executable, "-c", program, json.dumps(config(path))]
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "other"), str(tmp_path / "other-scratch")], cwd=ROOT, check=True)
    whole = time.monotonic() - began
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(5):
        started = subprocess.Popen([*command, str(out), str(scratch)], cwd=ROOT)
        time.sleep(float(rng.uniform(0.2, 0.8)) * whole)
        started.send_signal(signal.SIGKILL)
        killed += started.wait() == -signal.SIGKILL
    assert killed
    bring_in(config(path), None, out, scratch=scratch)
    assert tree_bytes(out) == tree_bytes(tmp_path / "expected")


def test_where_most_rows_are_wrong_it_is_the_set(tmp_path: Path) -> None:
    rows = frames(40)
    for at in range(25):
        rows = broken(rows, at)
    asked = config(write(tmp_path / "data.xyz", rows))
    told = r"25 of 40 rows would be set apart, 25 of them for close_atoms: .* contract\.close_atoms\.policy=warn"
    with pytest.raises(ContractError, match=told):
        bring_in(asked, None, tmp_path / "out")
    assert len(findings(tmp_path / "out")) >= 25
    assert bring_in(asked, {"close_atoms": {"policy": "warn"}}, tmp_path / "out")["rows"]["kept"] == 40
