"""The index on disk: a file for each of its layers, `index-SHA256.arrow`, named after its bytes like a shard.

Whatever does not fit what lies there now (a shard that is new, changed or gone, an index cut short or altered) is
looked at again; nothing is believed that was not checked once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forcefoundry.files import named_by_content
from forcefoundry.pairs.store.index import Index, Layer
from forcefoundry.pairs.store.shard import FORMAT

log = logging.getLogger(__name__)

_FOR_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES)
"""What says nothing about a file."""


def read_index(folder: Path) -> Index:
    """The index of a folder, as far as it is whole; an empty one where there is none.

    Where two files name one shard the newer one counts: it was written by who had seen more.
    """
    layers: list[Layer] = []
    for path in sorted(folder.glob("index-*.arrow"), key=_age):
        layer = _read_layer(path)
        named = {name for other in layers for name in other.names}
        if layer is not None and not named.intersection(layer.names):
            layers.append(layer)
    return Index(tuple(sorted(layers, key=lambda layer: (-len(layer), layer.file))))


def write_index(folder: Path, index: Index) -> Index:
    """Keep an index for the next time, and remove what was kept before and is no part of it.

    Layers that lie there already are not written. Where nothing can be written, nothing is: it is a convenience. Gives
    the index, whose layers know their files.
    """
    old = list(folder.glob("index-*.arrow"))
    there = {path.name for path in old}
    try:
        layers = [layer if layer.file in there else _written_layer(folder, layer) for layer in index.layers]
    except OSError as error:
        log.info("the index of %s was not kept: %s", folder, error)
        return index
    kept = {layer.file for layer in layers}
    for path in old:
        if path.name not in kept:
            with contextlib.suppress(OSError):
                path.unlink()
    return Index(tuple(layers))


def _read_layer(path: Path) -> Layer | None:
    try:
        # Arrays that were read keep the map alive.
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            said = reader.schema.metadata
            if said[b"format"] != str(FORMAT).encode():
                raise ValueError(f"it is of format {said[b'format'].decode()}, expected {FORMAT}")
            batch = reader.get_batch(0)
        batch.validate()
        key = batch.column("key")
        keys = np.frombuffer(key.buffers()[1], dtype=np.uint8, count=32 * len(key)).reshape(-1, 32)
        shard, row = (batch.column(name).to_numpy() for name in ("shard", "row"))
        if said[b"crc32"] != _check_of(said[b"names"], said[b"stamps"], keys, shard, row):
            raise ValueError("its bytes are not those that were written")
        names, stamps = json.loads(said[b"names"]), json.loads(said[b"stamps"])
        if len(names) != len(stamps) or shard.max(initial=0) >= max(len(names), 1):
            raise ValueError("its parts do not fit together")
        return Layer(tuple(names), tuple((a, b, c) for a, b, c in stamps), keys, shard, row, path.name)
    except FileNotFoundError:
        return None  # another process has just replaced it
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, OSError) and error.errno in _FOR_NOW:
            log.info("the index %s cannot be read now: %s", path, error)
            return None
        log.warning("the index %s cannot be used (%s): it is made again from the shards", path, error)
        with contextlib.suppress(OSError):
            path.unlink()  # the one that is made again may have its name
        return None


def _written_layer(folder: Path, layer: Layer) -> Layer:
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(layer), [None, pa.py_buffer(layer.keys)]),
        pa.array(layer.shard),
        pa.array(layer.row),
    ]
    names, stamps = json.dumps(layer.names).encode(), json.dumps(layer.stamps).encode()
    said = {
        b"format": str(FORMAT).encode(),
        b"names": names,
        b"stamps": stamps,
        b"crc32": _check_of(names, stamps, layer.keys, layer.shard, layer.row),
    }
    batch = pa.RecordBatch.from_arrays(columns, names=["key", "shard", "row"]).replace_schema_metadata(said)
    with (
        named_by_content(folder, ".arrow", "index-", durable=False) as file,
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer,
    ):
        writer.write_batch(batch)
    assert file.path is not None
    return replace(layer, file=file.path.name)


def _check_of(names: bytes, stamps: bytes, *columns: NDArray[Any]) -> bytes:
    """The CRC-32 of a layer's content: read whenever a store is opened, it must take less than a digest does."""
    check = zlib.crc32(stamps, zlib.crc32(names))
    for column in columns:
        check = zlib.crc32(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data, check)
    return f"{check:08x}".encode()


def _age(path: Path) -> int:
    try:
        return -path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
