"""What a store sheds: unused shards, drafts of dead processes, folders of older formats; and what it refuses."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.cache import compute_table, fill_cache, read_table
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.store.cleaning import YOUNG, remove, unused
from forcefoundry.pairs.store.folders import old_formats, register_workspace
from forcefoundry.pairs.store.shard import write_shard
from forcefoundry.pairs.store.stats import stats
from forcefoundry.pairs.store.workspaces import registered
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at


def aged(path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = 2 * YOUNG) -> None:
    """Let it be later, for whoever asks in `cleaning`: the time of a change of an inode cannot be set."""
    now = time.time()
    monkeypatch.setattr("forcefoundry.pairs.store.cleaning.time.time", lambda: now + seconds)


def test_unused_shards_go_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(9)
    for rows in (range(3), range(3, 6), range(6, 9)):
        filled(subset(base, rows), store_at(tmp_path))
    filled(base, store_at(tmp_path, 2.5))
    ours = subset(base, range(3, 6))
    kept = {path.name for path in store_at(tmp_path).shards_of(keys_of(ours.columns))}
    assert list(unused(tmp_path, kept)) == []  # they are young
    aged(tmp_path, monkeypatch)
    found = list(unused(tmp_path, kept))
    assert {one.path for one in found} == {path for path in shards_in(tmp_path) if path.name not in kept}
    assert {one.what for one in found} == {"shard"}
    sizes = sum(one.path.stat().st_size for one in found)
    assert remove(found) == (sizes, [])
    assert remove(found) == (0, [])
    assert [path.name for path in shards_in(tmp_path)] == list(kept)
    assert same(read_table(ours, store_at(tmp_path)), compute_table(ours, CUTOFF))
    assert filled(base, store_at(tmp_path)) == 6
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_what_has_another_name_on_disk_frees_nothing(tmp_path: Path) -> None:
    filled(database(3), store_at(tmp_path / "store"))
    (path,) = shards_in(tmp_path / "store")
    os.link(path, tmp_path / "dvc")
    (one,) = unused(tmp_path / "store", (), least_age=0.0)
    assert one.linked
    assert remove([one]) == (0, [])
    assert (tmp_path / "dvc").exists()


def test_a_shard_that_was_linked_a_moment_ago_is_young(tmp_path: Path) -> None:
    """Its bytes may be old: they came by adoption."""
    filled(database(3), store_at(tmp_path / "store"))
    (path,) = shards_in(tmp_path / "store")
    os.utime(path, (0, 0))
    assert list(unused(tmp_path / "store", ())) == []


def test_drafts_of_dead_processes_go_once_they_are_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(tmp_path)
    filled(database(3), store)
    draft = store.folder / ".draft.abc"
    draft.mkdir()
    (draft / "draft").write_bytes(b"half a shard")
    filled(database(4), store_at(tmp_path))
    assert draft.exists()
    kept = {path.name for path in shards_in(tmp_path)}
    assert list(unused(tmp_path, kept, least_age=0.0)) == []  # by force too: somebody may be writing it
    aged(tmp_path, monkeypatch)
    assert [(one.path, one.what, one.n_bytes) for one in unused(tmp_path, kept)] == [(draft, "draft", 12)]
    filled(database(4), store_at(tmp_path))
    assert not draft.exists()
    assert {path.name for path in shards_in(tmp_path)} == kept


@pytest.mark.parametrize("name", ["v1", "pairs-1", "pairs-2", "pairs-3/contract-0", "pairs-4"])
def test_an_older_format_is_said_and_left_alone(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    base = database(4)
    filled(base, store_at(tmp_path / "other"))
    old = tmp_path / "store" / name / "contract-1" / f"cutoff-{CUTOFF.hex()}"
    shutil.copytree(store_at(tmp_path / "other").folder, old)
    with caplog.at_level(logging.WARNING):
        store = store_at(tmp_path / "store")
        assert len(store.missing(keys_of(base.columns))) == 4
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path / 'store' / name} holds pairs of another format")
    assert "pairs gc --old-formats` removes them" in said
    before = sorted(old.rglob("*"))
    assert filled(base, store_at(tmp_path / "store")) == 4
    assert sorted(old.rglob("*")) == before
    kept = {path.name for path in shards_in(store.folder)}
    assert list(unused(tmp_path / "store", kept)) == []
    (one,) = unused(tmp_path / "store", kept, formats=True)
    assert one.path == tmp_path / "store" / name
    assert remove([one])[0] == one.n_bytes > 0
    assert old_formats(tmp_path / "store") == []
    assert same(read_table(base, store_at(tmp_path / "store")), compute_table(base, CUTOFF))


def test_workspaces_are_noted_once_and_a_broken_note_is_told(tmp_path: Path) -> None:
    for name in ("b", "a", "b"):
        register_workspace(tmp_path / "store", tmp_path / name)
    assert [one.folder for one in registered(tmp_path / "store")] == [tmp_path / "a", tmp_path / "b"]
    assert all(one.is_here for one in registered(tmp_path / "store"))
    note = registered(tmp_path / "store")[0].note
    note.write_text('{"path": ')
    with pytest.raises(ValueError, match=rf"{note.name} cannot be read.*Remove it"):
        registered(tmp_path / "store")


def test_a_shard_that_is_removed_under_a_reader_is_told(tmp_path: Path) -> None:
    base = database(4)
    filled(base, store_at(tmp_path))
    store = store_at(tmp_path)
    assert len(store.missing(keys_of(base.columns))) == 0
    (path,) = shards_in(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{path.name} was removed while it was in use .*Start again"):
        read_table(base, store)
    assert filled(base, store_at(tmp_path)) == 4


@pytest.mark.parametrize("too_many", ["codes", "wide", "counts"])
def test_what_32_bits_cannot_count_is_refused_by_arithmetic(tmp_path: Path, too_many: str) -> None:
    """Nothing is allocated: the arrays repeat one number."""

    def repeated(n: int, kind: str, *shape: int) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype=kind), (n, *shape))

    n = 2**29 if too_many == "wide" else 2**31
    few = {"codes": repeated(1, "u4"), "wide": repeated(1, "i4", 4), "counts": repeated(1, "i4")}
    many = {"codes": repeated(n, "u4"), "wide": repeated(n, "i4", 4), "counts": repeated(n, "i4")}
    parts = {**few, too_many: many[too_many]}
    ends = {name: np.array([0, len(part)]) for name, part in parts.items()}
    half = HalfPairs(ends["counts"], parts["counts"], ends["codes"], parts["codes"], ends["wide"], parts["wide"])
    with pytest.raises(ValueError, match=r"expected fewer than 2\^31 of each. Write fewer structures at once"):
        write_shard(tmp_path, CUTOFF, np.zeros((1, 32), np.uint8), half)
    assert list(tmp_path.iterdir()) == []


def test_pairs_of_a_structure_are_counted_in_64_bits(tmp_path: Path) -> None:
    """A fill that stops at one shard goes on in the next, so no number of pairs is too many for the store."""
    base = database(12)
    done: list[int] = []
    fill_cache(base, store_at(tmp_path), progress=lambda structures, pairs: done.append(pairs))
    assert sum(done) == stats(store_at(tmp_path)).pairs == compute_table(base, CUTOFF).n_pairs
