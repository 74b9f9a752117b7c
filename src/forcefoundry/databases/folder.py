"""A folder of columns: shards of structures, an index that says which of their rows are meant, and splits.

HASH.arrow        shards; rows that were set apart stay in them, and are not in the index
index.arrow       a row for each structure: shard, row, n_atoms, key
split.NAME.npy    the structures of a split, by their numbers in the index
manifest.json     which columns there are, under which names the shards have them, and the shards
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forcefoundry.databases.keys import Keys
from forcefoundry.databases.mapped import MappedColumns
from forcefoundry.databases.shards import AGAIN, open_shard
from forcefoundry.files import read_json, write_json, written_whole

Rows = NDArray[np.int64]

FORMAT = 1

INDEX, MANIFEST = "index.arrow", "manifest.json"


@dataclass(frozen=True)
class Contents:
    """What a folder of columns holds.

    Attributes:
        columns: the structures' columns, mapped.
        splits: name to the numbers of its structures.
        partial: labels that not every structure has.
        species: the atomic numbers that occur.
        keys: (n, 32) the structures' content keys.
    """

    columns: MappedColumns
    splits: Mapping[str, Rows]
    partial: tuple[str, ...]
    species: tuple[int, ...]
    keys: Keys


def write_folder(
    folder: Path | str,
    shards: Sequence[Path],
    names: Mapping[str, str],
    rows: tuple[Rows, Rows],
    n_atoms: Rows,
    keys: Keys,
    splits: Mapping[str, Rows],
    partial: Iterable[str],
    species: Iterable[int],
) -> bool:
    """Write a folder that `read_folder` reads; shards are linked into it, or copied if that is not possible.

    Args:
        shards: the files.
        names: column to its name in the shards.
        rows: (n,) the shard of each structure, by its number, and its row there.
        n_atoms, keys: (n,) and (n, 32) of these structures.

    Returns:
        Whether all shards are links: one file on disk, however many names it has.
    """
    linked = True
    with written_whole(folder) as draft:
        draft.mkdir()
        for path in dict.fromkeys(shards):
            linked &= _link(path, draft / path.name)
        _write_index(draft / INDEX, rows, n_atoms, keys)
        for name, members in splits.items():
            _save_array(draft / f"split.{name}.npy", members)
        write_json(
            draft / MANIFEST,
            {
                "format": FORMAT,
                "columns": [list(one) for one in names.items()],
                "partial": sorted(partial),
                "species": sorted(species),
                "splits": list(splits),
                "n_structures": len(keys),
                "shards": [path.name for path in shards],
            },
        )
    return linked


def read_folder(folder: Path | str) -> Contents:
    """Open a folder of columns; nothing but the index is read.

    Raises:
        FileNotFoundError: it holds none, or a file of it is not there.
        ValueError: a file is none of this format.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder} holds no columns: run the load step first.")
    said: dict[str, Any] = read_json(folder / MANIFEST)
    if said.get("format") != FORMAT:
        raise ValueError(f"{folder} holds columns of format {said.get('format')}, expected {FORMAT}. {AGAIN}")
    piece, row, keys = _read_index(folder / INDEX, int(said["n_structures"]))
    shards = [open_shard(folder / name) for name in said["shards"]]
    if any(len(members) and members.max() >= len(shards[at]) for at, members in _by_piece(piece, row, len(shards))):
        raise ValueError(f"{folder / INDEX} names rows that its shards do not have. {AGAIN}")
    splits = {name: np.load(folder / f"split.{name}.npy", allow_pickle=False) for name in said["splits"]}
    return Contents(
        MappedColumns(shards, dict(said["columns"]), piece, row),
        splits,
        tuple(said["partial"]),
        tuple(said["species"]),
        keys,
    )


def _by_piece(piece: Rows, row: Rows, n: int) -> list[tuple[int, Rows]]:
    if len(piece) and (piece.min() < 0 or piece.max() >= n):
        return [(0, np.array([np.iinfo(np.int64).max]))]
    return [(at, row[piece == at]) for at in range(n)]


def _write_index(path: Path, rows: tuple[Rows, Rows], n_atoms: Rows, keys: Keys) -> None:
    columns = [
        pa.array(np.asarray(rows[0], dtype=np.int32)),
        pa.array(np.asarray(rows[1], dtype=np.int32)),
        pa.array(np.asarray(n_atoms, dtype=np.int64)),
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(keys), [None, pa.py_buffer(np.ascontiguousarray(keys))]
        ),
    ]
    names = ["shard", "row", "n_atoms", "key"]
    schema = pa.schema([pa.field(name, one.type, nullable=False) for name, one in zip(names, columns, strict=True)])
    with path.open("wb") as file, pa.ipc.new_file(pa.PythonFile(_Writer(file), mode="w"), schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _read_index(path: Path, n: int) -> tuple[Rows, Rows, Keys]:
    try:
        with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
            batch = reader.get_batch(0)
        piece, row = (batch.column(name).to_numpy().astype(np.int64) for name in ("shard", "row"))
        held = batch.column("key")
        keys = np.frombuffer(held.buffers()[1], dtype=np.uint8, count=32 * len(held)).reshape(-1, 32)
        if not len(piece) == len(row) == len(keys) == n:
            raise ValueError(f"it has {len(piece)} rows, expected {n}")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist. {AGAIN}") from None
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no index of columns: {' '.join(str(error).split())}. {AGAIN}") from None
    return piece, row, keys


def _link(path: Path, place: Path) -> bool:
    try:
        os.link(path, place)
    except OSError:  # another file system, or one that knows no links
        shutil.copyfile(path, place)
        place.chmod(0o444)
        return False
    return True


class _Writer:
    """The `write` of a file and little else: given the file itself, NumPy hides that a disk is full."""

    def __init__(self, file: BinaryIO):
        self.write, self.flush = file.write, file.flush
        self.closed = False

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""


def _save_array(path: Path, values: Rows) -> None:
    with path.open("wb") as file:
        np.save(_Writer(file), np.ascontiguousarray(values), allow_pickle=False)
