"""The pair store: what comes out is what was found, whatever its history, and damage is told."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs import Pairs, ReferenceFinder, store_folder
from forcefoundry.pairs.cache import compute_table, fill_cache, read_table
from forcefoundry.pairs.digest import digest_of
from forcefoundry.pairs.packing import half_of
from forcefoundry.pairs.store import filling, link_or_copy
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at


def test_round_trip_equals_pairs_on_the_fly(tmp_path: Path) -> None:
    base = database(15)
    assert filled(base, store_at(tmp_path)) == 15
    table = read_table(base, store_at(tmp_path))
    assert same(table, compute_table(base, CUTOFF))
    rows = np.array([4, 1, 9, 4])
    first = np.concatenate([[0], np.cumsum(base.columns["n_atoms"][rows])])
    at = table.batch(rows, first[:-1])
    atoms = np.concatenate([np.arange(base.offsets[row], base.offsets[row + 1]) for row in rows])
    fresh = ReferenceFinder()(
        base.columns["positions"][atoms], base.columns["cell"][rows], base.columns["pbc"][rows], CUTOFF, first
    )
    for name in ("i", "j", "S"):
        np.testing.assert_array_equal(getattr(at, name), getattr(fresh, name))


def test_a_second_fill_computes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    base = database(6)
    filled(base, store_at(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    def refuse(*_: object) -> Pairs:
        raise AssertionError("a pair was computed")

    assert fill_cache(base, store_at(tmp_path), refuse).structures == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_pairs_are_counted_over_all_shards_and_what_is_absent_is_told(tmp_path: Path) -> None:
    base = database(12)
    for rows in ([7, 2], [2, 5, 0, 11]):
        filled(subset(base, rows), store_at(tmp_path))
    held = subset(base, [11, 7, 0, 7])
    assert store_at(tmp_path).n_pairs(keys_of(held.columns)) == read_table(held, store_at(tmp_path)).n_pairs
    assert store_at(tmp_path).n_pairs(keys_of(held.columns)[:0]) == 0
    with pytest.raises(ValueError, match=r"lacks 1 of 3 structures \(the first is structure 1\)"):
        store_at(tmp_path).n_pairs(keys_of(subset(base, [7, 1, 2]).columns))


def test_structures_that_are_there_twice_are_kept_once(tmp_path: Path) -> None:
    base = subset(database(4), [0, 1, 0, 2, 1])
    assert filled(base, store_at(tmp_path)) == 3
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


@pytest.mark.parametrize("what", ["positions", "cell", "pbc"])
def test_whatever_changes_is_not_found_stale(tmp_path: Path, what: str) -> None:
    base = database(4, periodic=True)
    filled(base, store_at(tmp_path))
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
    assert filled(changed, store_at(tmp_path)) == 1
    assert same(read_table(changed, store_at(tmp_path)), compute_table(changed, CUTOFF))


def test_another_cutoff_is_another_folder_to_the_last_bit(tmp_path: Path) -> None:
    base = database(3)
    filled(base, store_at(tmp_path))
    near = float(np.nextafter(CUTOFF, np.inf))
    assert store_folder(tmp_path, near) != store_folder(tmp_path, CUTOFF)
    assert len(store_at(tmp_path, near).missing(keys_of(base.columns))) == 3
    assert digest_of(keys_of(base.columns), near) != digest_of(keys_of(base.columns), CUTOFF)


def test_shards_of_another_cutoff_are_neither_read_nor_adopted(tmp_path: Path) -> None:
    """A workspace still holds the shards of its last cutoff when the pairs of the next one are computed."""
    base = database(5)
    old = store_at(tmp_path / "store", 2.1)
    filled(base, old)
    view = tmp_path / "view"
    shutil.copytree(old.folder, view)
    store = store_at(tmp_path / "store", CUTOFF)
    assert store.adopt_folder(view) == 0
    assert filled(base, store) == 5
    assert same(read_table(base, store), compute_table(base, CUTOFF))


def test_history_changes_neither_digest_nor_tables(tmp_path: Path) -> None:
    base = database(10)
    filled(base, store_at(tmp_path / "at_once"))
    for part in ([7, 3], [3, 9, 0], [1, 2]):
        filled(subset(base, part), store_at(tmp_path / "bit_by_bit"))
    filled(base, store_at(tmp_path / "bit_by_bit"))
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
        filled(base, store_at(tmp_path / name))
        names.append([path.name for path in shards_in(tmp_path / name)])
    assert names[0] == names[1]
    assert len(names[0]) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    base = database(4)
    filled(base, store_at(tmp_path))
    (shard,) = shards_in(tmp_path)
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    shard.unlink()
    shard.write_bytes({"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b""}[damage])
    with pytest.raises(ValueError, match=f"{shard.name} is damaged.*pairs repair"):
        read_table(base, store_at(tmp_path))
    with pytest.raises(ValueError, match=f"{shard.name} is damaged"):
        store_at(tmp_path / "elsewhere").adopt_folder(shard.parent)
    assert not shards_in(tmp_path / "elsewhere")
    shard.unlink()  # then it is computed anew
    assert filled(base, store_at(tmp_path)) == 4
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_a_shard_is_known_to_be_right_only_by_who_wrote_it_and_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = database(4)
    keys = keys_of(base.columns)
    half = half_of(ReferenceFinder(), *base.take(np.arange(4))[:3], CUTOFF, base.offsets)

    def refuse(*_: object) -> None:
        raise AssertionError("bytes were hashed")

    writer = store_at(tmp_path / "one")
    path = writer.write(keys, half)
    assert path is not None
    with monkeypatch.context() as patch:
        patch.setattr("forcefoundry.pairs.store.store.check_digest", refuse)
        assert len(writer.missing(keys)) == 0  # these very bytes made its name
        for index in writer.folder.glob("index-*"):
            index.unlink()
        with pytest.raises(AssertionError, match="were hashed"):
            store_at(tmp_path / "one").missing(keys)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        writer.refresh()  # changed since it was written
    other = store_at(tmp_path / "one")
    assert other.write(keys, half) == path  # it is there already, so nothing is written
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        other.missing(keys)


def test_a_workspace_brings_its_pairs_to_an_empty_machine(tmp_path: Path) -> None:
    base = database(6)
    here = store_at(tmp_path / "here")
    filled(subset(base, [0, 1, 2]), here)
    filled(base, here)
    view = tmp_path / "view"
    view.mkdir()
    for shard in here.shards_of(keys_of(base.columns)):
        link_or_copy(shard, view / shard.name)
    there = store_at(tmp_path / "there")
    assert len(there.index.keys) == 0
    assert there.adopt_folder(view) == 2
    assert there.adopt_folder(view) == 0
    assert filled(base, there) == 0
    assert same(read_table(base, there), compute_table(base, CUTOFF))


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


def test_an_interrupted_fill_keeps_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(8)
    monkeypatch.setattr(filling, "CODES_A_SHARD", 1)  # a shard a piece
    monkeypatch.setattr(filling, "ATOMS_AT_ONCE", 8)  # one or two structures a piece
    done = []

    def interrupted(structures: int, pairs: int) -> None:
        done.append(structures)
        if sum(done) >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_cache(base, store_at(tmp_path), progress=interrupted)
    keys = keys_of(base.columns)
    held = np.flatnonzero(store_at(tmp_path).index.find(keys) >= 0)
    np.testing.assert_array_equal(held, np.arange(sum(done)))
    part = subset(base, held)
    assert same(read_table(part, store_at(tmp_path)), compute_table(part, CUTOFF))
    assert filled(base, store_at(tmp_path)) == 8 - len(held)
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert all(path.suffix == ".arrow" for path in store_folder(tmp_path, CUTOFF).iterdir())


def test_an_interruption_while_a_shard_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(3)
    real = os.replace

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        filled(base, store_at(tmp_path))
    monkeypatch.setattr(os, "replace", real)
    assert not shards_in(tmp_path)
    assert filled(base, store_at(tmp_path)) == 3


def _fill(root: Path, part: list[int]) -> None:
    filled(subset(database(24), part), store_at(root))


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
    assert filled(base, store_at(tmp_path)) == 0
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert all(path.suffix == ".arrow" for path in store_folder(tmp_path, CUTOFF).iterdir())


def test_finding_fails_with_the_structure_named(tmp_path: Path) -> None:
    base = database(4)
    positions = base.columns["positions"].copy()
    positions[base.offsets[2]] = positions[base.offsets[2] + 1]
    broken = Database({**base.columns, "positions": positions}, base.splits)
    with pytest.raises(ValueError, match="Structure 2 of the database: atoms 0 and 1 lie in one place"):
        filled(broken, store_at(tmp_path))
    assert not shards_in(tmp_path)


def test_structures_without_pairs_are_kept_too(tmp_path: Path) -> None:
    base = database(3)
    lonely = 1e-3
    assert filled(base, store_at(tmp_path, lonely)) == 3
    assert filled(base, store_at(tmp_path, lonely)) == 0
    table = read_table(base, store_at(tmp_path, lonely))
    assert table.n_pairs == 0
    assert same(table, compute_table(base, lonely))
    assert table.batch(np.arange(3), base.offsets[:-1]).S.shape == (0, 3)


def test_many_images_survive_the_store(tmp_path: Path) -> None:
    """Atoms unwrapped by hundreds of cells need shifts beyond one byte."""
    base = database(2, periodic=True)
    positions = base.columns["positions"].copy()
    positions[0] += 300 * base.columns["cell"][0, 1] - 700 * base.columns["cell"][0, 2]
    far = Database({**base.columns, "positions": positions}, base.splits)
    filled(far, store_at(tmp_path))
    table = read_table(far, store_at(tmp_path))
    assert np.abs(table.all_pairs()[1].S).max() >= 700
    assert same(table, compute_table(far, CUTOFF))


def test_the_store_holds_files_and_no_symbolic_links(tmp_path: Path) -> None:
    """DVC can be told to link its cache into the workspace symbolically; what it points to may go."""
    base = database(4)
    filled(base, store_at(tmp_path / "one"))
    (shard,) = shards_in(tmp_path / "one")
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / shard.name).symlink_to(shard)
    there = store_at(tmp_path / "there")
    assert there.adopt_folder(tmp_path / "view") == 1
    assert not (there.folder / shard.name).is_symlink()
    (there.folder / shard.name).unlink()
    (there.folder / shard.name).symlink_to(tmp_path / "nothing")  # as an earlier version left it
    assert store_at(tmp_path / "there").adopt_folder(tmp_path / "view") == 1
    shutil.rmtree(tmp_path / "one")
    assert same(read_table(base, store_at(tmp_path / "there")), compute_table(base, CUTOFF))
