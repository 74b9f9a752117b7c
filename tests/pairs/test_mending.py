"""Damage to shards is found wherever it is, named, and put right to the same bytes, there and in every hard link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import Keys, keys_of
from forcefoundry.pairs.cache import compute_table, read_table
from forcefoundry.pairs.store import DamagedShardError, PairStore, Structures, shard
from forcefoundry.pairs.store.mending import Mended, repair
from forcefoundry.pairs.store.merging import merge_small
from forcefoundry.pairs.store.shard import SUFFIX, digest_of_file
from forcefoundry.pairs.store.verifying import Damage, verify, verify_copies
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at


def n_atoms_in(path: Path) -> bytes:
    return np.diff(shard.open_shard(path).count_ends).astype("u1").tobytes()


PLACES: dict[str, Callable[[bytes, Path], int]] = {
    "codes": lambda content, path: content.index(shard.open_shard(path).codes.tobytes()) + 41,
    "counts": lambda content, path: content.index(shard.open_shard(path).counts.tobytes()) + 3,
    "keys": lambda content, path: content.index(shard.open_shard(path).keys.tobytes()) + 70,
    "numbers of atoms": lambda content, path: content.index(n_atoms_in(path)) + 9,
    "schema": lambda content, path: content.index(b"cutoff") + 2,
    "cutoff": lambda content, path: content.index(float(CUTOFF).hex().encode()) + 5,
    "footer": lambda content, path: len(content) - 12,
    "end": lambda content, path: len(content) - 1,
    **{f"{part}/16": lambda content, path, part=part: part * len(content) // 16 for part in range(16)},  # type: ignore[misc]
}


def flip(path: Path, at: int, bit: int = 2) -> None:
    """Change one bit of a read-only file behind everybody's back: also its time of change stays."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        (old,) = file.read(1)
        file.seek(at)
        file.write(bytes([old ^ (1 << bit)]))
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def forget_indices(store: PairStore) -> None:
    """As if no process had ever kept an index."""
    for path in store.folder.glob("index-*.arrow"):
        path.unlink()


class Counted:
    """Structures of a database that count how many of them were taken."""

    def __init__(self, base: Database):
        self.base, self.taken = base, 0

    def __call__(self) -> Iterator[tuple[Keys, Structures]]:
        yield keys_of(self.base.columns), self

    @property
    def n_atoms(self) -> np.ndarray:
        return self.base.n_atoms

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        self.taken += len(rows)
        return self.base.take(rows)


def mend(store: PairStore, base: Database | None = None, copies: Iterable[Path] = ()) -> list[Mended]:
    """Verify and repair with the structures of a database, or with copies of shards."""
    sources = Counted(base) if base is not None else (lambda: ())
    found = {path.name: path for path in copies}
    return list(repair(store, verify(store), lambda name: [found[name]] if name in found else [], sources))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "no index"])
def test_one_flipped_bit_is_named_and_put_right(tmp_path: Path, place: str, indexed: bool) -> None:
    base = database(12)
    store = store_at(tmp_path)
    filled(base, store)
    (path,) = shards_in(tmp_path)
    right, link = path.read_bytes(), tmp_path / "workspace" / path.name
    link.parent.mkdir()
    os.link(path, link)
    flip(path, PLACES[place](right, path))
    if not indexed:
        forget_indices(store)
    (damage,) = verify(store_at(tmp_path))
    assert damage.path == path
    assert "its bytes are not those of its name" in damage.reason
    (mended,) = mend(store_at(tmp_path), base)
    if indexed or mended.right:
        assert path.read_bytes() == link.read_bytes() == right
        assert (mended.computed, mended.lost) == (12, 0)
        assert path.stat().st_ino == link.stat().st_ino
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    else:  # what told which structures were in it is itself what was damaged
        assert (tmp_path / path.relative_to(tmp_path)).with_name(path.name + ".damaged").exists()
        assert mended.lost in (1, None)
        filled(base, store_at(tmp_path))
    assert verify(store_at(tmp_path)) == []
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


