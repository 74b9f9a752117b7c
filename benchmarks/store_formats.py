"""Ways to keep pair lists on disk, to be written, opened and asked for batches; what `benchmarks.store` compares."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.store import PairStore
from forcefoundry.pairs.store.shard import open_shard, write_shard
from forcefoundry.pairs.table import PairTable, Part

Batches = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Of structures, and where their atoms start in the batch: i, j and S of the full list."""


class Ours:
    """The pair store as it is: Arrow IPC, the half list packed, memory-mapped, asked by key."""

    def __init__(self, folder: Path, cutoff: float, keys: np.ndarray, half: HalfPairs):
        self.folder, self.cutoff, self.keys, self.half = folder, cutoff, keys, half
        self.n_atoms = np.diff(half.offsets)

    def write(self) -> None:
        """Write one shard, named after its bytes and flushed to the disk."""
        PairStore(self.folder, self.cutoff).write(self.keys, self.half)

    def open(self) -> Batches:
        """By the index, as any process but the first does."""
        return _mirrored(PairStore(self.folder, self.cutoff).table(self.keys, self.n_atoms))


class Zstd(Ours):
    """The same shard compressed, as for an archive: decoded as a whole when it is opened."""

    def write(self) -> None:
        """Write one shard."""
        write_shard(self.folder, self.cutoff, self.keys, self.half, compression="zstd")

    def open(self) -> Batches:
        """Decode everything."""
        (place,) = self.folder.glob("*.arrow")
        shard = open_shard(place)
        spans = [end for ends in (shard.count_ends, shard.code_ends, shard.wide_ends) for end in (ends[:-1], ends[1:])]
        where = np.zeros(len(shard), dtype=np.int64)
        return _mirrored(PairTable(self.cutoff, [Part(shard.counts, shard.codes, shard.wide)], where, *spans))


class FullLists(Ours):
    """i, j and S of the full list as int64 in three .npy files, memory-mapped."""

    def write(self) -> None:
        """Write i, j, S, and where each structure's pairs start; flushed to the disk."""
        pairs = self.half.mirrored()
        n_pairs = 2 * np.diff(self.half.pair_ends)
        first = np.repeat(self.half.offsets[:-1], n_pairs)
        starts = np.concatenate([[0], np.cumsum(n_pairs)])
        S = np.asarray(pairs.S, dtype=np.int64)
        for name, values in {"i": pairs.i - first, "j": pairs.j - first, "S": S, "starts": starts}.items():
            with (self.folder / f"{name}.npy").open("wb") as file:
                np.save(file, values)
                os.fsync(file.fileno())

    def open(self) -> Batches:
        """Map the files."""
        i, j, S = (np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ("i", "j", "S"))
        starts = np.load(self.folder / "starts.npy")

        def batch(rows: np.ndarray, first_atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            spans = [slice(starts[row], starts[row + 1]) for row in rows]
            return (
                np.concatenate([i[span] + first for span, first in zip(spans, first_atoms, strict=True)]),
                np.concatenate([j[span] + first for span, first in zip(spans, first_atoms, strict=True)]),
                np.concatenate([S[span] for span in spans]),
            )

        return batch


WAYS: dict[str, type[Ours]] = {"forcefoundry": Ours, "full lists, npy": FullLists, "Arrow zstd": Zstd}


def _mirrored(table: PairTable) -> Batches:
    def batch(rows: np.ndarray, first_atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pairs = table.batch(rows, first_atoms)
        return pairs.i, pairs.j, pairs.S

    return batch
