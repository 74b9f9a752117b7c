"""What DVC makes of the pairs: no byte twice, only new bytes hashed and sent, older ones and those of others read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import ase.db
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from forcefoundry.files import read_json
from tests.line.workspace import Workspace, clone, commit

FIRST, NEW = 388, 12  # 3 % of 400 are new
CHOSEN = [
    "pairs=reference",
    "database=ase_db",
    "database.path=mine.db",
    "database.split.valid=0.2",
    "database.split.test=0.0",
    "network.n_features=3",
    "network.n_sensitivities=4",
    "network.n_interactions=1",
    "network.n_atom_layers=1",
    "training.max_epochs=1",
]


def crystals(path: Path, n: int) -> None:
    """An ASE database of the first n of a series of shaken cells of 16 atoms."""
    rng = np.random.default_rng(0)
    path.unlink(missing_ok=True)
    with ase.db.connect(path, type="db") as database:
        for _ in range(n):
            atoms = bulk("Al", cubic=True) * (2, 2, 1)
            atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
            energy, forces = rng.normal(-50.0, 1.0), rng.normal(0.0, 1.0, (16, 3))
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            database.write(atoms)


def view(workspace: Workspace) -> dict[str, Path]:
    """The shards that the workspace holds, by name."""
    return {path.name: path for path in (workspace.folder / "artifacts/precompute_pairs/shards").glob("*.arrow")}


def looks(path: Path) -> tuple[int, int, int, bytes]:
    """A file from outside and inside: inode, time of change, size and bytes."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size, path.read_bytes()


def receipt(workspace: Workspace) -> dict[str, Any]:
    """What the last run of precompute_pairs did."""
    return dict(read_json(workspace.folder / "artifacts/precompute_pairs/receipt.json"))


def manifest(workspace: Workspace) -> dict[str, Any]:
    """The manifest of the pairs that lie in the workspace."""
    return dict(read_json(workspace.folder / "artifacts/precompute_pairs/shards/manifest.json"))


def sizes(folder: Path) -> dict[Path, int]:
    """Every file under a folder and its size."""
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A workspace whose data grew by 3 %, each state computed, committed and pushed; and what was seen on the way."""
    base = tmp_path_factory.mktemp("grown")
    workspace = clone(base / "clone", base / "store")
    workspace.dvc("remote", "add", "-d", "shelf", str(base / "remote"))
    workspace.pipeline("params", *CHOSEN)
    seen: dict[str, Any] = {"workspace": workspace, "remote": base / "remote"}
    for when, n in (("before", FIRST), ("after", FIRST + NEW)):
        crystals(workspace.folder / "mine.db", n)
        said = workspace.dvc("repro", "precompute_pairs")
        workspace.dvc("push", "precompute_pairs")
        commit(workspace, when)
        seen[when] = {
            "said": said,
            "receipt": receipt(workspace),
            "manifest": manifest(workspace),
            "shards": {name: looks(path) for name, path in view(workspace).items()},
            "remote": sizes(base / "remote"),
        }
    return seen


def test_of_a_data_set_that_grew_only_the_new_is_computed(grown: dict[str, Any]) -> None:
    before, after = grown["before"], grown["after"]
    assert [before["receipt"][name] for name in ("computed", "kept")] == [FIRST, 0]
    assert [after["receipt"][name] for name in ("computed", "kept")] == [NEW, FIRST]
    assert after["manifest"]["structures"] == FIRST + NEW
    assert len(after["shards"]) == len(before["shards"]) + 1
    # Not a byte, nor the time of change, nor the place on the disk of an old shard.
    assert before["shards"].items() < after["shards"].items()


def test_of_a_data_set_that_grew_only_the_new_is_sent(grown: dict[str, Any]) -> None:
    before, after = grown["before"]["remote"], grown["after"]["remote"]
    assert before.items() < after.items()
    new = sum(after[path] for path in after.keys() - before.keys())
    whole = sum(size for *_, size, _ in grown["after"]["shards"].values())
    assert 0.025 < new / whole < 0.04


def test_a_pair_lies_on_the_disk_once(grown: dict[str, Any]) -> None:
    workspace = grown["workspace"]
    stored = {path.name: path.stat().st_ino for path in workspace.store.rglob("*.arrow")}
    cached = {path.stat().st_ino for path in (workspace.folder / ".dvc/cache").rglob("*") if path.is_file()}
    assert len(view(workspace)) == 2
    for name, path in view(workspace).items():
        assert path.stat().st_ino == stored[name]
        assert path.stat().st_ino in cached
        assert path.stat().st_nlink == 3


def test_which_finder_finds_the_pairs_changes_nothing(grown: dict[str, Any]) -> None:
    workspace = grown["workspace"]
    workspace.pipeline("params", *CHOSEN[1:], "pairs=cpu")
    assert "up to date" in workspace.dvc("status", "precompute_pairs")
    workspace.pipeline("params", *CHOSEN)


def test_an_older_revision_gives_the_older_pairs(grown: dict[str, Any]) -> None:
    workspace = grown["workspace"]
    (newest,) = workspace.run("git", "rev-parse", "HEAD").split()
    workspace.run("git", "checkout", "-q", "HEAD~1")
    try:
        workspace.dvc("checkout", "load", "precompute_pairs")
        assert manifest(workspace) == grown["before"]["manifest"]
        assert view(workspace).keys() == grown["before"]["shards"].keys()
        assert "up to date" in workspace.dvc("status", "precompute_pairs")
        workspace.pipeline("assemble")
        workspace.pipeline("train")
    finally:
        workspace.run("git", "checkout", "-q", newest)
        workspace.dvc("checkout", "load", "precompute_pairs")


def test_a_flipped_bit_is_found_by_name_and_put_right_everywhere(grown: dict[str, Any]) -> None:
    """One wrong byte is wrong in the store, the workspace and DVC's cache; repair computes one shard of the two."""
    workspace = grown["workspace"]
    assert "2 of 2 shards verified" in workspace.pipeline("pairs", "verify")
    small, large = sorted(view(workspace).values(), key=lambda path: path.stat().st_size)
    right, untouched = small.read_bytes(), looks(large)
    small.chmod(0o644)
    with small.open("r+b") as file:
        file.seek(1000)
        file.write(bytes([right[1000] ^ 4]))
    small.chmod(0o444)
    said = workspace.pipeline("pairs", "verify", code=1)
    assert small.name in said
    assert large.name not in said
    assert f"{NEW} structures were computed again" in workspace.pipeline("pairs", "repair")
    assert small.read_bytes() == right
    assert looks(large) == untouched
    assert "2 of 2 shards verified" in workspace.pipeline("pairs", "verify")
    assert "up to date" in workspace.dvc("status", "precompute_pairs")