@pytest.mark.parametrize("bit", range(8))
def test_every_bit_counts(tmp_path: Path, bit: int) -> None:
    filled(database(2), store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    flip(path, path.stat().st_size // 3, bit)
    assert [damage.path for damage in verify(store_at(tmp_path))] == [path]
    flip(path, path.stat().st_size // 3, bit)
    assert verify(store_at(tmp_path)) == []


def test_only_the_damaged_shard_is_computed(tmp_path: Path) -> None:
    base = database(15)
    for rows in (range(5), range(5, 9), range(9, 15)):
        filled(subset(base, rows), store_at(tmp_path))
    paths = shards_in(tmp_path)
    damaged = next(path for path in paths if len(store_at(tmp_path).shard(path.name)) == 4)
    right, before = damaged.read_bytes(), {path: path.stat() for path in paths}
    flip(damaged, 700)
    counted = Counted(base)
    store = store_at(tmp_path)
    (mended,) = repair(store, verify(store), sources=counted)
    assert (counted.taken, mended.computed, mended.right) == (4, 4, True)
    assert damaged.read_bytes() == right
    for path in set(paths) - {damaged}:
        assert path.stat() == before[path]
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_a_good_copy_is_taken_and_nothing_computed(tmp_path: Path) -> None:
    base = database(6)
    filled(base, store_at(tmp_path / "store"))
    (path,) = shards_in(tmp_path / "store")
    right = path.read_bytes()
    copies = {name: tmp_path / name / path.name for name in ("link", "bad", "good")}
    for copy in copies.values():
        copy.parent.mkdir()
    os.link(path, copies["link"])
    copies["bad"].write_bytes(right[:-1] + b"?")
    copies["good"].write_bytes(right)
    flip(path, 300)
    store = store_at(tmp_path / "store")
    (mended,) = repair(store, verify(store), lambda name: copies.values())
    assert mended == Mended(path, f"its bytes were taken from {copies['good']}", True)
    assert path.read_bytes() == copies["link"].read_bytes() == right
    assert same(read_table(base, store_at(tmp_path / "store")), compute_table(base, CUTOFF))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda right: right[:-100], "it is cut short: {now} of {size} bytes"),
        (lambda right: b"", "it is cut short: 0 of {size} bytes"),
        (lambda right: right + b"more", r"its bytes are not those of its name \({now} bytes\)"),
    ],
    ids=["short", "empty", "long"],
)
def test_a_shard_of_another_length(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    base = database(6)
    filled(base, store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    right, inode = path.read_bytes(), path.stat().st_ino
    path.chmod(0o644)
    path.write_bytes(change(right))
    (damage,) = verify(store_at(tmp_path))
    told = reason.replace("{now}", str(len(change(right)))).replace("{size}", str(len(right)))
    assert damage.reason == told.replace("\\", "")
    with pytest.raises(DamagedShardError, match=f"The shard {path.name} .*is damaged: .*pipeline pairs repair` comp"):
        read_table(base, store_at(tmp_path))
    assert mend(store_at(tmp_path), base)[0].right
    assert (path.read_bytes(), path.stat().st_ino) == (right, inode)
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_without_an_index_what_is_cut_short_is_told_from_its_end(tmp_path: Path) -> None:
    filled(database(6), store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    forget_indices(store_at(tmp_path))
    for content, reason in ((path.read_bytes()[:-9], "its end is not that of a shard"), (b"", "it is empty")):
        path.chmod(0o644)
        path.write_bytes(content)
        (damage,) = verify(store_at(tmp_path))
        assert reason in damage.reason
    path.unlink()
    path.mkdir()  # as unreadable as can be, for root too
    assert verify(store_at(tmp_path)) == [Damage(path, "it cannot be read: Is a directory")]


def test_what_nobody_has_any_more_is_lost_and_said(tmp_path: Path) -> None:
    """Another data set's structures shared a shard with ours: ours are kept, theirs are computed when asked for."""
    base = database(10)
    ours = subset(base, range(6))
    filled(base, store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    flip(path, 900)
    (mended,) = mend(store_at(tmp_path), ours)
    assert (mended.right, mended.computed, mended.lost) == (False, 6, 4)
    assert "set aside" in mended.how
    assert "4 structures of other data sets are no longer in the cache" in mended.how
    assert path.with_name(f"{path.name}.damaged").exists()
    assert not path.exists()
    assert same(read_table(ours, store_at(tmp_path)), compute_table(ours, CUTOFF))
    assert filled(base, store_at(tmp_path)) == 4
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_what_another_shard_holds_is_not_computed(tmp_path: Path) -> None:
    base = database(18)
    for row in range(18):
        filled(subset(base, [row]), store_at(tmp_path))
    old = shards_in(tmp_path)
    keys = keys_of(base.columns)
    (large,) = merge_small(store_at(tmp_path), keys)
    for path in (large, old[3]):
        right = path.read_bytes()
        flip(path, 400)
        (mended,) = mend(store_at(tmp_path))
        assert (mended.path, mended.right, mended.computed) == (path, True, 0)
        assert path.read_bytes() == right


def test_a_shard_of_another_cutoff_is_found_and_set_aside(tmp_path: Path) -> None:
    base = database(5)
    filled(base, store_at(tmp_path, 2.1))
    filled(base, store_at(tmp_path))
    (stray,) = [path for path in shards_in(tmp_path) if path.parent == store_at(tmp_path, 2.1).folder]
    place = store_at(tmp_path).folder / stray.name
    place.write_bytes(stray.read_bytes())
    with pytest.raises(DamagedShardError, match=f"{stray.name} holds no pairs within 3.2 Å.*pairs repair` sets it as"):
        read_table(base, store_at(tmp_path))
    (mended,) = mend(store_at(tmp_path), base)
    assert "another cutoff, contract or format; it was set aside" in mended.how
    assert (mended.computed, mended.lost) == (0, 0)
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_two_shards_that_changed_names_are_both_found(tmp_path: Path) -> None:
    base = database(8)
    for rows in (range(4), range(4, 8)):
        filled(subset(base, rows), store_at(tmp_path))
    one, other = shards_in(tmp_path)
    right = {path: path.read_bytes() for path in (one, other)}
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)
    with pytest.raises(DamagedShardError, match="pairs repair"):
        read_table(base, store_at(tmp_path))
    assert {damage.path for damage in verify(store_at(tmp_path))} == {one, other}
    assert all(mended.right for mended in mend(store_at(tmp_path), base))
    assert {path: path.read_bytes() for path in right} == right


def test_a_good_verify_leaves_an_index_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(6)
    filled(base, store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    os.utime(path)
    forget_indices(store_at(tmp_path))
    assert verify(store_at(tmp_path)) == []

    def refuse(*_: object) -> None:
        raise AssertionError("a shard was hashed again")

    monkeypatch.setattr("forcefoundry.pairs.store.store.check_digest", refuse)
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def test_a_repair_that_is_interrupted_is_done_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(6)
    filled(base, store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    right = path.read_bytes()
    flip(path, 700)
    flip(path, 300)

    def half(source: BinaryIO, file: BinaryIO, _: int) -> None:
        file.write(source.read(500))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("forcefoundry.pairs.store.mending.shutil.copyfileobj", half)
        with pytest.raises(KeyboardInterrupt):
            mend(store_at(tmp_path), base)
    assert path.read_bytes()[:500] == right[:500]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    with pytest.raises(DamagedShardError, match="pairs repair"):
        read_table(base, store_at(tmp_path))
    assert mend(store_at(tmp_path), base)[0].right
    assert path.read_bytes() == right
    assert [one.name for one in store_at(tmp_path).folder.glob(".*")] == []


def test_copies_elsewhere_are_hashed_once_each(tmp_path: Path) -> None:
    filled(database(6), store_at(tmp_path / "store"))
    (path,) = shards_in(tmp_path / "store")
    places = [tmp_path / name for name in ("link", "copy", "link of copy", "bad", "absent")]
    os.link(path, places[0])
    places[1].write_bytes(path.read_bytes())
    os.link(places[1], places[2])
    places[3].write_bytes(path.read_bytes()[:50])
    hashed: list[Path] = []
    damages = verify_copies({path.name: places}, [path], hashed.append)
    assert hashed == [places[1], places[3]]
    assert [damage.path for damage in damages] == [places[3]]


def test_a_name_of_a_shard_is_the_digest_of_its_bytes(tmp_path: Path) -> None:
    filled(database(6), store_at(tmp_path))
    (path,) = shards_in(tmp_path)
    assert path.name == digest_of_file(path) + SUFFIX
