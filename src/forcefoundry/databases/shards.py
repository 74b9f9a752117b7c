"""The bytes of a shard of structures: an Arrow IPC file of one record batch, with a row for each structure.

A column of structures is one of numbers, or of lists of a fixed length; one of atoms is a list of these for each row.
NaN stands where a row has no label. Shards are named after the sha256 of their bytes, never changed, and mapped into
memory: nothing of them is read before it is looked at. docs/data.md tells the same to those who read them elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import math
import mmap
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forcefoundry.columns import COLUMNS, Axis, Column
from forcefoundry.files import named_by_content

FORMAT = 1
"""Raised whenever a reader of the bytes would have to change."""

SUFFIX = ".arrow"

BYTES = 64 * 2**20
"""About so much is put into a shard: what is new is then hashed and sent by itself."""

_HASHED = 16 * 2**20

AGAIN = "Run the load step again."


def label_name(name: str, key: str) -> str:
    """What the values of a property under a key of the rows are called in a shard: `energy:REF_energy`."""
    return f"{name}:{key}"


def property_of(name: str) -> Column:
    """The column that a column of a shard holds."""
    return COLUMNS[name.partition(":")[0]]


class _Descriptor:
    """A file that is open for as long as somebody holds this: shards are open for as long as their arrays are."""

    def __init__(self, path: Path):
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@dataclass(frozen=True)
class OpenShard:
    """A shard of n structures in mapped memory.

    Attributes:
        path: the file.
        columns: by name, one row a structure or an atom, read-only.
        atoms: (n + 1,) where the atoms of each structure start.
        beside: the whole record batch, with what is no column of numbers.
    """

    path: Path
    columns: Mapping[str, NDArray[Any]]
    atoms: NDArray[np.int64]
    beside: pa.RecordBatch
    _mapped: mmap.mmap
    _file: _Descriptor

    def __len__(self) -> int:
        return len(self.atoms) - 1

    def read(self, name: str, first: int, into: NDArray[Any]) -> None:
        """Copy a column's rows from `first` on into an array, which says how many.

        They are read from the file: looked at in mapped memory, each row of a few bytes would leave a piece of the file
        resident, which is as large as the system's page cache likes it to be.
        """
        if not into.size:
            return
        values = self.columns[name]
        start = values.__array_interface__["data"][0] - self._start + first * _row_bytes(name)
        left = memoryview(into.reshape(-1).view(np.uint8).data)
        while left:
            count = os.preadv(self._file.number, [left], start)
            if not count:
                raise ValueError(f"{self.path} ends before its rows do: it was cut short while it was open. {AGAIN}")
            start, left = start + count, left[count:]

    @cached_property
    def _start(self) -> int:
        """The address of the file's first byte."""
        start: int = np.frombuffer(self._mapped, dtype=np.uint8).__array_interface__["data"][0]
        return start

    def forget(self) -> None:
        """Give the memory back that was read so far; what is looked at again is read again."""
        self._mapped.madvise(mmap.MADV_DONTNEED)

    def check(self) -> None:
        """Refuse bytes that are not those that the name stands for."""
        digest, bytes_of = hashlib.sha256(), memoryview(self._mapped)
        for start in range(0, len(bytes_of), _HASHED):
            digest.update(bytes_of[start : start + _HASHED])
            self.forget()
        found = digest.hexdigest()
        if found != self.path.name.removesuffix(SUFFIX):
            raise ValueError(f"{self.path} is damaged: its bytes are not those that its name stands for. {AGAIN}")


def write_shard(folder: Path, columns: Mapping[str, NDArray[Any]], beside: Mapping[str, pa.Array]) -> Path:
    """Write structures as a shard of `folder`; gives its place, where it may have been before.

    Args:
        columns: packed, `n_atoms` and `species` among them; labels under `label_name`.
        beside: what else there is of each structure, by names that are no columns'.
    """
    ends = np.concatenate([[0], np.cumsum(columns["n_atoms"])]).astype(np.int32)
    arrays = {name: _as_arrow(property_of(name), values, ends) for name, values in columns.items()}
    arrays |= dict(beside)
    fields = [pa.field(name, array.type, nullable=name not in columns) for name, array in arrays.items()]
    schema = pa.schema(fields, metadata={b"format": str(FORMAT).encode(), b"holds": b"structures"})
    with named_by_content(folder, SUFFIX) as file:
        sink = pa.PythonFile(file, mode="w")
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema))
    assert file.path is not None
    return file.path


