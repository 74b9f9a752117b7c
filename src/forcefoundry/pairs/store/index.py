"""Which shard holds which structure: an index that can always be made again from the shards.

It holds for each shard the size, the time of change and the inode that it had when its bytes were checked against its
name, and for each key its shard and row. It is in layers, the largest first, each in a file of its own
(`index_files.py`): what is new goes into a small one, so that a data set that grows a little does not write all of its
index anew. A structure is in one layer only, unless two processes have computed it at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.keys import Keys
from forcefoundry.pairs.contract import Ints

Stamp = tuple[int, int, int]
"""Size, time of change (ns) and inode of a file: while they stay, so do its bytes, as far as a glance can tell."""


def stamp_of(path: Path) -> Stamp:
    """How a file looks from outside."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True)
class Layer:
    """Where the structures of some shards are.

    names: the shards. stamps: how they looked when they were checked. keys: (n, 32), sorted by their first eight bytes.
    shard, row: (n,) where each of them is; shard counts in `names`. A structure that is in two shards is here twice,
    and is found in the larger. file: the name under which this layer is kept, if it is.
    """

    names: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    keys: Keys
    shard: NDArray[np.uint32]
    row: NDArray[np.uint32]
    file: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: Keys) -> Ints:
        """The places (m,) in this layer of the given keys (m, 32); -1 for one that is not here."""
        if not len(self):
            return np.full(len(keys), -1, dtype=np.int64)
        places = np.empty(len(keys), dtype=np.int64)
        heads, held = _heads(self.keys), _words(self.keys)
        starts, shift = _buckets(heads)
        for first in range(0, len(keys), _AT_ONCE):
            part = keys[first : first + _AT_ONCE]
            wanted, asked = _heads(part), _words(part)
            at = starts.take((wanted >> shift).view(np.int64))
            _walk(heads, wanted, at)
            # Not checked but clipped: a place behind the last is that of a key greater than all.
            same = _equal(held.take(at, axis=0, mode="clip"), asked)
            left = np.flatnonzero(~same)
            while len(left):
                # Keys with equal first eight bytes stand side by side; two of them are one chance in 10^19, not none.
                left = left[at[left] < len(heads)]
                left = left[heads[at[left]] == wanted[left]]
                same[left] = _equal(held[at[left]], asked[left])
                left = left[~same[left]]
                at[left] += 1
            places[first : first + _AT_ONCE] = np.where(same, at, -1)
        return places


