"""`python -m pipeline pairs gc`: what nobody refers to goes, and what somebody may refer to stays."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import yaml

from forcefoundry.pairs.cache import read_table
from forcefoundry.pairs.store.cleaning import YOUNG
from forcefoundry.pairs.store.folders import register_workspace
from pipeline.references import VIEW
from tests.builders import database, subset
from tests.pairs.store_room import filled, shards_in, store_at
from tests.pipeline.pairs_room import Room, typed

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is young any more."""
    monkeypatch.setattr("forcefoundry.pairs.store.cleaning.YOUNG", -1.0)
    assert YOUNG > 0


def grown(here: Room) -> list[set[str]]:
    """A data set of four versions, the second of them tagged; the shards that each version added."""
    base, added = database(12), []
    for version, n in enumerate((3, 6, 9, 12)):
        before = {path.name for path in shards_in(here.store)}
        here.use(subset(base, range(n - 3, n)))
        if version == 1:
            here.commit("paper")
        added.append({path.name for path in shards_in(here.store)} - before)
    return added


@pytest.mark.usefixtures("later")
def test_gc_keeps_what_views_and_commits_refer_to(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    first, paper, third, now = grown(here)
    shutil.rmtree(here.folder / ".dvc/cache/files/md5/00", ignore_errors=True)
    said = typed(capsys, "gc", "--dry-run")
    gone = first | third
    assert all(f"would go: shard {store_at(here.store).folder / name}" in said for name in gone)
    assert said.count("would go") == 2
    assert f"would be freed in {here.store}; 2 shards are referred to" in said
    assert len(shards_in(here.store)) == 4
    assert typed(capsys, "gc").count("removed: shard ") == 2
    assert {path.name for path in shards_in(here.store)} == paper | now
    assert "0 B freed" in typed(capsys, "gc")
    read_table(subset(database(12), range(9, 12)), store_at(here.store))


def test_gc_leaves_what_is_young(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, third, _ = grown(here)
    assert "would go" not in typed(capsys, "gc", "--dry-run")
    assert typed(capsys, "gc", "--force").count("removed: shard ") == len(first | third)


@pytest.mark.usefixtures("later")
def test_gc_keeps_everything_where_a_commit_cannot_be_known(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    grown(here)
    lock = subprocess.run(["git", "show", "paper:dvc.lock"], cwd=here.folder, capture_output=True, check=True).stdout
    md5 = yaml.safe_load(lock)["stages"]["precompute_pairs"]["outs"][0]["md5"]
    (here.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()
    said = typed(capsys, "gc", code=1)
    assert f"not known: dvc.lock of paper in {here.folder} refers to {VIEW} ({md5})" in said
    assert "`dvc fetch` there brings it" in said
    assert f"every shard of {here.store} is kept" in said
    assert len(shards_in(here.store)) == 4
    said = typed(capsys, "gc", "--force")
    assert f"passed over: dvc.lock of paper in {here.folder}" in said
    assert len(shards_in(here.store)) == 1


@pytest.mark.usefixtures("later")
def test_gc_asks_the_other_workspaces(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    base = database(9)
    there = Room(here.folder.parent / "there", here.store)
    there.folder.mkdir()
    there.use(subset(base, range(3)))
    here.use(subset(base, range(3, 9)))
    assert "removed" not in typed(capsys, "gc")
    shutil.rmtree(there.folder)
    assert f"workspace {there.folder} is gone and would be forgotten" in typed(capsys, "gc", "--dry-run")
    said = typed(capsys, "gc")
    assert f"workspace {there.folder} is gone and is forgotten" in said
    assert {path.name for path in shards_in(here.store)} == here.names()
    assert "forgotten" not in typed(capsys, "gc")


@pytest.mark.usefixtures("later")
def test_gc_does_not_take_another_machines_workspace_for_gone(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    filled(database(3), store_at(here.store))
    note = register_workspace(here.store, here.folder.parent / "far")
    note.write_text(json.dumps({"path": str(here.folder.parent / "far"), "host": "another"}))
    said = typed(capsys, "gc", code=1)
    assert "far is on another and cannot be seen from here. Run gc there." in said
    assert len(shards_in(here.store)) == 1
    assert note.exists()
    assert "removed: shard" in typed(capsys, "gc", "--force")
    assert not note.exists()


def test_gc_removes_old_formats_when_asked(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    here.use(database(3))
    (here.store / "v1").mkdir()
    (here.store / "v1" / "shard.arrow").write_bytes(bytes(2500))
    assert "older format" not in typed(capsys, "gc")
    said = typed(capsys, "gc", "--dry-run", "--old-formats")
    assert f"would go: older format {here.store / 'v1'} (2.5 kB)\n2.5 kB would be freed" in said
    assert f"removed: older format {here.store / 'v1'} (2.5 kB)\n2.5 kB freed" in typed(capsys, "gc", "--old-formats")
    assert not (here.store / "v1").exists()


def test_a_lock_file_that_cannot_be_read_keeps_everything(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """After a merge that nobody has mended, for instance."""
    (here.folder / "dvc.lock").write_text("<<<<<<< HEAD\nstages: {\n=======\n>>>>>>> other\n")
    assert "cannot be read as DVC's lock file" in typed(capsys, "gc", code=1)
    assert "shards verified" in typed(capsys, "verify")
