"""The bytes of a shard: an Arrow IPC file of one record batch of one row, whose columns are flat lists.

    key      list<fixed_size_binary[32]>    each structure's content key
    n_atoms  list<uint8|16|32>              each structure's number of atoms
    counts   list<uint8|16|32>              for each atom the number of pairs of the canonical half that it has as i
    codes    list<uint32>                   j and S of these pairs, as `forcefoundry.pairs.half` packs them
    wide_of  list<uint32>                   for each pair that fits no code, the number of its structure
    wide     list<int32>                    four numbers, j and S, for each of these

Where the numbers of a structure start is not kept, for it can be counted: its atoms start at the total of `n_atoms`
before it, its codes at the total of `counts` there. To keep it would take 12 bytes a structure.

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

FORMAT = 3
"""Raised whenever a reader of the bytes would have to change."""

SUFFIX = ".arrow"

ASIDE = ".damaged"
"""Put behind the name of a shard that could not be put right."""

_COUNTS = (np.uint8, np.uint16, np.uint32)
_KINDS = {"n_atoms": _COUNTS, "counts": _COUNTS, "codes": (np.uint32,), "wide_of": (np.uint32,), "wide": (np.int32,)}
_AT_ONCE = 2**31
"""Arrow counts what is in a list in 32 bits."""


class DamagedShardError(ValueError):
    """A shard whose bytes are not those that its name stands for."""


@dataclass(frozen=True)
class Shard:
    """An open shard of n structures, memory-mapped: codes are not in memory before they are looked at.

    keys: (n, 32). counts: one an atom; codes: one a pair of the half; wide: four numbers a wide pair. Where each
    structure's numbers start and end in these: count_ends, code_ends, wide_ends (n + 1,), which the shard does not hold
    and opening it counts.
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
    assert len(keys) == len(half.offsets) - 1, "a key for each structure"
    columns = {
        "key": _list(
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(32), len(keys), [None, pa.py_buffer(np.ascontiguousarray(keys))]
            )
        ),
        "n_atoms": _list(_narrow(np.diff(half.offsets))),
        "counts": _list(_narrow(half.counts)),
        "codes": _list(half.codes),
        "wide_of": _list(np.repeat(np.arange(len(keys), dtype=np.uint32), np.diff(half.wide_ends))),
        "wide": _list(half.wide.reshape(-1)),
    }
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in columns.items()],
        metadata=metadata_of(cutoff),
    )
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with named_by_content(folder, SUFFIX) as file:
        sink = pa.PythonFile(file, mode="w")
        with pa.ipc.new_file(sink, schema, options=options) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(list(columns.values()), schema=schema))
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

    So is one whose numbers contradict one another. Those of each structure are looked at when they are read.

    Raises:
        FileNotFoundError: somebody has just removed it.
    """
    with _opened(path) as batch:
        keys = _keys(batch)
        n_atoms, counts, codes, wide_of, wide = (_numbers(batch, name) for name in _KINDS)
        if len(keys) != len(n_atoms):
            raise ValueError(f"it has {len(keys)} keys of {len(n_atoms)} structures")
        count_ends = _totals(n_atoms)
        if count_ends[-1] != len(counts):
            raise ValueError(f"its structures have {count_ends[-1]} atoms, and counts are {len(counts)}")
        code_totals = _totals(counts)
        if code_totals[-1] != len(codes):
            raise ValueError(f"its counts make {code_totals[-1]} pairs, and codes are {len(codes)}")
        count_ends = count_ends.astype(np.int32, copy=False)
        code_ends = code_totals.take(count_ends).astype(np.int32, copy=False)
        if len(wide) != 4 * len(wide_of):
            raise ValueError(f"it has {len(wide)} numbers of {len(wide_of)} wide pairs")
        if len(wide_of) and (wide_of[-1] >= len(keys) or (wide_of[1:] < wide_of[:-1]).any()):
            raise ValueError("its wide pairs are not in the order of its structures")
        wide_ends = np.zeros(len(keys) + 1, np.int32)
        if len(wide_of):
            wide_ends[:] = 4 * np.searchsorted(wide_of, np.arange(len(keys) + 1, dtype=np.uint32))
        return Shard(path, keys, counts, count_ends, codes, code_ends, wide, wide_ends)


def keys_in(path: Path) -> Keys:
    """The keys (n, 32) of a shard, whatever is wrong with the rest of it; errors are those of `open_shard`."""
    with _opened(path) as batch:
        return _keys(batch)


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


def _list(flat: pa.Array | NDArray[Any]) -> pa.ListArray:
    """A column of one row that holds everything."""
    values = flat if isinstance(flat, pa.Array) else pa.array(flat)
    kind = pa.list_(pa.field("item", values.type, nullable=False))
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values, type=kind)


def _narrow(counts: Ints | NDArray[np.int32]) -> NDArray[Any]:
    """Numbers that are not negative, in as few bytes each as the greatest needs."""
    most = int(counts.max(initial=0))
    return counts.astype(next(kind for kind in _COUNTS if most <= np.iinfo(kind).max))


def _totals(steps: NDArray[Any]) -> NDArray[np.signedinteger[Any]]:
    """Running totals (n + 1,), from 0 on: in 32 bits where these hold whatever the numbers are."""
    few = len(steps) * int(np.iinfo(steps.dtype).max) < _AT_ONCE
    ends: NDArray[np.signedinteger[Any]] = np.empty(len(steps) + 1, np.int32 if few else np.int64)
    ends[0] = 0
    np.cumsum(steps, dtype=ends.dtype, out=ends[1:])
    return ends


def _keys(batch: pa.RecordBatch) -> Keys:
    keys = _row(batch, "key")
    if keys.type != pa.binary(32) or keys.null_count:
        raise ValueError(f"its keys are {keys.type}, expected 32 bytes each")
    held = np.frombuffer(keys.buffers()[1], dtype=np.uint8, count=32 * (keys.offset + len(keys)))
    return held.reshape(-1, 32)[keys.offset :]


def _numbers(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    numbers: NDArray[Any] = _row(batch, name).to_numpy()
    if numbers.dtype not in _KINDS[name]:
        raise ValueError(f"its {name} are {numbers.dtype}")
    return numbers


def _row(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = batch.column(name)
    if len(column) != 1 or not pa.types.is_list(column.type):
        raise ValueError(f"{name} are {len(column)} rows of {column.type}, expected one list")
    return column.flatten()


@contextmanager
def _opened(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batch of a shard; what goes wrong with it is told as damage."""
    try:
        with _reader(path) as reader:
            batch = reader.get_batch(0)
        batch.validate()  # that no list says to be longer than its bytes
        yield batch
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} was removed while it was in use (by `pairs gc`?). Start again.") from None
    except (pa.ArrowException, KeyError, OSError, IndexError, TypeError, ValueError) as error:
        raise DamagedShardError(f"{path} is no shard that can be read: {' '.join(str(error).split())}") from None


@contextmanager
def _reader(path: Path) -> Iterator[pa.ipc.RecordBatchFileReader]:
    # Arrays that were read keep the map alive; closing the reader does not end it.
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        yield reader
