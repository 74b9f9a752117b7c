"""How much a store holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forcefoundry.pairs.store.merging import SMALL
from forcefoundry.pairs.store.store import PairStore


@dataclass(frozen=True)
class Stats:
    """What there is within one cutoff (Å).

    small: shards of less than 8 MB. structures, pairs: each structure once, pairs ordered. n_bytes: of the shards.
    bytes_a_pair: what a pair takes on disk.
    """

    cutoff: float
    shards: int
    small: int
    structures: int
    pairs: int
    n_bytes: int
    bytes_a_pair: float


def stats(store: PairStore) -> Stats:
    """Count what a store holds; a damaged shard that was not seen before is an error that names it."""
    index = store.index
    _, used = np.unique(np.ascontiguousarray(index.keys).view("V32")[:, 0], return_index=True)
    first = np.zeros(len(index.keys), dtype=bool)
    first[used] = True  # of a structure that stands in two shards, the one that is found
    pairs, rows_pairs = 0, 0
    for at, name in enumerate(index.names):
        of_row = 2 * np.diff(store.shard(name).code_ends.astype(np.int64))
        pairs += int(of_row[index.row[first & (index.shard == at)]].sum())
        rows_pairs += int(of_row.sum())
    sizes = [path.stat().st_size for path in store.shards().values()]
    return Stats(
        store.cutoff,
        len(sizes),
        sum(size < SMALL for size in sizes),
        int(first.sum()),
        pairs,
        sum(sizes),
        sum(sizes) / rows_pairs if rows_pairs else float("nan"),
    )
