"""The precompute_pairs step: what it leaves, what it does not compute twice, and where it can keep it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.databases.mapped import MappedColumns
from forcefoundry.files import read_json
from forcefoundry.pairs.cache import compute_table
from forcefoundry.pairs.digest import digest_of
from forcefoundry.pairs.store.view import read_manifest
from pipeline.steps import precompute_pairs
from pipeline.steps.workspace import LOAD, OWN_STORE, PAIRS, kept_pairs, store_root
from tests.builders import database, subset, tree_bytes
from tests.pairs.store_room import CUTOFF, same, shards_in


def params(source: str = "cache", finder: str = "reference", cutoff: float = CUTOFF) -> dict[str, Any]:
    """Parameters of the step."""
    return {
        "pairs": {"finder": finder, "source": source, "cutoff": cutoff},
        "hardware": {"device": "cpu", "threads": 1},
    }


def receipt() -> dict[str, Any]:
    """What the step says that it did."""
    return dict(read_json(PAIRS / "receipt.json"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, which this process works in, and the folder of the machine's pairs."""
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("FORCEFOUNDRY_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def test_what_the_step_leaves(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(20)
    base.save(LOAD / "columns")

    def refuse(*_: object) -> None:
        raise AssertionError("the columns were loaded as a whole")

    monkeypatch.setattr(MappedColumns, "__getitem__", refuse)
    precompute_pairs.run(params())
    table = compute_table(base, CUTOFF)
    assert read_json(PAIRS / "digest.json") == {
        "source": "cache",
        "digest": digest_of(keys_of(base.columns), CUTOFF),
        "cutoff": CUTOFF,
        "contract": 1,
        "n_structures": 20,
        "n_pairs": table.n_pairs,
    }
    done = receipt()
    assert [done[name] for name in ("computed", "kept", "computed_pairs")] == [20, 0, table.n_pairs]
    (shard,) = shards_in(store)
    (link,) = shards_in(PAIRS)
    assert link.samefile(shard)
    assert done["bytes"] == shard.stat().st_size
    assert read_manifest(PAIRS / "shards")["shards"] == [{"name": shard.name, "bytes": done["bytes"], "structures": 20}]
    assert same(kept_pairs(base, CUTOFF), table)
    (note,) = (store / "workspaces").iterdir()
    assert read_json(note) == {"path": str(Path.cwd()), "host": socket.gethostname()}


def test_only_what_is_new_is_computed(store: Path) -> None:
    base = database(30)
    subset(base, [*range(25), 3]).save(LOAD / "columns")
    precompute_pairs.run(params())
    assert (receipt()["computed"], receipt()["kept"]) == (25, 0)
    before = tree_bytes(PAIRS / "shards")
    base.save(LOAD / "columns")
    precompute_pairs.run(params(finder="cpu"))
    assert (receipt()["computed"], receipt()["kept"]) == (5, 25)
    after = tree_bytes(PAIRS / "shards")
    assert {name: after[name] for name in before if name != "manifest.json"}.items() < after.items()
    assert len(after) == len(before) + 1
    precompute_pairs.run(params())
    assert (receipt()["computed"], receipt()["kept"], receipt()["computed_pairs"]) == (0, 30, 0)
    assert tree_bytes(PAIRS / "shards") == after


def test_two_data_sets_share_what_they_share(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two workspaces of one machine: what both have is computed once and lies on the disk once."""
    base = database(20)
    subset(base, range(12)).save(LOAD / "columns")
    precompute_pairs.run(params())
    mine = {path.name: path.resolve() for path in shards_in(PAIRS)}
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    theirs = subset(base, [19, *range(8, 19), 3])
    theirs.save(LOAD / "columns")
    precompute_pairs.run(params())
    assert (receipt()["computed"], receipt()["kept"]) == (8, 5)
    both = {path.name: path for path in shards_in(PAIRS)}
    assert set(both) == {path.name for path in shards_in(store)}
    assert all(both[name].samefile(path) for name, path in mine.items())
    assert same(kept_pairs(theirs, CUTOFF), compute_table(theirs, CUTOFF))
    assert len(list((store / "workspaces").iterdir())) == 2


def test_many_small_shards_of_a_set_that_grew_bit_by_bit_become_one(store: Path) -> None:
    base = database(19)
    for n in range(1, 18):
        subset(base, range(n)).save(LOAD / "columns")
        precompute_pairs.run(params())
        assert (receipt()["computed"], receipt()["kept"]) == (1, n - 1)
        assert len(shards_in(PAIRS)) == (n if n < 17 else 1)
    assert len(shards_in(store)) == 18  # the old ones stay for who refers to them, until `gc`
    grown = (PAIRS / "digest.json").read_bytes()
    shutil.rmtree(store)
    shutil.rmtree(PAIRS)
    precompute_pairs.run(params())
    assert receipt()["computed"] == 17
    assert (PAIRS / "digest.json").read_bytes() == grown


def test_where_links_cannot_be_had_shards_are_copied_and_that_is_said(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    base = database(6)
    base.save(LOAD / "columns")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    precompute_pairs.run(params())
    (shard,), (copy,) = shards_in(store), shards_in(PAIRS)
    assert not copy.samefile(shard)
    assert copy.read_bytes() == shard.read_bytes()
    (said,) = [text for text in caplog.messages if "copied, not linked" in text]
    assert said.startswith(f"no hard links can be made into the store {store} (another file system, or another user's ")
    assert said.endswith("files): 1 shards were copied, not linked")
    assert same(kept_pairs(base, CUTOFF), compute_table(base, CUTOFF))


def test_on_the_fly_nothing_is_computed_and_what_was_stays(store: Path) -> None:
    database(6).save(LOAD / "columns")
    precompute_pairs.run(params())
    precompute_pairs.run(params(source="on_the_fly"))
    assert (receipt()["computed"], receipt()["kept"], receipt()["bytes"]) == (0, 0, 0)
    assert read_json(PAIRS / "digest.json")["n_structures"] == 0
    assert not shards_in(PAIRS)
    precompute_pairs.run(params())
    assert (receipt()["computed"], receipt()["kept"]) == (0, 6)
    with pytest.raises(ValueError, match=r"pairs\.source is 'disk', expected cache or on_the_fly"):
        precompute_pairs.run(params(source="disk"))


def test_pairs_that_left_the_store_come_back_from_the_workspace(store: Path) -> None:
    base = database(10)
    base.save(LOAD / "columns")
    precompute_pairs.run(params())
    shutil.rmtree(store)
    assert same(kept_pairs(base, CUTOFF), compute_table(base, CUTOFF))
    (shard,), (link,) = shards_in(store), shards_in(PAIRS)
    assert link.samefile(shard)
    shutil.rmtree(store)
    precompute_pairs.run(params())
    assert (receipt()["computed"], receipt()["kept"]) == (0, 10)
    shutil.rmtree(PAIRS / "shards")
    shutil.rmtree(store)
    with pytest.raises(ValueError, match=r"The pair cache lacks 10 of 10 structures.*Run precompute_pairs again"):
        kept_pairs(base, CUTOFF)


@pytest.fixture
def read_only(store: Path) -> Iterator[Path]:
    """A store with the first eight structures of twelve, on which nothing can be written any more."""
    base = database(12)
    subset(base, range(8)).save(LOAD / "columns")
    store.mkdir()
    root = os.geteuid() == 0
    if root and subprocess.run(["mount", "-t", "tmpfs", "none", str(store)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        precompute_pairs.run(params())
        shutil.rmtree(PAIRS)
        base.save(LOAD / "columns")
        if root:
            subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
        else:
            subprocess.run(["chmod", "-R", "a-w", str(store)], check=True)
        yield store
    finally:
        if root:
            subprocess.run(["umount", "-l", str(store)], check=True)
        else:
            subprocess.run(["chmod", "-R", "u+w", str(store)], check=True)


def test_a_store_that_cannot_be_written(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    base, before = database(12), tree_bytes(read_only)
    precompute_pairs.run(params())
    assert f"the pair store {read_only} cannot be written: this workspace keeps its pairs in {OWN_STORE}" in caplog.text
    assert (receipt()["computed"], receipt()["kept"]) == (4, 8)
    assert {path.name for path in shards_in(OWN_STORE)} == {path.name for path in shards_in(PAIRS)}
    for shard in shards_in(OWN_STORE):
        assert any(link.samefile(shard) for link in shards_in(PAIRS))
    shutil.rmtree(OWN_STORE)  # as after `dvc pull`
    caplog.clear()
    assert same(kept_pairs(base, CUTOFF), compute_table(base, CUTOFF))
    assert "cannot be written" in caplog.text
    assert tree_bytes(read_only) == before


def test_what_is_in_a_store_that_cannot_be_written_is_read_there(read_only: Path) -> None:
    held = subset(database(12), range(8))
    assert same(kept_pairs(held, CUTOFF), compute_table(held, CUTOFF))
    assert not OWN_STORE.exists()


def test_without_a_terminal_a_line_now_and_then(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with precompute_pairs._Progress(100, every=0.0) as progress:
        progress(25, 1000)
        progress(75, 3000)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0] for line in said] == ["pairs: 25 of 100 structures", "pairs: 100 of 100 structures"]
    assert all("million pairs/s, about" in line for line in said)
    caplog.clear()
    with precompute_pairs._Progress(100, every=1e9) as progress:
        progress(25, 1000)
    assert not caplog.records


def test_errors_name_the_structure_and_keep_what_was_found(store: Path) -> None:
    base = database(10)
    positions = base.columns["positions"].copy()
    positions[base.offsets[7]] = positions[base.offsets[7] + 1]
    Database({**base.columns, "positions": positions}, base.splits).save(LOAD / "columns")
    with pytest.raises(ValueError, match="Structure 7 of the database: atoms 0 and 1 lie in one place"):
        precompute_pairs.run(params())
    assert not PAIRS.exists()


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("FORCEFOUNDRY_STORE", "~/pairs")
    assert store_root() == Path("/home/somebody/pairs")
    monkeypatch.setenv("FORCEFOUNDRY_STORE", "pairs")
    assert store_root() == tmp_path / "pairs"  # absolute: the same wherever a step is started
    monkeypatch.delenv("FORCEFOUNDRY_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert store_root() == Path("/caches/forcefoundry/pairs")
