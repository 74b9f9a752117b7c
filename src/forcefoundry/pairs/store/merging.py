"""Many small shards made one: what a data set that grew a little every day needs from time to time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from forcefoundry.databases.keys import Keys
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.packing import joined
from forcefoundry.pairs.store import filling
from forcefoundry.pairs.store.shard import Shard, rows_of
from forcefoundry.pairs.store.store import PairStore

SMALL = 8_000_000
"""Bytes. A shard below this is small."""

MANY = 16
"""So many small shards a data set may use before they are merged."""


def merge_small(store: PairStore, keys: Keys, small: int = SMALL, many: int = MANY) -> list[Path]:
    """Write the rows of the small shards that some structures need into as few new ones as there must be.

    Nothing is done, and nothing given back, where there are `many` small shards or fewer. The old ones stay until
    nobody refers to them any more and `gc` removes them; a structure that is in both is found in the larger one.

    Args:
        store: whose shards they are.
        keys: (n, 32) of the structures of a data set.
        small: bytes below which a shard is small.
        many: how many small ones are left alone.
    """
    sizes = {name: size for name, (size, _, _) in zip(store.index.names, store.index.stamps, strict=True)}
    shards = [store.shard(path.name) for path in store.shards_of(keys) if sizes[path.name] < small]
    if len(shards) <= many:
        return []
    made = []
    for group in _groups(shards):
        path = store.write(*_together(group))
        assert path is not None
        made.append(path)
    store.refresh()
    return made


def _groups(shards: list[Shard]) -> Iterator[list[Shard]]:
    """Shards that go together into one of about 64 MB. None is split: the merged one has all rows of each."""
    group: list[Shard] = []
    for shard in shards:
        if group and sum(len(one.codes) for one in [*group, shard]) > filling.CODES_A_SHARD:
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


def _together(shards: list[Shard]) -> tuple[Keys, HalfPairs]:
    """The rows of several shards, a structure that stands in two of them once."""
    keys = np.concatenate([shard.keys for shard in shards])
    _, first = np.unique(np.ascontiguousarray(keys).view("V32")[:, 0], return_index=True)
    once = np.zeros(len(keys), dtype=bool)
    once[first] = True
    ends = np.cumsum([0, *(len(shard) for shard in shards)])
    rows = [np.flatnonzero(once[start:stop]) for start, stop in pairwise(ends)]
    return keys[once], joined([rows_of(shard, mine) for shard, mine in zip(shards, rows, strict=True)])