def test_the_verbs_count_and_keep_what_a_run_has_made(grown: dict[str, Any]) -> None:
    workspace, held = grown["workspace"], grown["after"]["manifest"]
    assert f"{FIRST + NEW} structures, {held['pairs']} pairs" in workspace.pipeline("pairs", "stats")
    before = sizes(workspace.store)
    for words in (["--dry-run", "--force"], ["--force"]):
        assert "2 shards are referred to" in workspace.pipeline("pairs", "gc", *words)
        assert {path for path in before if path.suffix == ".arrow" and len(path.stem) == 64} <= set(
            sizes(workspace.store)
        )


@pytest.mark.slow
def test_on_another_machine_nothing_is_computed_again(grown: dict[str, Any], tmp_path: Path) -> None:
    here = grown["workspace"]
    subprocess.run(["git", "clone", "-q", here.folder, tmp_path / "clone"], check=True)
    there = Workspace(tmp_path / "clone", tmp_path / "store")
    here.dvc("push", "load")
    there.dvc("pull", "load", "precompute_pairs")
    assert "Running stage" not in there.dvc("repro", "precompute_pairs")
    assert not there.store.exists()
    there.pipeline("assemble")  # reads the pairs
    stored = {path.stat().st_ino for path in there.store.rglob("*.arrow")}
    assert {path.stat().st_ino for path in view(there).values()} < stored
    shutil.rmtree(there.store)
    crystals(there.folder / "mine.db", FIRST + NEW + 5)
    there.dvc("repro", "precompute_pairs")
    assert [receipt(there)[name] for name in ("computed", "kept")] == [5, FIRST + NEW]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_store_on_another_disk_is_copied_from_and_says_so(
    grown: dict[str, Any], other_disk: Path, tmp_path: Path
) -> None:
    here = grown["workspace"]
    away = Workspace(here.folder, other_disk / "store")
    said = away.dvc("repro", "--force", "--single-item", "precompute_pairs")
    assert "2 shards were copied, not linked" in said
    assert [receipt(away)[name] for name in ("computed", "kept")] == [0, FIRST + NEW]  # they came with the workspace
    assert {name: path.read_bytes() for name, path in view(away).items()} == {
        name: content for name, (*_, content) in grown["after"]["shards"].items()
    }
    assert "up to date" in here.dvc("status", "precompute_pairs")