@dataclass(frozen=True)
class Index:
    """Where structures are. Places count through all layers, one after another."""

    layers: tuple[Layer, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The shards that were checked."""
        return tuple(name for layer in self.layers for name in layer.names)

    @cached_property
    def stamps(self) -> tuple[Stamp, ...]:
        """How they looked then."""
        return tuple(stamp for layer in self.layers for stamp in layer.stamps)

    @cached_property
    def keys(self) -> Keys:
        """Of all places, (n, 32)."""
        return _together(np.zeros((0, 32), np.uint8), [layer.keys for layer in self.layers])

    @cached_property
    def shard(self) -> NDArray[np.uint32]:
        """The number in `names` of each place's shard, (n,)."""
        firsts = np.cumsum([0, *(len(layer.names) for layer in self.layers)], dtype=np.uint32)
        moved = [
            layer.shard + first if first else layer.shard for layer, first in zip(self.layers, firsts, strict=False)
        ]
        return _together(np.zeros(0, np.uint32), moved)

    @cached_property
    def row(self) -> NDArray[np.uint32]:
        """The row in its shard of each place, (n,)."""
        return _together(np.zeros(0, np.uint32), [layer.row for layer in self.layers])

    def find(self, keys: Keys) -> Ints:
        """The places (m,) in this index of the given keys (m, 32); -1 for one that is not here."""
        places = self.layers[0].find(keys) if self.layers else np.full(len(keys), -1, dtype=np.int64)
        left, first = np.flatnonzero(places < 0), 0
        for before, layer in pairwise(self.layers):
            first += len(before)
            found = layer.find(keys[left])
            places[left] = np.where(found < 0, -1, first + found)
            left = left[found < 0]
        return places

    def rows_of(self, shard: str) -> Ints:
        """The places in this index of what it takes from a shard, in the order of the shard's rows."""
        if shard not in self.names:
            return np.zeros(0, dtype=np.int64)
        mine = np.flatnonzero(self.shard == self.names.index(shard))
        return mine[np.argsort(self.row[mine], kind="stable")]


_AT_ONCE = 32768
"""So many keys are compared at a time: what that takes stays in the processor's own memory."""

EMPTY = Index()


def make_index(names: Sequence[str], stamps: Sequence[Stamp], keys: Sequence[Keys]) -> Index:
    """The index, of one layer, of shards whose rows have the given keys (n, 32)."""
    order = sorted(range(len(names)), key=lambda at: (-len(keys[at]), names[at]))
    every = np.concatenate([np.zeros((0, 32), np.uint8), *(keys[at] for at in order)])
    shard = np.repeat(np.arange(len(order), dtype=np.uint32), [len(keys[at]) for at in order])
    row = np.concatenate([np.zeros(0, np.uint32), *(np.arange(len(keys[at]), dtype=np.uint32) for at in order)])
    heads = _heads(every)
    sort = np.argsort(heads)
    if (heads[sort[1:]] == heads[sort[:-1]]).any():
        sort = np.argsort(heads, kind="stable")  # what is there twice: the larger shard, which stands first, is first
    layer = Layer(
        tuple(names[at] for at in order),
        tuple(stamps[at] for at in order),
        _words(every).take(sort, axis=0).view(np.uint8),
        shard[sort],
        row[sort],
    )
    return Index((layer,))


def extended(index: Index, names: Sequence[str], stamps: Sequence[Stamp], keys: Sequence[Keys]) -> Index:
    """The index with some shards more, which finds what `make_index` of all of them would.

    The new layer takes in those that are not twice as large: each is at least twice the next, so there are few, and
    what was written once is written again only when half as much has come after it.
    """
    (new,) = make_index(names, stamps, keys).layers
    if (index.find(new.keys) >= 0).any():
        # Of what is here already the larger shard is to be found, wherever it is: all is sorted anew.
        held = [index.keys[index.rows_of(name)] for name in index.names]
        return make_index((*index.names, *names), (*index.stamps, *stamps), (*held, *keys))
    layers = list(index.layers)
    while layers and len(layers[-1]) < 2 * len(new):
        new = _joined(layers.pop(), new)
    return Index((*layers, new))


def _joined(left: Layer, right: Layer) -> Layer:
    """One layer of two that share no structure: the keys of the right one put among those of the left one."""
    at = np.searchsorted(_heads(left.keys), _heads(right.keys))
    # What np.insert does, which takes more than twice as long for rows.
    there = at + np.arange(len(at))
    old = np.ones(len(left) + len(at), dtype=np.bool_)
    old[there] = False
    words = np.empty((len(old), 4), np.uint64)
    words[old], words[there] = _words(left.keys), _words(right.keys)
    return Layer(
        (*left.names, *right.names),
        (*left.stamps, *right.stamps),
        words.view(np.uint8),
        np.insert(left.shard, at, right.shard + np.uint32(len(left.names))),
        np.insert(left.row, at, right.row),
    )


def first_of_each(keys: Keys) -> Ints:
    """Of keys (n, 32) the places of those that do not stand before, ascending."""
    heads = np.sort(_heads(keys))
    if not (heads[1:] == heads[:-1]).any():
        return np.arange(len(keys))
    _, first = np.unique(np.ascontiguousarray(keys).view("V32")[:, 0], return_index=True)
    return np.sort(first)


def _together(none: NDArray[Any], parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate([none, *parts])


def _heads(keys: Keys) -> NDArray[np.uint64]:
    """The first eight bytes of each key as numbers that sort as the keys do."""
    return np.ascontiguousarray(keys).view(">u8")[:, 0].astype(np.uint64)


def _buckets(heads: NDArray[np.uint64]) -> tuple[Ints, np.uint64]:
    """Where heads of each beginning start among sorted ones, and by how many bits to shift one to have its beginning.

    Keys are digests: their heads are spread evenly, about one for each beginning, so no search is needed.
    """
    bits = max(len(heads).bit_length() - 1, 1)
    shift = np.uint64(64 - bits)
    starts = np.zeros(2**bits + 1, dtype=np.int64)
    np.cumsum(np.bincount((heads >> shift).view(np.int64), minlength=2**bits), out=starts[1:])
    return starts, shift


def _walk(heads: NDArray[np.uint64], wanted: NDArray[np.uint64], at: Ints) -> None:
    """Move each place `at`, at which the beginning of a wanted head starts, on to the first that is not below it."""
    open_ = np.flatnonzero(heads.take(at, mode="clip") < wanted)
    there, wants = at.take(open_), wanted.take(open_)
    while len(open_):
        there += 1
        at[open_] = there
        on = np.flatnonzero((there < len(heads)) & (heads.take(there, mode="clip") < wants))
        open_, there, wants = open_.take(on), there.take(on), wants.take(on)


def _equal(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows of four numbers are equal."""
    same: NDArray[np.bool_] = (left != right).view(np.uint32)[:, 0] == 0
    return same


def _words(keys: Keys) -> NDArray[np.uint64]:
    """The keys (n, 4) as four numbers each, which are compared faster than 32."""
    return np.ascontiguousarray(keys).view(np.uint64)
