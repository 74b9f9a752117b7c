"""The pair store: what comes out is what was found, whatever its history, and damage is told."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs import BruteFinder, Pairs, PairStore, PairTable, store_folder
from forcefoundry.pairs import store as store_module
from forcefoundry.pairs.cache import compute_table, digest_of, fill_cache, read_table
from forcefoundry.pairs.store import link_or_copy
from tests.builders import database, subset

CUTOFF = 3.2


def store_at(root: Path, cutoff: float = CUTOFF) -> PairStore:
    """A store opened anew, as another process would."""
    return PairStore(store_folder(root, cutoff), cutoff)


def same(left: PairTable, right: PairTable) -> bool:
    """Whether two tables are equal to the last number and type."""
    arrays = [(getattr(left, name), getattr(right, name)) for name in ("offsets", "i", "j", "S")]
    return left.cutoff == right.cutoff and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


def test_round_trip_equals_pairs_on_the_fly(tmp_path: Path) -> None:
    base = database(15)
    assert fill_cache(base, store_at(tmp_path)) == 15
    table = read_table(base, store_at(tmp_path))
    assert same(table, compute_table(base, CUTOFF))
    rows = np.array([4, 1, 9, 4])
    first = np.concatenate([[0], np.cumsum(base.columns["n_atoms"][rows])])
    at = table.batch(rows, first[:-1])
    atoms = np.concatenate([np.arange(base.offsets[row], base.offsets[row + 1]) for row in rows])
    fresh = BruteFinder()(
        base.columns["positions"][atoms], base.columns["cell"][rows], base.columns["pbc"][rows], CUTOFF, first
    )
    for name in ("i", "j", "S"):
        np.testing.assert_array_equal(getattr(at, name), getattr(fresh, name))


def test_a_second_fill_computes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    base = database(6)
    fill_cache(base, store_at(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    def refuse(*_: object) -> Pairs:
        raise AssertionError("a pair was computed")

    assert fill_cache(base, store_at(tmp_path), refuse) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_structures_that_are_there_twice_are_kept_once(tmp_path: Path) -> None:
    base = subset(database(4), [0, 1, 0, 2, 1])
    assert fill_cache(base, store_at(tmp_path)) == 3
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


@pytest.mark.parametrize("what", ["positions", "cell", "pbc"])
def test_whatever_changes_is_not_found_stale(tmp_path: Path, what: str) -> None:
    base = database(4, periodic=True)
    fill_cache(base, store_at(tmp_path))
    values = base.columns[what].copy()
    if what == "pbc":
        values[2, 1] = False
    elif what == "cell":
        values[2, 0, 0] = np.nextafter(values[2, 0, 0], np.inf)
    else:
        atom = int(base.offsets[2])
        values[atom, 1] = np.nextafter(values[atom, 1], np.inf)
    changed = Database({**base.columns, what: values}, base.splits)
    with pytest.raises(ValueError, match=r"lacks 1 of 4 structures \(the first is structure 2\).*Run precompute_pairs"):
        read_table(changed, store_at(tmp_path))
    assert fill_cache(changed, store_at(tmp_path)) == 1
    assert same(read_table(changed, store_at(tmp_path)), compute_table(changed, CUTOFF))


def test_another_cutoff_is_another_folder_to_the_last_bit(tmp_path: Path) -> None:
    base = database(3)
    fill_cache(base, store_at(tmp_path))
    near = float(np.nextafter(CUTOFF, np.inf))
    assert store_folder(tmp_path, near) != store_folder(tmp_path, CUTOFF)
    assert len(store_at(tmp_path, near).missing(keys_of(base.columns))) == 3
    assert digest_of(keys_of(base.columns), near) != digest_of(keys_of(base.columns), CUTOFF)


def test_shards_of_another_cutoff_are_neither_read_nor_adopted(tmp_path: Path) -> None:
    """A workspace still holds the shards of its last cutoff when the pairs of the next one are computed."""
    base = database(5)
    old = store_at(tmp_path / "store", 2.1)
    fill_cache(base, old)
    view = tmp_path / "view"
    shutil.copytree(old.folder, view)
    store = store_at(tmp_path / "store", CUTOFF)
    assert store.adopt(view) == 0
    assert fill_cache(base, store) == 5
    assert same(read_table(base, store), compute_table(base, CUTOFF))
    with pytest.raises(ValueError, match="lacks 5 of 5 structures"):
        read_table(base, PairStore(view, CUTOFF))


def test_history_changes_neither_digest_nor_tables(tmp_path: Path) -> None:
    base = database(10)
    fill_cache(base, store_at(tmp_path / "at_once"))
    for part in ([7, 3], [3, 9, 0], [1, 2]):
        fill_cache(subset(base, part), store_at(tmp_path / "bit_by_bit"))
    fill_cache(base, store_at(tmp_path / "bit_by_bit"))
    stores = [store_at(tmp_path / name) for name in ("at_once", "bit_by_bit")]
    keys = keys_of(base.columns)
    assert [len(store.shards_of(keys)) for store in stores] == [1, 4]
    assert same(*(read_table(base, store) for store in stores))
    assert digest_of(keys, CUTOFF) == digest_of([*reversed(keys), keys[0]], CUTOFF)
    assert digest_of(keys, CUTOFF) != digest_of(keys[1:], CUTOFF)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    base = database(5)
    names = []
    for name in ("one", "other"):
        fill_cache(base, store_at(tmp_path / name))
        names.append([path.name for path in sorted((tmp_path / name).rglob("*.arrow"))])
    assert names[0] == names[1]
    assert len(names[0]) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    base = database(4)
    fill_cache(base, store_at(tmp_path))
    (shard,) = tmp_path.rglob("*.arrow")
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    shard.unlink()
    shard.write_bytes({"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b""}[damage])
    with pytest.raises(ValueError, match=f"{shard.name} is damaged.*Delete it"):
        read_table(base, store_at(tmp_path))
    with pytest.raises(ValueError, match=f"{shard.name} is damaged"):
        store_at(tmp_path / "elsewhere").adopt(shard.parent)
    assert not list((tmp_path / "elsewhere").rglob("*.arrow"))
    shard.unlink()  # the remedy that the message names
    assert fill_cache(base, store_at(tmp_path)) == 4
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_a_workspace_brings_its_pairs_to_an_empty_machine(tmp_path: Path) -> None:
    base = database(6)
    here = store_at(tmp_path / "here")
    fill_cache(subset(base, [0, 1, 2]), here)
    fill_cache(base, here)
    view = tmp_path / "view"
    view.mkdir()
    for shard in here.shards_of(keys_of(base.columns)):
        link_or_copy(shard, view / shard.name)
    there = store_at(tmp_path / "there")
    assert there.where() == {}
    assert there.adopt(view) == 2
    assert there.adopt(view) == 0
    assert fill_cache(base, there) == 0
    assert same(read_table(base, there), compute_table(base, CUTOFF))
    assert same(read_table(base, PairStore(view, CUTOFF)), compute_table(base, CUTOFF))


def test_linked_where_possible_and_copied_where_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"pairs")
    assert link_or_copy(source, tmp_path / "linked")
    assert (tmp_path / "linked").stat().st_ino == source.stat().st_ino

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert not link_or_copy(source, tmp_path / "copied")
    assert (tmp_path / "copied").stat().st_ino != source.stat().st_ino
    assert (tmp_path / "copied").read_bytes() == b"pairs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied", "linked", "source"]


def test_an_interrupted_fill_leaves_a_right_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(8)
    monkeypatch.setattr(store_module, "_PAIRS_A_SHARD", 1)  # a shard a structure

    def interrupted(todo: Iterable[int]) -> Iterator[int]:
        for done, at in enumerate(todo):
            if done == 5:
                raise KeyboardInterrupt
            yield at

    with pytest.raises(KeyboardInterrupt):
        fill_cache(base, store_at(tmp_path), progress=interrupted)
    held = store_at(tmp_path).where()
    assert 0 < len(held) <= 5
    truth = compute_table(base, CUTOFF)
    for at, key in enumerate(keys_of(base.columns)):
        if key in held:
            found = store_at(tmp_path).read(key)
            np.testing.assert_array_equal(found.i, truth.i[truth.offsets[at] : truth.offsets[at + 1]])
            np.testing.assert_array_equal(found.S, truth.S[truth.offsets[at] : truth.offsets[at + 1]])
    assert fill_cache(base, store_at(tmp_path)) == 8 - len(held)
    assert same(read_table(base, store_at(tmp_path)), truth)
    assert all(path.suffix == ".arrow" for path in store_folder(tmp_path, CUTOFF).iterdir())


def test_an_interruption_while_a_shard_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(3)
    real = os.replace

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill_cache(base, store_at(tmp_path))
    monkeypatch.setattr(os, "replace", real)
    assert list(store_folder(tmp_path, CUTOFF).iterdir()) == []
    assert fill_cache(base, store_at(tmp_path)) == 3


def _fill(root: Path, part: list[int]) -> None:
    fill_cache(subset(database(24), part), store_at(root))


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    parts = [list(range(16)), list(range(8, 24))]
    workers = [context.Process(target=_fill, args=(tmp_path, part)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    base = database(24)
    assert fill_cache(base, store_at(tmp_path)) == 0
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert all(path.suffix == ".arrow" for path in store_folder(tmp_path, CUTOFF).iterdir())


def test_finding_fails_with_the_structure_named(tmp_path: Path) -> None:
    base = database(4)
    positions = base.columns["positions"].copy()
    positions[base.offsets[2]] = positions[base.offsets[2] + 1]
    broken = Database({**base.columns, "positions": positions}, base.splits)
    with pytest.raises(ValueError, match="Structure 2 of the database: atoms 0 and 1 lie in one place"):
        fill_cache(broken, store_at(tmp_path))
    assert not list(tmp_path.rglob("*.arrow"))


def test_structures_without_pairs_are_kept_too(tmp_path: Path) -> None:
    base = database(3)
    lonely = 1e-3
    assert fill_cache(base, store_at(tmp_path, lonely)) == 3
    assert fill_cache(base, store_at(tmp_path, lonely)) == 0
    table = read_table(base, store_at(tmp_path, lonely))
    assert table.n_pairs == 0
    assert same(table, compute_table(base, lonely))
    assert table.batch(np.arange(3), np.zeros(3, dtype=np.int64)).S.shape == (0, 3)


def test_many_images_survive_the_store(tmp_path: Path) -> None:
    """Atoms unwrapped by hundreds of cells need shifts beyond one byte."""
    base = database(2, periodic=True)
    positions = base.columns["positions"].copy()
    positions[0] += 300 * base.columns["cell"][0, 1] - 700 * base.columns["cell"][0, 2]
    far = Database({**base.columns, "positions": positions}, base.splits)
    fill_cache(far, store_at(tmp_path))
    table = read_table(far, store_at(tmp_path))
    assert np.abs(table.S).max() >= 700
    assert same(table, compute_table(far, CUTOFF))
