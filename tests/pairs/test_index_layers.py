"""The index grows in layers: what was written is not written again, and what is lost of it is made again."""

from __future__ import annotations

import logging
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.cache import compute_table, read_table
from forcefoundry.pairs.store.index import EMPTY, extended, make_index, stamp_of
from forcefoundry.pairs.store.index_files import read_index, write_index
from forcefoundry.pairs.store.shard import check_digest
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at
from tests.pairs.test_index import places


def files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """The index's files and how they look."""
    return {path.name: stamp_of(path) for path in folder.glob("index-*.arrow")}


@pytest.mark.parametrize("seed", range(6))
def test_an_index_that_grew_and_one_made_anew_are_the_same(tmp_path: Path, seed: int) -> None:
    """Also through files; some shards are empty, some keys begin alike, and some are in two shards."""
    rng = np.random.default_rng(seed)
    grown, parts = EMPTY, []
    for at in range(25):
        part = rng.integers(0, 256, (rng.integers(0, [3, 30, 300][at % 3]), 32), dtype=np.uint8)
        part[: len(part) // 3, :8] = 7
        if seed % 2 and parts and min(len(part), len(parts[-1])) > 1:
            part[-2:] = parts[-1][:2]
        parts.append(np.unique(part, axis=0))
        names, stamps = [f"{n:02}" for n in range(at + 1)], [(n, n, n) for n in range(at + 1)]
        grown = write_index(tmp_path, extended(grown, names[-1:], stamps[-1:], parts[-1:]))
        asked = np.concatenate([*parts, rng.integers(0, 256, (9, 32), dtype=np.uint8)])
        anew = places(make_index(names, stamps, parts), asked)
        assert places(grown, asked) == places(read_index(tmp_path), asked) == anew
        sizes = [len(layer) for layer in grown.layers]
        assert all(large >= 2 * small for large, small in pairwise(sizes))
        assert files(tmp_path).keys() == {layer.file for layer in grown.layers}
        assert sorted(zip(grown.names, grown.stamps, strict=True)) == list(zip(names, stamps, strict=True))
    for name, part in zip(names, parts, strict=True):
        np.testing.assert_array_equal(grown.keys[grown.rows_of(name)], part)
    assert len(grown.rows_of("another")) == 0


def test_what_is_new_goes_into_a_small_file_and_the_large_one_stays(tmp_path: Path) -> None:
    base = database(18)
    filled(subset(base, range(12)), store_at(tmp_path))
    folder = store_at(tmp_path).folder
    (large,) = files(folder).items()
    for last, layers in ((15, 2), (16, 3), (17, 2), (18, 3)):
        filled(subset(base, range(last)), store_at(tmp_path))
        assert len(files(folder)) == layers
        assert large in files(folder).items()
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert sum(len(layer) for layer in read_index(folder).layers) == 18


def test_layers_are_few_though_each_part_is_smaller_than_the_one_before() -> None:
    keys, grown = np.random.default_rng(0).integers(0, 256, (60 * 61 // 2, 32), dtype=np.uint8), EMPTY
    for n in range(60, 0, -1):
        part, keys = keys[:n], keys[n:]
        grown = extended(grown, [f"{n:02}"], [(n, n, n)], [part])
        assert len(grown.layers) <= len(grown.keys).bit_length()


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_of_a_layer_that_is_lost_only_its_shards_are_hashed_again(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = database(12)
    filled(subset(base, range(8)), store_at(tmp_path))
    folder = store_at(tmp_path).folder
    (old,) = (path.name for path in shards_in(tmp_path))
    filled(base, store_at(tmp_path))
    lost = folder / read_index(folder).layers[1].file
    content = bytearray(lost.read_bytes())
    lost.unlink()
    if how == "damaged":
        content[len(content) // 2] ^= 1
        lost.write_bytes(content)
    hashed: list[str] = []

    def check(path: Path) -> None:
        hashed.append(path.name)
        check_digest(path)

    monkeypatch.setattr("forcefoundry.pairs.store.store.check_digest", check)
    with caplog.at_level(logging.WARNING):
        assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert [name for name in hashed if name != old] == hashed
    assert len(hashed) == 1
    assert ("cannot be used" in caplog.text) == (how == "damaged")
    hashed.clear()
    assert filled(base, store_at(tmp_path)) == 0
    assert hashed == []


def test_a_process_whose_layers_were_removed_writes_them_again(tmp_path: Path) -> None:
    base = database(12)
    store = store_at(tmp_path)
    filled(subset(base, range(8)), store)
    for path in store.folder.glob("index-*.arrow"):
        path.unlink()
    filled(base, store)
    assert [len(layer) for layer in read_index(store.folder).layers] == [8, 4]


def test_layers_of_two_processes_go_together(tmp_path: Path) -> None:
    """Each has seen what was there before, and not what the other wrote; some structures both have computed."""
    base = database(24)
    filled(subset(base, range(12)), store_at(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "other", copy_function=shutil.copy2)
    filled(subset(base, range(18)), store_at(tmp_path / "one"))
    filled(subset(base, range(17, 24)), store_at(tmp_path / "other"))
    one, other = (store_at(tmp_path / name) for name in ("one", "other"))
    for path in other.folder.iterdir():
        if not (one.folder / path.name).exists():
            shutil.copy2(path, one.folder / path.name)
    found = store_at(tmp_path / "one")
    assert len(shards_in(tmp_path / "one")) == 3
    assert len(found.missing(keys_of(base.columns))) == 0
    assert same(read_table(base, found), compute_table(base, CUTOFF))
    assert filled(base, store_at(tmp_path / "one")) == 0


def test_of_two_files_that_name_one_shard_the_newer_counts(tmp_path: Path) -> None:
    """Half a removal: the old layers were to go, and the process was killed before."""
    keys = np.random.default_rng(0).integers(0, 256, (30, 32), dtype=np.uint8)
    parts, stamps = [keys[:20], keys[20:]], [(1, 1, 1), (2, 2, 2)]
    old = write_index(tmp_path, extended(make_index(["a"], stamps[:1], parts[:1]), ["b"], stamps[1:], parts[1:]))
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == len(old.layers) == 2
    new = write_index(tmp_path, make_index(["a", "b"], [(3, 3, 3), (4, 4, 4)], parts))
    (path,) = tmp_path.iterdir()
    for at, (other, content) in enumerate(kept.items()):
        other.write_bytes(content)
        before = path.stat().st_mtime_ns - 10**9 * (at + 1)
        os.utime(other, ns=(before, before))
    found = read_index(tmp_path)
    assert (found.names, found.stamps) == (new.names, new.stamps)
    write_index(tmp_path, found)
    assert list(tmp_path.iterdir()) == [path]


def test_no_flipped_bit_of_an_index_is_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    right = write_index(tmp_path, make_index(["a", "b"], [(1, 1, 1), (2, 2, 2)], [keys[:30], keys[30:]]))
    (path,) = tmp_path.iterdir()
    content, refused = path.read_bytes(), 0
    for at in rng.permutation(8 * len(content))[:2500]:
        bent = bytearray(content)
        bent[at // 8] ^= 1 << at % 8
        path.unlink(missing_ok=True)
        path.write_bytes(bent)
        found = read_index(tmp_path)
        refused += not found.layers
        if found.layers:
            assert (found.names, found.stamps) == (right.names, right.stamps)
            assert places(found, keys) == places(right, keys)
    assert refused > 1500
    assert caplog.text.count("cannot be used") == refused
