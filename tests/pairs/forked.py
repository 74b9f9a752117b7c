"""Processes that fill a store and may be killed: forked from one that has loaded everything, so that each is quick."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.cache import fill_cache, read_table
from forcefoundry.pairs.store import filling
from forcefoundry.pairs.store.folders import register_workspace
from forcefoundry.pairs.store.mending import repair
from forcefoundry.pairs.store.verifying import verify
from forcefoundry.pairs.store.view import write_view
from tests.builders import database, subset
from tests.pairs.store_room import store_at

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.pairs.forked"])

STRUCTURES = 120


def base() -> Database:
    """What all these processes fill a store with."""
    return database(STRUCTURES)


def started(work: Callable[..., None], *words: Any) -> Any:
    """A process that does `work`."""
    process = CONTEXT.Process(target=work, args=words)
    process.start()
    return process


def ended(*processes: Any) -> None:
    """Wait for processes, all of which must have done their work."""
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def fill_in_small_shards(root: Path, rows: Sequence[int], seconds: Any = None, computed: Any = None) -> None:
    """Fill a store with some structures, a few a piece and a shard every few pieces.

    Says how long it took and how many were computed.
    """
    filling.CODES_A_SHARD = 60
    filling.ATOMS_AT_ONCE = 16
    done = fill_cache(subset(base(), rows), store_at(root))
    if seconds is not None:
        seconds.value = done.seconds
    if computed is not None:
        computed.value = done.structures


def as_user(uid: int, gid: int, work: Callable[..., None], *words: Any) -> None:
    """Do `work` as another user of a group."""
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(0o077)
    work(*words)


def fill_and_link(root: Path, rows: Sequence[int], view: Path, copied: Any) -> None:
    """Fill a store, read all pairs back, and link the shards into a folder; `copied` gets how many were copied."""
    structures = subset(base(), rows)
    register_workspace(root, view)
    fill_cache(structures, store_at(root))
    read_table(structures, store_at(root)).all_pairs()
    copied.value = write_view(store_at(root), keys_of(structures.columns), view)["copied"]


def put_right(root: Path, replaced: Any) -> None:
    """Repair a store; `replaced` gets how many shards were right afterwards as another file."""
    store = store_at(root)
    for mended in repair(store, verify(store), sources=lambda: [(keys_of(base().columns), base())]):
        replaced.value += mended.right and "is another user's, so it was replaced" in mended.how


if multiprocessing.parent_process() is None and "pytest" not in sys.modules:
    # This is the process that the others are forked from: let it have compiled code loaded.
    with tempfile.TemporaryDirectory() as _root:
        fill_cache(database(2), store_at(Path(_root)))
        _table = read_table(database(2), store_at(Path(_root)))
        _table.all_pairs()
        _table.half(np.arange(2))
