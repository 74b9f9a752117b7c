"""Damaged shards put right: from a copy, or by computing what was in them again."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forcefoundry.databases.keys import Keys
from forcefoundry.databases.mapped import pieces
from forcefoundry.pairs.contract import Finder, Ints
from forcefoundry.pairs.finders import make_finder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.packing import half_of, joined
from forcefoundry.pairs.store.filling import ATOMS_AT_ONCE, Structures
from forcefoundry.pairs.store.index import make_index
from forcefoundry.pairs.store.index_files import read_index
from forcefoundry.pairs.store.shard import (
    ASIDE,
    DamagedShardError,
    Shard,
    keys_in,
    open_shard,
    rows_of,
    write_shard,
)
from forcefoundry.pairs.store.store import PairStore, shards_below
from forcefoundry.pairs.store.verifying import Damage, inode_of, misplaced, reason_of
from forcefoundry.pairs.table import PairTable

log = logging.getLogger(__name__)

Copies = Callable[[str], Iterable[Path]]
"""Where else the bytes of a shard may be, by its name."""

Sources = Callable[[], Iterable[tuple[Keys, Structures]]]
"""Structures that may have been in a shard, with their keys (n, 32). Asked for only when something must be computed."""


@dataclass(frozen=True)
class Mended:
    """What became of a damaged file.

    how: in words. right: whether it now holds the bytes of its name. computed: structures that were computed again.
    lost: structures whose pairs are in the store no more; None where nobody knows how many.
    """

    path: Path
    how: str
    right: bool
    computed: int = 0
    lost: int | None = 0


def repair(
    store: PairStore,
    damages: Iterable[Damage],
    copies: Copies = lambda name: (),
    sources: Sources = lambda: (),
    finder: Finder | None = None,
) -> Iterator[Mended]:
    """Put damaged shards of a store right, one after another; nothing else in the store is touched.

    The bytes are taken from a good copy, or made again from the structures: the same rows in the same order give the
    same bytes. Where some of the structures are nowhere to be found, the pairs of the others are put into a new shard,
    and the damaged one is set aside.

    Args:
        store: whose shards they are.
        damages: what `verify` found there.
        copies: where good bytes may be.
        sources: where structures may be.
        finder: how pairs are found.
    """
    damages = list(damages)
    known = {damage.path.name: _rows(store, damage.path) for damage in damages}
    others = _others(store, set(known))
    for damage in damages:
        copy = _good_copy(damage.path, copies(damage.path.name))
        if copy is not None:
            yield put_right(damage.path, copy, f"its bytes were taken from {copy}")
        else:
            yield _made_again(store, damage.path, known[damage.path.name], others, sources, finder)
    with contextlib.suppress(DamagedShardError):
        store.forget()
        store.refresh()


def put_right(path: Path, good: Path, how: str) -> Mended:
    """Write the bytes of `good` over those of `path`, in the same file on disk.

    So every hard link to it, in workspaces and in DVC's cache, is put right with it. Elsewhere in this library nothing
    is ever written into a file that has its name; here it can do no harm: the bytes that belong there are known from
    the name, who has the file mapped sees wrong bytes become right and no right one change, and a process that is
    killed half-way leaves a file that is still found damaged and put right the next time. The mode (read-only) is put
    back; only the time of change is new, which is what makes indices and DVC look at the file again.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IWUSR)
        try:
            with path.open("r+b") as file, good.open("rb") as source:
                shutil.copyfileobj(source, file, 2**20)
                file.truncate()
                os.fsync(file.fileno())
        finally:
            path.chmod(mode)
    except PermissionError:
        # The file is another user's of the group: only its owner may change it, but anyone may put another there.
        _put_beside(path, good)
        how += f"; {path.name} is another user's, so it was replaced, and links to it elsewhere hold what they held"
    return Mended(path, how, True)


def _put_beside(path: Path, good: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".draft.", dir=path.parent) as beside:
        draft = Path(beside) / "draft"
        shutil.copyfile(good, draft)
        draft.chmod(0o444)
        os.replace(draft, path)


