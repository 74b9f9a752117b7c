"""Many small shards made one, and shards sent elsewhere: the same pairs, and the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.cache import compute_table, read_table
from forcefoundry.pairs.digest import digest_of
from forcefoundry.pairs.store import filling
from forcefoundry.pairs.store.archive import restore_archive, write_archive
from forcefoundry.pairs.store.cleaning import remove, unused
from forcefoundry.pairs.store.merging import merge_small
from forcefoundry.pairs.store.shard import DamagedShardError
from forcefoundry.pairs.store.stats import stats
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at


def test_small_shards_are_merged_and_nothing_else_changes(tmp_path: Path) -> None:
    base = database(20)
    for row in range(17):
        filled(subset(base, [row, 19] if row % 2 else [row]), store_at(tmp_path))
    ours = subset(base, range(17))
    keys = keys_of(ours.columns)
    before = read_table(ours, store_at(tmp_path))
    old, digest = shards_in(tmp_path), digest_of(keys, CUTOFF)
    content = {path: path.read_bytes() for path in old}
    store = store_at(tmp_path)
    assert merge_small(store, keys[:16]) == []  # 16 are not many
    (made,) = merge_small(store, keys)
    assert store.shards_of(keys) == store_at(tmp_path).shards_of(keys) == [made]
    assert {path: path.read_bytes() for path in old} == content
    assert len(store.shard(made.name)) == 18
    assert same(read_table(ours, store_at(tmp_path)), before)
    assert same(before, compute_table(ours, CUTOFF))
    assert digest_of(keys, CUTOFF) == digest
    assert merge_small(store, keys) == []
    found = list(unused(tmp_path, {made.name}, least_age=0.0))
    assert sorted(one.path for one in found) == old
    remove(found)
    assert same(read_table(ours, store_at(tmp_path)), before)


def test_structures_that_stand_in_two_shards_are_merged_once(tmp_path: Path) -> None:
    """Two writers at once may both have computed some."""
    base = database(6)
    for name, rows in (("one", range(4)), ("other", range(2, 6))):
        filled(subset(base, rows), store_at(tmp_path / name))
    store = store_at(tmp_path / "one")
    store.adopt_folder(store_at(tmp_path / "other").folder)
    counted = stats(store)
    assert (counted.shards, counted.structures) == (2, 6)
    assert counted.pairs == compute_table(base, CUTOFF).n_pairs
    (made,) = merge_small(store, keys_of(base.columns), many=1)
    assert len(store.shard(made.name)) == 6
    assert same(read_table(base, store_at(tmp_path / "one")), compute_table(base, CUTOFF))
    assert stats(store).structures == 6
    assert stats(store).pairs == counted.pairs


def test_merged_shards_are_of_the_usual_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(24)
    for row in range(24):
        filled(subset(base, [row]), store_at(tmp_path))
    store = store_at(tmp_path)
    keys = keys_of(base.columns)
    codes = [len(store.shard(path.name).codes) for path in store.shards_of(keys)]
    monkeypatch.setattr(filling, "CODES_A_SHARD", 4 * max(codes))
    made = merge_small(store, keys)
    sizes = [len(store.shard(path.name).codes) for path in made]
    assert len(made) > 1
    assert max(sizes) <= 4 * max(codes)
    assert sum(sizes) == sum(codes)
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_an_archive_brings_the_same_bytes_back(tmp_path: Path) -> None:
    base = database(40, periodic=True)
    for rows in (range(25), range(25, 40)):
        filled(subset(base, rows), store_at(tmp_path / "here", 6.0))
    here = store_at(tmp_path / "here", 6.0)
    shards = here.shards_of(keys_of(base.columns))
    written = write_archive(shards, 6.0, tmp_path / "archive")
    assert written.shards == 2
    assert written.raw_bytes == sum(path.stat().st_size for path in shards)
    assert written.n_bytes == sum(path.stat().st_size for path in (tmp_path / "archive").glob("*.arrow"))
    assert written.n_bytes < written.raw_bytes / 2
    again = write_archive(shards, 6.0, tmp_path / "archive")  # over an older archive
    there, held = restore_archive(tmp_path / "there", tmp_path / "archive")
    assert written == again == held
    assert [path.read_bytes() for path in shards_in(there.folder)] == [path.read_bytes() for path in shards]
    assert filled(base, store_at(tmp_path / "there", 6.0)) == 0
    assert same(read_table(base, store_at(tmp_path / "there", 6.0)), compute_table(base, 6.0))


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    filled(database(4), store_at(tmp_path / "store"))
    shards = shards_in(tmp_path / "store")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="papers holds something that is no archive of pairs"):
        write_archive(shards, CUTOFF, tmp_path / "papers")
    with pytest.raises(FileNotFoundError, match=r"archive\.json"):
        restore_archive(tmp_path / "store", tmp_path / "papers")
    write_archive(shards, CUTOFF, tmp_path / "archive")
    (path,) = (tmp_path / "archive").glob("*.arrow")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    with pytest.raises(DamagedShardError, match="Take another copy of the archive"):
        restore_archive(tmp_path / "there", tmp_path / "archive")
    assert shards_in(tmp_path / "there") == []
    contents = tmp_path / "archive" / "archive.json"
    contents.write_text(json.dumps({**json.loads(contents.read_text()), "format": 2}))
    with pytest.raises(ValueError, match=r"holds pairs of format 2 by contract 1, expected 3 and 1"):
        restore_archive(tmp_path / "there", tmp_path / "archive")
