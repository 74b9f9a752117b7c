"""The bytes of a shard: an Arrow IPC file of one record batch, with a row for each structure.

    key     fixed_size_binary[32]    the structure's content key
    counts  list<uint8|16|32>        for each atom the number of pairs of the canonical half that it has as i
    codes   list<uint32>             j and S of these pairs, as `forcefoundry.pairs.half` packs them
    wide    list<int32>              four numbers, j and S, for each pair that fits no code

The schema's metadata say in which format, by which contract and within which cutoff: `format`, `contract`, `cutoff`
(the bits of the float, as `float.hex` writes them). A shard is named after the sha256 of its bytes and never changed.
docs/pair-store.md tells the same to those who write a reader of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forcefoundry.databases.keys import Keys
from forcefoundry.files import ContentFile, named_by_content
from forcefoundry.pairs.contract import CONTRACT_VERSION, Ints
from forcefoundry.pairs.half import HalfPairs

FORMAT = 2
"""Raised whenever a reader of the bytes would have to change."""

SUFFIX = ".arrow"

ASIDE = ".damaged"
"""Put behind the name of a shard that could not be put right."""

_COUNTS = (np.uint8, np.uint16, np.uint32)
_AT_ONCE = 2**31
"""Arrow counts what is in a list of a shard in 32 bits."""


class DamagedShardError(ValueError):
    """A shard whose bytes are not those that its name stands for."""


@dataclass(frozen=True)
class Shard:
    """An open shard of n structures, memory-mapped: no array is in memory before it is looked at.

    keys: (n, 32). Where each structure's numbers start and end in the flat arrays: count_ends, code_ends, wide_ends
    (n + 1,). counts: one an atom; codes: one a pair of the half; wide: four numbers a wide pair.
    """

    path: Path
    keys: Keys
    counts: NDArray[np.unsignedinteger[Any]]
    count_ends: NDArray[np.int32]
    codes: NDArray[np.uint32]
    code_ends: NDArray[np.int32]
    wide: NDArray[np.int32]
    wide_ends: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.keys)


def write_shard(folder: Path, cutoff: float, keys: Keys, half: HalfPairs, compression: str | None = None) -> Path:
    """Write structures and their pairs as a shard of `folder`; gives its place, where it may have been before.

    compression: None, or "zstd" for an archive: a compressed shard is smaller and cannot be mapped into memory.
    """
    path = written_shard(folder, cutoff, keys, half, compression).path
    assert path is not None
    return path


def written_shard(
    folder: Path, cutoff: float, keys: Keys, half: HalfPairs, compression: str | None = None
) -> ContentFile:
    """What `write_shard` does; gives the file, which knows whether it was there before."""
    if max(len(half.codes), 4 * len(half.wide), len(half.counts)) >= _AT_ONCE:
        raise ValueError(
            f"A shard would hold {len(half.codes)} pairs of {len(half.counts)} atoms, expected fewer than 2^31 of "
            "each. Write fewer structures at once."
        )
    most = int(half.counts.max(initial=0))
    kind = next(kind for kind in _COUNTS if most <= np.iinfo(kind).max)
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(keys), [None, pa.py_buffer(np.ascontiguousarray(keys))]
        ),
        _lists(half.offsets, half.counts.astype(kind)),
        _lists(half.pair_ends, half.codes),
        _lists(4 * half.wide_ends, half.wide.reshape(-1)),
    ]
    names = ["key", "counts", "codes", "wide"]
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in zip(names, columns, strict=True)],
        metadata=metadata_of(cutoff),
    )
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with named_by_content(folder, SUFFIX) as file:
        sink = pa.PythonFile(file, mode="w")
        with pa.ipc.new_file(sink, schema, options=options) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return file


def metadata_of(cutoff: float) -> dict[bytes, bytes]:
    """What the schema of a shard says about itself."""
    return {
        b"format": str(FORMAT).encode(),
        b"contract": str(CONTRACT_VERSION).encode(),
        b"cutoff": float(cutoff).hex().encode(),
    }


def digest_of_file(path: Path) -> str:
    """The sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, name: str | None = None) -> None:
    """Refuse a shard whose bytes are not those of its name (`name` where the file itself has another)."""
    name = name or path.name
    if digest_of_file(path) != name.removesuffix(SUFFIX):
        raise DamagedShardError(
            f"The shard {name} is damaged: {path} does not hold the bytes that its name stands for. "
            "`python -m pipeline pairs repair` computes its pairs again."
        )


def fits(path: Path, cutoff: float) -> bool:
    """Whether a file is a shard of this format and contract within that cutoff.

    Raises:
        FileNotFoundError: somebody has just removed it.
    """
    try:
        with _reader(path) as reader:
            said = reader.schema.metadata or {}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        return False
    return all(said.get(name) == value for name, value in metadata_of(cutoff).items())


def open_shard(path: Path) -> Shard:
    """Map a shard into memory. What is no shard is a `DamagedShardError`; its digest is not looked at.

    Raises:
        FileNotFoundError: somebody has just removed it.
    """
    try:
        with _reader(path) as reader:
            batch = reader.get_batch(0)
        key, counts, codes, wide = (batch.column(name) for name in ("key", "counts", "codes", "wide"))
        keys = np.frombuffer(key.buffers()[1], dtype=np.uint8, count=32 * len(key)).reshape(-1, 32)
        return Shard(
            path,
            keys,
            counts.values.to_numpy(),
            counts.offsets.to_numpy(),
            codes.values.to_numpy(),
            codes.offsets.to_numpy(),
            wide.values.to_numpy(),
            wide.offsets.to_numpy(),
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} was removed while it was in use (by `pairs gc`?). Start again.") from None
    except (pa.ArrowException, KeyError, OSError, IndexError, ValueError) as error:
        raise DamagedShardError(f"{path} is no shard that can be read: {' '.join(str(error).split())}") from None


def rows_of(shard: Shard, rows: Ints) -> HalfPairs:
    """The pairs of some rows of a shard, in their order, as one batch in memory."""
    spans = [
        (np.asarray(ends, dtype=np.int64)[rows], np.asarray(ends, dtype=np.int64)[np.asarray(rows) + 1])
        for ends in (shard.count_ends, shard.code_ends, shard.wide_ends)
    ]
    counts, codes, wide = (
        np.concatenate([flat[:0], *(flat[start:stop] for start, stop in zip(*span, strict=True))])
        for flat, span in zip((shard.counts, shard.codes, shard.wide), spans, strict=True)
    )
    ends = [np.concatenate([[0], np.cumsum(stop - start)]) for start, stop in spans]
    return HalfPairs(ends[0], counts.astype(np.int32), ends[1], codes, ends[2] // 4, wide.reshape(-1, 4))


def _lists(ends: Ints, flat: NDArray[Any]) -> pa.ListArray:
    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(flat.dtype), nullable=False))
    starts = pa.array((ends - ends[0]).astype(np.int32))
    return pa.ListArray.from_arrays(starts, pa.array(flat), type=kind)


@contextmanager
def _reader(path: Path) -> Iterator[pa.ipc.RecordBatchFileReader]:
    # Arrays that were read keep the map alive; closing the reader does not end it.
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        yield reader
