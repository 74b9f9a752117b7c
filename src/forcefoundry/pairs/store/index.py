"""Which shard holds which structure: an index that can always be made again from the shards.

It lies beside them as `index-SHA256.arrow`, named after its bytes like a shard, and holds for each shard the size, the
time of change and the inode that it had when its bytes were checked against its name, and for each key its shard
and row. Whatever does not fit what lies there now (a shard that is new, changed or gone, an index cut short or
altered) is looked at again; nothing is believed that was not checked once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forcefoundry.databases.keys import Keys
from forcefoundry.files import named_by_content
from forcefoundry.pairs.contract import Ints
from forcefoundry.pairs.store.shard import FORMAT

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]
"""Size, time of change (ns) and inode of a file: while they stay, so do its bytes, as far as a glance can tell."""


def stamp_of(path: Path) -> Stamp:
    """How a file looks from outside."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True)
class Index:
    """Where structures are.

    names: the shards that were checked, the largest first. stamps: how they looked then. keys: (n, 32), sorted by their
    first eight bytes. shard, row: (n,) where each of them is; shard counts in `names`. A structure that is in two
    shards is here twice, and is found in the larger.
    """

    names: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    keys: Keys
    shard: NDArray[np.uint32]
    row: NDArray[np.uint32]

    def find(self, keys: Keys) -> Ints:
        """The places (m,) in this index of the given keys (m, 32); -1 for one that is not here."""
        places = np.full(len(keys), -1, dtype=np.int64)
        if not len(self.keys):
            return places
        heads, held = _heads(self.keys), _words(self.keys)
        starts, shift = _buckets(heads)
        for first in range(0, len(keys), _AT_ONCE):
            part = keys[first : first + _AT_ONCE]
            wanted, asked = _heads(part), _words(part)
            open_, at = np.arange(len(part)), starts.take((wanted >> shift).astype(np.int64))
            while len(open_):
                # Not checked but clipped: a place behind the last is that of a key greater than all.
                there, wants = heads.take(at, mode="clip"), wanted.take(open_)
                # Keys with equal first eight bytes stand side by side; two of them are one chance in 10^19, not none.
                equal = np.flatnonzero(there == wants)
                where, which = at.take(equal), open_.take(equal)
                same = _equal(held.take(where, axis=0, mode="clip"), asked.take(which, axis=0))
                places[first + which[same]] = where[same]
                on = there < wants
                on[equal[~same]] = True
                on &= at < len(heads) - 1
                left = np.flatnonzero(on)
                open_, at = open_.take(left), at.take(left) + 1
        return places

    def rows_of(self, shard: str) -> Ints:
        """The places in this index of what it takes from a shard, in the order of the shard's rows."""
        if shard not in self.names:
            return np.zeros(0, dtype=np.int64)
        mine = np.flatnonzero(self.shard == self.names.index(shard))
        return mine[np.argsort(self.row[mine], kind="stable")]


_AT_ONCE = 32768
"""So many keys are compared at a time: what that takes stays in the processor's own memory."""

EMPTY = Index((), (), np.zeros((0, 32), np.uint8), np.zeros(0, np.uint32), np.zeros(0, np.uint32))


def make_index(names: Sequence[str], stamps: Sequence[Stamp], keys: Sequence[Keys]) -> Index:
    """The index of shards whose rows have the given keys (n, 32)."""
    order = sorted(range(len(names)), key=lambda at: (-len(keys[at]), names[at]))
    every = np.concatenate([np.zeros((0, 32), np.uint8), *(keys[at] for at in order)])
    shard = np.repeat(np.arange(len(order), dtype=np.uint32), [len(keys[at]) for at in order])
    row = np.concatenate([np.zeros(0, np.uint32), *(np.arange(len(keys[at]), dtype=np.uint32) for at in order)])
    heads = _heads(every)
    sort = np.argsort(heads)
    if (heads[sort[1:]] == heads[sort[:-1]]).any():
        sort = np.argsort(heads, kind="stable")  # what is there twice: the larger shard, which stands first, is first
    return Index(
        tuple(names[at] for at in order),
        tuple(stamps[at] for at in order),
        _words(every).take(sort, axis=0).view(np.uint8),
        shard[sort],
        row[sort],
    )


