"""ASE databases in LMDB (*.aselmdb), as fairchem's sets come: one file, or a folder of them.

Entries are JSON, packed by zlib, under a row's id. They are read by lmdb itself: ase-db-backends would open the file
for writing and brings the clients of two database servers. A process of its own reads: liblmdb maps the file into
memory and crashes where a damaged one leads it astray. Pages of the file count as memory of that process until the
system wants them back; of its own it holds some megabytes. Nothing may write to the file meanwhile.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from forcefoundry.databases.formats._apart import read_apart
from forcefoundry.databases.formats._rows import atoms_of
from forcefoundry.databases.formats._told import told
from forcefoundry.databases.formats._unreadable import Unreadable

PIECE = 1 << 20
"""Packed bytes that are handed over at once."""

NOT = "cannot be read as an ASE-LMDB database"
"""What an error says of a row or a file."""

_ALONE = "data.mdb"  # what LMDB names the file where a database is a folder
_RESERVED = ("nextid", "deleted_ids", "metadata")


def read(path: Path) -> Iterator[Any]:
    """The rows in the order of their ids, files in the order of their names; Unreadable where an entry is damaged."""
    for file in sources(path):
        name = f"{file.name}, " if file.parent == path and file.name != _ALONE else ""
        for packed in read_apart(__name__, file):
            for number, entry in packed:
                try:
                    atoms = atoms_of(_row(number, entry))
                except Exception as error:  # zlib, JSON and ASE raise whatever they stumble over
                    atoms = Unreadable.because(error, entry)
                yield f"{name}row {number}", atoms


def pieces(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """What `read` asks its own process for: ids and packed entries, some at a time."""
    import lmdb

    with told(str(path), NOT):
        if path.is_file() and path.stat().st_size == 0:
            raise ValueError("the file is empty")
        env = lmdb.open(str(path), subdir=False, create=False, readonly=True, lock=False)
    with env, env.begin() as transaction:
        with told(str(path), NOT):
            _check_sound(path, env)
            ids = _ids(transaction)
        some: list[tuple[int, bytes]] = []
        size = 0
        for number in ids:
            with told(f"{path}, row {number}", NOT):
                entry = transaction.get(str(number).encode())
                if entry is None:
                    raise ValueError("the row is missing, though the database counts it")
            some.append((number, bytes(entry)))
            size += len(entry)
            if size >= PIECE:
                yield some
                some, size = [], 0
        yield some


def sources(path: Path) -> list[Path]:
    """The files of a folder, or the file itself; a folder may be one of LMDB's own too."""
    if path.is_file():
        return [path]
    if (path / _ALONE).exists():
        return [path / _ALONE]
    files = sorted(file for file in path.iterdir() if file.suffix in (".aselmdb", ".lmdb"))
    if not files:
        raise ValueError(
            f"The folder {path} holds no *.aselmdb files. Set database.path to the file, or to their folder."
        )
    return files


def _ids(transaction: Any) -> Iterator[int]:
    # The books are checked before the first id is given; none of the ids are held. Plain JSON: ASE's own decoder would
    # take a second to import.
    packed = {name: transaction.get(name.encode()) for name in _RESERVED}
    held = {name: json.loads(zlib.decompress(entry)) for name, entry in packed.items() if entry is not None}
    entries = transaction.stat()["entries"]
    if "nextid" not in held and entries:
        raise ValueError("it has no entry 'nextid', as ASE's databases have")
    deleted = set(held.get("deleted_ids", ()))
    numbers = range(1, int(held.get("nextid", 1)))
    count = len(numbers) - sum(number in numbers for number in deleted)
    if count + len(held) != entries:
        raise ValueError(f"it counts {count} rows, but has {entries - len(held)} entries beside its own books")
    return (number for number in numbers if number not in deleted)


def _check_sound(path: Path, env: Any) -> None:
    # LMDB keeps the books of its last two transactions, and takes the older when the newer are damaged: rows would be
    # gone unseen. Their numbers follow each other; they stand at byte 144 of the first two pages.
    size = env.stat()["psize"]
    with path.open("rb") as file:
        numbers = []
        for page in (0, 1):
            file.seek(page * size + 144)
            numbers.append(int.from_bytes(file.read(8), "little"))
    used, held = (env.info()["last_pgno"] + 1) * size, path.stat().st_size
    if held < used:
        raise ValueError(f"it has {held} bytes, but its books speak of {used}: it was cut short")
    if env.stat()["entries"] == 0 and held > 2 * size:
        raise ValueError(f"its books speak of no entries, but it has {held} bytes: it is damaged, or was never filled")
    if abs(numbers[0] - numbers[1]) > 1 or env.info()["last_txnid"] != max(numbers):
        raise ValueError(f"its last transactions are numbered {numbers}, expected neighbours: it is damaged")


def _row(number: int, packed: bytes) -> Any:
    jsonio, row_type, all_properties = _ase()
    values = jsonio.numpyfy(_numbered(_decoded(zlib.decompress(packed))))
    if not isinstance(values, dict) or "numbers" not in values:
        raise ValueError("the entry is no structure")
    values |= {key: np.array(values[key]) for key in all_properties if isinstance(values.get(key), list)}
    return row_type(values | {"id": number})


@cache
def _ase() -> tuple[Any, Any, list[str]]:
    # Half a second, and not before rows are read.
    from ase.calculators.calculator import all_properties
    from ase.db.row import AtomsRow
    from ase.io import jsonio

    return jsonio, AtomsRow, all_properties


class _LargeError(Exception):
    """A number that orjson may have made a float of, and ASE's decoder a whole one."""


def _decoded(text: bytes) -> Any:
    """What ASE's decoder makes of JSON, by orjson, which is several times faster.

    ASE's decodes what orjson refuses (NaN, numbers beyond float64), and where there are numbers beyond 64 bits.
    """
    try:
        return _hooked(orjson.loads(text))
    except (orjson.JSONDecodeError, _LargeError):
        return _ase()[0].mydecode(text.decode("utf-8"))


def _hooked(held: Any) -> Any:
    # What ASE's decoder makes of objects, the inner ones first.
    if type(held) is list:
        return [_hooked(one) for one in held]
    if type(held) is not dict:
        _check_small(held)
        return held
    if "__ndarray__" not in held:
        for key, value in held.items():
            if type(value) in (dict, list, float):
                held[key] = _hooked(value)
    elif str(held["__ndarray__"][1])[:1] in "iu":  # into others a float goes as a whole number does
        for value in held["__ndarray__"][2]:
            _check_small(value)
    return _ase()[0].object_hook(held)


def _check_small(value: Any) -> None:
    if type(value) is float and abs(value) >= 2.0**63:
        raise _LargeError


def _numbered(held: Any) -> Any:
    # Keys that are numbers, which JSON writes as texts. As ASE does it; but what begins with a letter is no number.
    if not isinstance(held, dict):
        return held
    for key, value in held.items():
        if isinstance(value, dict):
            held[key] = _numbered(value)
    if all(key[:1].isalpha() for key in held):
        return held
    return {key if key[:1].isalpha() else _ase()[0].intkey(key): value for key, value in held.items()}
