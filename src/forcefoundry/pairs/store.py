"""The pair store: pair lists on disk, found again by the content of their structure.

One folder a contract version and cutoff (`store_folder`) holds immutable shards, each an Arrow IPC file named after
the sha256 of its bytes. A shard maps structure keys to the canonical halves of their pair lists:

    key: fixed_size_binary(32), i, j: list of int32, S: list of int32 (3 a pair)

The schema's metadata say within which cutoff and by which contract the pairs were found: a shard that ends up in the
folder of another cutoff is left unread there.
A structure whose positions, cell, pbc or species changed has another key, so a stale hit cannot happen. Shards are
never changed or appended to: what is missing goes into a new one, written beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from forcefoundry.files import written_whole
from forcefoundry.pairs.contract import CONTRACT_VERSION, Pairs, check_cutoff

log = logging.getLogger(__name__)

_PAIRS_A_SHARD = 6_000_000  # ordered pairs; half of them are written, 20 bytes each, so about 60 MB

_SCHEMA = pa.schema(
    [("key", pa.binary(32)), ("i", pa.list_(pa.int32())), ("j", pa.list_(pa.int32())), ("S", pa.list_(pa.int32()))]
)


def store_folder(root: Path | str, cutoff: float) -> Path:
    """Where under a store's root the shards of one cutoff lie.

    The folder is named after the exact bits of the cutoff: 5.0 and 5.000000000000001 are two folders.
    """
    return Path(root) / f"v{CONTRACT_VERSION}" / f"cutoff_{check_cutoff(cutoff).hex()}"


class PairStore:
    """Pairs within one cutoff, kept in a folder.

    Args:
        folder: where the shards lie, `store_folder(root, cutoff)` or a view of linked shards; made when written to.
        cutoff: Å, within which all pairs in this folder are.
    """

    def __init__(self, folder: Path | str, cutoff: float):
        self.cutoff = check_cutoff(cutoff)
        self.folder = Path(folder)
        made_for = {b"cutoff": self.cutoff.hex().encode(), b"contract": str(CONTRACT_VERSION).encode()}
        self._schema = _SCHEMA.with_metadata(made_for)
        self._where: dict[bytes, tuple[Path, int]] | None = None
        self._open: dict[Path, pa.Table] = {}

    def where(self) -> dict[bytes, tuple[Path, int]]:
        """Which shard, and which row of it, holds each key."""
        if self._where is None:
            self._where = {}
            for shard in sorted(self.folder.glob("*.arrow")):
                if not self._fits(shard):
                    log.warning("%s does not hold pairs within %s Å: left unread", shard, self.cutoff)
                    continue
                for row, key in enumerate(self._table(shard)["key"].to_pylist()):
                    self._where.setdefault(key, (shard, row))
        return self._where

    def missing(self, keys: Iterable[bytes]) -> list[int]:
        """Positions in `keys` of the structures that the store does not hold, each key once."""
        held = self.where()
        first: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            if key not in held:
                first.setdefault(key, at)
        return list(first.values())

    def read(self, key: bytes) -> Pairs:
        """The full pair list of one structure, atoms counted from 0; a key that is not held is a KeyError."""
        shard, row = self.where()[key]
        columns = self._table(shard)
        i, j, S = (columns[name][row].values.to_numpy().astype(np.int64) for name in ("i", "j", "S"))
        return mirrored(i, j, S.reshape(-1, 3))

    def n_half_pairs(self, key: bytes) -> int:
        """Number of unordered pairs of one structure."""
        shard, row = self.where()[key]
        return len(self._table(shard)["i"][row])

    def write(self, keys: Sequence[bytes], pairs: Sequence[Pairs]) -> Path | None:
        """Put the pair lists of new structures into one new shard; None when there is nothing to write."""
        if not keys:
            return None
        halves = [_half(part) for part in pairs]
        arrays: list[pa.Array] = [pa.array(list(keys), pa.binary(32))]
        for column in range(3):
            lists = [half[column].ravel() for half in halves]
            ends = np.concatenate([[0], np.cumsum([len(entry) for entry in lists])])
            if ends[-1] >= 2**31:
                raise ValueError(f"A shard would hold {ends[-1]} numbers; write fewer than 2^31 at once.")
            flat = np.concatenate(lists).astype(np.int32)
            arrays.append(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat)))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        content = sink.getvalue()
        place = self.folder / f"{hashlib.sha256(content).hexdigest()}.arrow"
        if not place.exists():
            with written_whole(place) as draft:
                draft.write_bytes(content)
                draft.chmod(0o444)
        self._where = None
        return place

    def shards_of(self, keys: Iterable[bytes]) -> list[Path]:
        """The shards that hold the given structures, each once, sorted by name."""
        held = self.where()
        return sorted({held[key][0] for key in keys})

    def adopt(self, folder: Path | str) -> int:
        """Link the shards of `folder` (as DVC brought it back) into the store; the number of shards that were new."""
        return self.adopt_files({shard.name: shard for shard in sorted(Path(folder).glob("*.arrow"))})

    def adopt_files(self, shards: Mapping[str, Path]) -> int:
        """Link shards, given as name to file, into the store; the number of shards that were new.

        What is of another cutoff or contract is passed over; a damaged shard is a ValueError.
        """
        new = 0
        for name, shard in shards.items():
            place = self.folder / name
            if not place.exists() and self._fits(shard, Path(name).stem):
                self.folder.mkdir(parents=True, exist_ok=True)
                link_or_copy(shard, place)
                new += 1
        if new:
            self._where = None
        return new

    def _fits(self, shard: Path, digest: str | None = None) -> bool:
        return bool(self._table(shard, digest).schema.equals(self._schema, check_metadata=True))

    def _table(self, shard: Path, digest: str | None = None) -> pa.Table:
        if shard not in self._open:
            if hashlib.sha256(shard.read_bytes()).hexdigest() != (digest or shard.stem):
                raise ValueError(
                    f"{shard} is damaged: its bytes do not match its name. Delete it; its pairs are computed again."
                )
            self._open[shard] = pa.ipc.open_file(pa.memory_map(str(shard))).read_all()
        return self._open[shard]


def mirrored(i: np.ndarray, j: np.ndarray, S: np.ndarray) -> Pairs:
    """The full list, sorted by (i, j, S), from its canonical half."""
    full_i, full_j, full_S = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([S, -S])
    order = np.lexsort((full_S[:, 2], full_S[:, 1], full_S[:, 0], full_j, full_i))
    return Pairs(full_i[order], full_j[order], full_S[order])


def link_or_copy(source: Path, place: Path) -> bool:
    """Hard-link a file, or copy it where links cannot be had (another file system); whether it was linked."""
    try:
        os.link(source, place)
        return True
    except FileExistsError:
        return True
    except OSError:
        log.info("no hard link from %s to %s: copying", source, place)
        with written_whole(place) as draft:
            shutil.copyfile(source, draft)
        return False


def fill(
    store: PairStore,
    keys: Sequence[bytes],
    find: Callable[[int], Pairs],
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> int:
    """Compute what the store lacks. `find` gives the pairs of the structure at a position; the number computed."""
    missing = store.missing(keys)
    new_keys: list[bytes] = []
    new_pairs: list[Pairs] = []
    n_pairs = 0
    for at in progress(missing):
        new_keys.append(keys[at])
        new_pairs.append(find(at))
        n_pairs += len(new_pairs[-1].i)
        if n_pairs >= _PAIRS_A_SHARD:
            store.write(new_keys, new_pairs)
            new_keys, new_pairs, n_pairs = [], [], 0
    store.write(new_keys, new_pairs)
    return len(missing)


def _half(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    i, j, S = pairs.i, pairs.j, pairs.S
    sign = np.where(S[:, 0] != 0, S[:, 0], np.where(S[:, 1] != 0, S[:, 1], S[:, 2]))
    half = (i < j) | ((i == j) & (sign > 0))
    return i[half], j[half], S[half]