class ShardWriter:
    """Writes structures that come piece by piece into shards of a folder.

    Attributes:
        paths: the shards that were written, in order; one is there twice if its bytes are.
        sizes: how many structures each has.
    """

    def __init__(self, folder: Path, most: int = BYTES):
        self._folder, self._most = folder, most
        self._held: list[tuple[Mapping[str, NDArray[Any]], Mapping[str, pa.Array]]] = []
        self._bytes = 0
        self.paths: list[Path] = []
        self.sizes: list[int] = []

    def add(self, columns: Mapping[str, NDArray[Any]], beside: Mapping[str, pa.Array] | None = None) -> None:
        """Take packed structures in; labels that others lack are NaN there."""
        if not len(columns["n_atoms"]):
            return
        size = sum(values.nbytes for values in columns.values())
        if self._held and self._bytes + size > self._most:
            self.flush()
        self._held.append((columns, beside or {}))
        self._bytes += size

    def flush(self) -> None:
        """Write what is held."""
        held, self._held, self._bytes = self._held, [], 0
        if not held:
            return
        names = dict.fromkeys(name for columns, _ in held for name in columns)
        joined = {name: np.concatenate([_or_nan(columns, name) for columns, _ in held]) for name in names}
        beside = {name: pa.concat_arrays([one[name] for _, one in held]) for name in held[0][1]}
        self.sizes.append(len(joined["n_atoms"]))
        self.paths.append(write_shard(self._folder, joined, beside))

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shard of each structure that was written, by its number, and its row there."""
        sizes = np.array(self.sizes, dtype=np.int64)
        row = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(size) for size in sizes)])
        return np.repeat(np.arange(len(sizes)), sizes), row


def _or_nan(columns: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name in columns:
        return columns[name]
    known = property_of(name)
    rows = len(columns["species"] if known.axis is Axis.ATOM else columns["n_atoms"])
    return np.full((rows, *known.shape), np.nan)


def open_shard(path: Path) -> OpenShard:
    """Map a shard into memory; its digest is not looked at.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no shard of this format.
    """
    while True:
        try:
            return _opened(path)
        except OSError as error:
            # Each shard takes two of the files that a process may have open, of which there are few unless it asks.
            if error.errno != errno.EMFILE or not _more_files():
                raise


def _more_files() -> bool:
    """Let this process have twice as many files open, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = 2 * soft if hard == resource.RLIM_INFINITY else min(2 * soft, hard)
    if more <= soft:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    return True


def _opened(path: Path) -> OpenShard:
    try:
        file = _Descriptor(path)
        mapped = mmap.mmap(file.number, 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        said = (reader.schema.metadata or {}).get(b"format")
        if said != str(FORMAT).encode():
            raise ValueError(f"it is of format {said!r}, expected {FORMAT}")
        batch = reader.get_batch(0)
        batch.validate()
        names = [name for name in batch.schema.names if name.partition(":")[0] in COLUMNS]
        columns = {name: _as_numpy(property_of(name), batch.column(name)) for name in names}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist. {AGAIN}") from None
    except (pa.ArrowException, KeyError, OSError, IndexError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            raise
        raise ValueError(f"{path} is no shard of structures: {' '.join(str(error).split())}. {AGAIN}") from None
    atoms = np.concatenate([[0], np.cumsum(columns["n_atoms"])]).astype(np.int64)
    return OpenShard(path, columns, atoms, batch, mapped, file)


def _row_bytes(name: str) -> int:
    """The bytes of one row of a column."""
    known = property_of(name)
    return np.dtype(known.dtype).itemsize * math.prod(known.shape)


def _as_arrow(known: Column, values: NDArray[Any], ends: NDArray[np.int32]) -> pa.Array:
    flat = np.ascontiguousarray(values, dtype=known.dtype).reshape(-1)
    items = pa.array(flat.view(np.uint8) if known.dtype is np.bool_ else flat)
    width = math.prod(known.shape)
    if known.shape:
        kind = pa.list_(pa.field("item", items.type, nullable=False), width)
        items = pa.FixedSizeListArray.from_arrays(items, type=kind)
    if known.axis is Axis.SYSTEM:
        return items
    kind = pa.list_(pa.field("item", items.type, nullable=False))
    return pa.ListArray.from_arrays(pa.array(ends), items, type=kind)


def _as_numpy(known: Column, array: pa.Array) -> NDArray[Any]:
    items = array.values if known.axis is Axis.ATOM else array
    flat = (items.values if known.shape else items).to_numpy(zero_copy_only=True)
    if known.dtype is np.bool_:
        flat = flat.view(np.bool_)
    if flat.dtype != np.dtype(known.dtype):
        raise ValueError(f"{known.name} is {flat.dtype}, expected {np.dtype(known.dtype)}")
    found: NDArray[Any] = flat.reshape(-1, *known.shape)
    return found
