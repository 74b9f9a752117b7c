"""The store is right whoever is killed, whoever else writes, however full the disk, and whoever's the files are."""

from __future__ import annotations

import grp
import os
import random
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.files import DiskFullError
from forcefoundry.pairs.cache import compute_table, read_table
from forcefoundry.pairs.store.verifying import verify
from forcefoundry.pairs.store.workspaces import registered
from tests.builders import database, subset
from tests.pairs import forked
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at


def check(root: Path, base: Database) -> int:
    """Every structure that a store holds has the right pairs, and no half shard is visible; how many it holds."""
    store = store_at(root)
    assert verify(store) == []
    held = np.flatnonzero(store_at(root).index.find(keys_of(base.columns)) >= 0)
    if len(held):
        part = subset(base, held)
        assert same(read_table(part, store_at(root)), compute_table(part, CUTOFF))
    return len(held)


def kill_while_filling(folder: Path, times: int, seed: int) -> list[int]:
    """Kill processes at random points; how many structures each left in its store."""
    base, rng, held = forked.base(), random.Random(seed), []
    seconds, computed = forked.CONTEXT.Value("d"), forked.CONTEXT.Value("i")
    forked.ended(forked.started(forked.fill_in_small_shards, folder / "whole", range(forked.STRUCTURES), seconds))
    assert len(shards_in(folder / "whole")) > 10
    for number in range(times):
        root = folder / str(number)
        process = forked.started(forked.fill_in_small_shards, root, range(forked.STRUCTURES))
        until = time.monotonic() + 60
        while not list(root.rglob(".draft.*")) and process.is_alive() and time.monotonic() < until:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0.0, 0.9 * seconds.value))
        process.kill()
        process.join(30)
        held.append(check(root, base))
        forked.ended(forked.started(forked.fill_in_small_shards, root, range(forked.STRUCTURES), None, computed))
        assert computed.value == len(base) - held[-1]  # it goes on where the other was
        assert check(root, base) == len(base)
        shutil.rmtree(root)
    return held


def test_killed_at_any_moment_the_store_is_right(tmp_path: Path) -> None:
    held = kill_while_filling(tmp_path, 6, seed=0)
    assert any(0 < n < forked.STRUCTURES for n in held)


@pytest.mark.slow
def test_killed_fifty_times_the_store_is_right(tmp_path: Path) -> None:
    held = kill_while_filling(tmp_path, 50, seed=1)
    assert len({n for n in held if 0 < n < forked.STRUCTURES}) > 10


def test_several_writers_of_overlapping_structures(tmp_path: Path) -> None:
    base = forked.base()
    rows = [range(80), range(40, 120), range(0, 120, 2)]
    forked.ended(*(forked.started(forked.fill_in_small_shards, tmp_path, part) for part in rows))
    assert check(tmp_path, base) == len(base)
    assert filled(base, store_at(tmp_path)) == 0
    assert list(store_at(tmp_path).folder.glob(".draft.*")) == []


def test_a_writer_beside_one_that_is_killed(tmp_path: Path) -> None:
    killed = forked.started(forked.fill_in_small_shards, tmp_path, range(120))
    other = forked.started(forked.fill_in_small_shards, tmp_path, range(60, 120))
    while not shards_in(tmp_path):
        time.sleep(0.001)
    killed.kill()
    killed.join(30)
    forked.ended(other)
    base = forked.base()
    assert check(tmp_path, base) >= 60
    filled(base, store_at(tmp_path))
    assert check(tmp_path, base) == len(base)


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


def test_a_full_disk_leaves_a_store_that_is_right_and_goes_on(tmp_path: Path) -> None:
    base = database(60)
    with disk(tmp_path / "disk", "256k") as root:
        ballast = root / "ballast"
        ballast.write_bytes(bytes(120_000))

        def one_by_one() -> None:
            for row in range(len(base)):
                filled(subset(base, range(row + 1)), store_at(root))

        with pytest.raises(DiskFullError, match=r"The disk is full: .*could not be written.*Free some space"):
            one_by_one()
        held = check(root, base)
        assert 0 < held < len(base)
        assert list(store_at(root).folder.glob(".*")) == []
        ballast.unlink()
        assert filled(base, store_at(root)) == len(base) - held
        assert check(root, base) == len(base)


@pytest.fixture
def group_folder() -> Iterator[Path]:
    """A folder that everybody can reach, with a root inside that one group may write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can become two other users")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = folder / "store"
    root.mkdir()
    os.chown(root, 0, GROUP)
    root.chmod(0o2775)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


USERS, GROUP = (43_001, 43_002), 43_100


def in_group(path: Path) -> bool:
    """Whether the group may do with a file or folder what it must: read files, and change folders."""
    found = path.stat()
    wanted = 0o2070 if path.is_dir() else 0o040
    return found.st_gid == GROUP and stat.S_IMODE(found.st_mode) & wanted == wanted


def test_a_group_shares_a_store(group_folder: Path) -> None:
    """Two users fill one store; where the kernel lets nobody link another's files, they are copied."""
    root, base = group_folder / "store", forked.base()
    copied = [forked.CONTEXT.Value("i", -1) for _ in USERS]
    for user, rows, count in zip(USERS, (range(70), range(30, 120)), copied, strict=True):
        view = group_folder / f"of {user}"
        words = (user, GROUP, forked.fill_and_link, root, rows, view, count)
        forked.ended(forked.started(forked.as_user, *words))
    assert not [path for path in root.rglob("*") if not in_group(path)]
    assert {path.stat().st_uid for path in shards_in(root)} == set(USERS)
    assert check(root, base) == len(base)
    assert copied[0].value == 0
    refused = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    assert copied[1].value == (1 if refused else 0)
    views = [sorted(path.name for path in (group_folder / f"of {user}").glob("*.arrow")) for user in USERS]
    assert views[1] == [path.name for path in shards_in(root)]
    assert set(views[0]) < set(views[1])
    assert [one.folder for one in registered(root)] == [group_folder / f"of {user}" for user in USERS]
    part = subset(base, range(30, 120))
    brought = store_at(group_folder / "another store")
    assert brought.adopt_folder(group_folder / f"of {USERS[1]}") == 2
    assert same(read_table(part, brought), compute_table(part, CUTOFF))


def test_another_users_damaged_shard_is_replaced(group_folder: Path) -> None:
    """Only its owner may write into it; whoever may put files there may put a right one in its place."""
    root, base = group_folder / "store", forked.base()
    words = (range(40), group_folder / "view", forked.CONTEXT.Value("i"))
    forked.ended(forked.started(forked.as_user, USERS[0], GROUP, forked.fill_and_link, root, *words))
    (path,) = shards_in(root)
    right, inode = path.read_bytes(), path.stat().st_ino
    path.chmod(0o644)
    path.write_bytes(right[:700] + b"?" + right[701:])
    path.chmod(0o444)
    replaced = forked.CONTEXT.Value("i")
    forked.ended(forked.started(forked.as_user, USERS[1], GROUP, forked.put_right, root, replaced))
    assert replaced.value == 1
    assert path.read_bytes() == right
    assert path.stat().st_ino != inode
    assert in_group(path)
    assert check(root, base) == 40


def test_the_group_of_the_test_is_nobodys() -> None:
    """Else the test above would say less than it seems to."""
    assert GROUP not in {one.gr_gid for one in grp.getgrall()}