def _made_again(
    store: PairStore, path: Path, keys: Keys | None, others: list[Shard], sources: Sources, finder: Finder | None
) -> Mended:
    if misplaced(path, store.cutoff) and reason_of(path, path.name) is None:
        return _set_aside(path, "its pairs are of another cutoff, contract or format", 0, 0)
    if keys is None:
        return _set_aside(path, "what was in it cannot be known: no index and no key column tells", 0, None)
    half, found, computed = _halves(keys, others, sources, store.cutoff, finder or make_finder("auto"))
    with tempfile.TemporaryDirectory(prefix=".draft.", dir=store.folder) as beside:
        if half is not None and len(found) == len(keys):
            made = write_shard(Path(beside), store.cutoff, keys, half)
            if made.name == path.name:
                mended = put_right(path, made, f"{computed} structures were computed again")
                return Mended(path, mended.how, True, computed)
    if half is not None:
        store.write(keys[found], half)
    return _set_aside(path, f"{computed} structures were computed again", computed, len(keys) - len(found))


def _set_aside(path: Path, why: str, computed: int, lost: int | None) -> Mended:
    path.rename(path.with_name(path.name + ASIDE))
    how = f"{why}; it was set aside as {path.name}{ASIDE}"
    if lost is None or lost:
        told = "an unknown number of" if lost is None else str(lost)
        how += f"; {told} structures of other data sets are no longer in the cache and are computed when asked for"
    return Mended(path, how, False, computed, lost)


def _halves(
    keys: Keys, others: list[Shard], sources: Sources, cutoff: float, finder: Finder
) -> tuple[HalfPairs | None, Ints, int]:
    """The pairs of those keys that are found, in the order of `keys`; which those are; how many were computed."""
    held = np.zeros(len(keys), dtype=bool)
    parts, order = [], []

    def add(places: Ints, half: HalfPairs) -> None:
        held[places] = True
        parts.append(half)
        order.append(places)

    for shard in others:
        places, rows = _shared(keys, held, shard.keys)
        if len(places):
            add(places, rows_of(shard, rows))
    read = int(held.sum())
    for theirs, structures in () if held.all() else sources():
        places, rows = _shared(keys, held, theirs)
        for piece in pieces(np.arange(len(rows)), structures.n_atoms[rows], ATOMS_AT_ONCE):
            positions, cell, pbc, offsets = structures.take(rows[piece])
            add(places[piece], half_of(finder, positions, cell, pbc, cutoff, offsets))
        if held.all():
            break
    if not parts:
        return None, np.zeros(0, dtype=np.int64), 0
    every = np.concatenate(order)
    half = PairTable.of_half(cutoff, joined(parts)).half(np.argsort(every))
    return half, np.sort(every), int(held.sum()) - read


def _shared(keys: Keys, held: np.ndarray, theirs: Keys) -> tuple[Ints, Ints]:
    """Places in `keys` that are not held yet and are among `theirs`, and their rows there, ascending."""
    index = make_index(("theirs",), ((0, 0, 0),), (theirs,))
    found = index.find(keys)
    places = np.flatnonzero((found >= 0) & ~held)
    rows = index.row[found[places]].astype(np.int64)
    ascending = np.argsort(rows, kind="stable")
    return places[ascending], rows[ascending]


def _rows(store: PairStore, path: Path) -> Keys | None:
    """The keys of a damaged shard's rows, in their order: from the index, or from what can be read of the shard."""
    index = read_index(store.folder)
    if path.name in index.names:
        return index.keys[index.rows_of(path.name)]
    try:
        return np.array(keys_in(path))
    except DamagedShardError:
        return None


def _others(store: PairStore, damaged: set[str]) -> list[Shard]:
    return [open_shard(path) for name, path in shards_below(store.folder).items() if name not in damaged]


def _good_copy(path: Path, copies: Iterable[Path]) -> Path | None:
    for copy in copies:
        inode = inode_of(copy)
        if inode is not None and inode != inode_of(path) and reason_of(copy, path.name) is None:
            return copy
    return None