def extended(index: Index, names: Sequence[str], stamps: Sequence[Stamp], keys: Sequence[Keys]) -> Index:
    """The index with some shards more, as `make_index` would make it of all of them but for the order of the names."""
    new = make_index(names, stamps, keys)
    heads, wanted = _heads(index.keys), _heads(new.keys)
    at = np.searchsorted(heads, wanted)
    held = at < len(heads)
    if (heads[at[held]] == wanted[held]).any() or (wanted[1:] == wanted[:-1]).any() or not len(heads):
        # A structure that is here already, but for one chance in 10^19: all is sorted anew.
        return make_index((*index.names, *names), (*index.stamps, *stamps), (*_keys_of_shards(index), *keys))
    # What np.insert does, which takes more than twice as long for rows.
    there = at + np.arange(len(at))
    old = np.ones(len(index.keys) + len(at), dtype=np.bool_)
    old[there] = False
    words = _words(index.keys).take(np.cumsum(old) - 1, axis=0, mode="clip")
    words[there] = _words(new.keys)
    return Index(
        (*index.names, *new.names),
        (*index.stamps, *new.stamps),
        words.view(np.uint8),
        np.insert(index.shard, at, new.shard + np.uint32(len(index.names))),
        np.insert(index.row, at, new.row),
    )


def first_of_each(keys: Keys) -> Ints:
    """Of keys (n, 32) the places of those that do not stand before, ascending."""
    heads = np.sort(_heads(keys))
    if not (heads[1:] == heads[:-1]).any():
        return np.arange(len(keys))
    _, first = np.unique(np.ascontiguousarray(keys).view("V32")[:, 0], return_index=True)
    return np.sort(first)


def _keys_of_shards(index: Index) -> list[Keys]:
    return [index.keys[index.rows_of(name)] for name in index.names]


def read_index(folder: Path) -> Index:
    """The newest index of a folder that is whole; an empty one where there is none."""
    found = sorted(folder.glob("index-*.arrow"), key=_age)
    for path in found:
        try:
            with pa.memory_map(str(path)) as source:
                content = source.read_buffer()  # keeps the map alive
            if hashlib.sha256(content).hexdigest() != path.stem.removeprefix("index-"):
                raise ValueError("its bytes do not match its name")
            with pa.ipc.open_file(content) as reader:
                said = reader.schema.metadata
                if said[b"format"] != str(FORMAT).encode():
                    raise ValueError(f"it is of format {said[b'format'].decode()}, expected {FORMAT}")
                names, stamps = json.loads(said[b"names"]), json.loads(said[b"stamps"])
                batch = reader.get_batch(0)
            key = batch.column("key")
            keys = np.frombuffer(key.buffers()[1], dtype=np.uint8, count=32 * len(key)).reshape(-1, 32)
            shard, row = (batch.column(name).to_numpy() for name in ("shard", "row"))
            if len(names) != len(stamps) or shard.max(initial=0) >= max(len(names), 1):
                raise ValueError("its parts do not fit together")
            return Index(tuple(names), tuple((a, b, c) for a, b, c in stamps), keys, shard, row)
        except FileNotFoundError:
            continue  # another process has just replaced it
        except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            log.warning("the index %s cannot be used (%s): it is made again from the shards", path, error)
            with contextlib.suppress(OSError):
                path.unlink()  # the one that is made again may have its name
    return EMPTY


def write_index(folder: Path, index: Index) -> None:
    """Keep an index for the next time. Where nothing can be written, nothing is: it is a convenience."""
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(index.keys), [None, pa.py_buffer(index.keys)]),
        pa.array(index.shard),
        pa.array(index.row),
    ]
    said = {
        "format": str(FORMAT),
        "names": json.dumps(index.names),
        "stamps": json.dumps(index.stamps),
    }
    batch = pa.RecordBatch.from_arrays(columns, names=["key", "shard", "row"]).replace_schema_metadata(said)
    old = list(folder.glob("index-*.arrow"))
    try:
        with (
            named_by_content(folder, ".arrow", "index-", durable=False) as file,
            pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer,
        ):
            writer.write_batch(batch)
    except OSError as error:
        log.info("the index of %s was not kept: %s", folder, error)
        return
    for path in old:
        if path != file.path:
            with contextlib.suppress(OSError):
                path.unlink()


def _heads(keys: Keys) -> NDArray[np.uint64]:
    """The first eight bytes of each key as numbers that sort as the keys do."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def _buckets(heads: NDArray[np.uint64]) -> tuple[Ints, np.uint64]:
    """Where heads of each beginning start among sorted ones, and by how many bits to shift one to have its beginning.

    Keys are digests: their heads are spread evenly, about one for each beginning, so no search is needed.
    """
    bits = max(len(heads).bit_length() - 1, 1)
    shift = np.uint64(64 - bits)
    starts = np.zeros(2**bits + 1, dtype=np.int64)
    np.cumsum(np.bincount((heads >> shift).astype(np.int64), minlength=2**bits), out=starts[1:])
    return starts, shift


def _equal(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows of four numbers are equal."""
    bits = left ^ right
    same: NDArray[np.bool_] = (bits[:, 0] | bits[:, 1] | bits[:, 2] | bits[:, 3]) == 0
    return same


def _words(keys: Keys) -> NDArray[np.uint64]:
    """The keys (n, 4) as four numbers each, which are compared faster than 32."""
    return np.ascontiguousarray(keys).view(np.uint64)


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
