"""Files read once: rows into shards of structures, what is wrong with rows beside them, kept by the files' content.

Files of one official split that follow one another are read together up to some size, so that a folder of thousands of
small ones makes few shards. What was read once is found again by the sha256 of the files and by what was asked of them.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forcefoundry.contract.row_ids import row_id
from forcefoundry.contract.row_text import row_text
from forcefoundry.databases.blocks import Asked, Block, Candidate, blocks
from forcefoundry.databases.faults import Fault
from forcefoundry.databases.formats import read_rows
from forcefoundry.databases.labels import Carried
from forcefoundry.databases.rows import Source
from forcefoundry.databases.shards import OpenShard, ShardWriter, label_name, open_shard
from forcefoundry.files import read_json, write_json, written_whole

Progress = Callable[[Iterable[Any]], Iterable[Any]]

TOGETHER = 4 * 2**20
"""Bytes of files that are read as one unit."""

_RECEIPT, _FAULTS = "unit.json", "faults.jsonl"


@dataclass(frozen=True)
class KeptFault:
    """A row that is wrong, or a label of it: as `Fault`, with where it stands, its id, and the row as text or bytes."""

    row: int
    where: str
    check: str
    candidate: Candidate | None
    what: str
    got: str
    expected: str
    remedy: str
    id: str
    text: str | None
    raw: bytes | None


@dataclass(frozen=True)
class Files:
    """Files that are read together; `digests` are their sha256, None for what no file holds."""

    sources: tuple[Source, ...]
    digests: tuple[str | None, ...]

    @property
    def split(self) -> str | None:
        """The official split that they stand for."""
        return self.sources[0].split


@dataclass(frozen=True)
class Unit:
    """What was read of some files.

    Attributes:
        files: which ones.
        folder: where it is kept.
        n_rows: (files,) how many rows each has, wrong ones among them.
        shards: the rows that are structures, in their order. Beside their columns: `number`, among all rows of the
            unit, `file`, `place`, `kind`, `group`, `official`, `isolated`.
        faults: rows that are wrong, in their order.
        carried: how many rows carry each key, and where.
    """

    files: Files
    folder: Path
    n_rows: NDArray[np.int64]
    shards: tuple[OpenShard, ...]
    faults: Sequence[KeptFault]
    carried: Carried


def grouped(sources: Sequence[Source]) -> list[Files]:
    """The files in groups that are read together, with the sha256 of each."""
    found: list[list[Source]] = []
    size = 0
    for source in sources:
        own = source.place.stat().st_size if isinstance(source.place, Path) and source.place.is_file() else TOGETHER
        if found and found[-1][0].split == source.split and size + own <= TOGETHER:
            found[-1].append(source)
            size += own
        else:
            found.append([source])
            size = own
    return [Files(tuple(group), tuple(_digest(one.place) for one in group)) for group in found]


def unit_key(files: Files, asked: Asked) -> str | None:
    """A name for what will be read: of the files' bytes and of what is asked; None where bytes are not to be had."""
    if None in files.digests:
        return None
    # A file's ending may say how it is packed.
    told = [list(files.digests), [Path(source.name).suffix for source in files.sources], _told(asked), code_digest()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def unit_of(files: Files, asked: Asked, scratch: Path, progress: Progress) -> Unit:
    """What the files hold: as it was kept below `scratch`, or read now and kept there."""
    key = unit_key(files, asked)
    folder = scratch / "units" / (key or hashlib.sha256(files.sources[0].name.encode()).hexdigest())
    if key is None or not (folder / _RECEIPT).is_file():
        _read(files, asked, folder, progress)
        _give_memory_back()
    os.utime(folder)
    return _opened(files, folder)


@cache
def code_digest() -> str:
    """The sha256 over the code that makes columns of rows and judges them: other code reads anew."""
    import forcefoundry

    root = Path(forcefoundry.__file__).parent
    total = hashlib.sha256()
    for path in sorted([*(root / "contract").rglob("*.py"), *(root / "databases").rglob("*.py"), root / "columns.py"]):
        total.update(path.read_bytes())
    return total.hexdigest()


def _told(asked: Asked) -> list[Any]:
    readings = [(one, asked.reading(one)) for one in asked.candidates()]
    candidates = [[*one, None if read is None else asdict(read)] for one, read in readings]
    lengths = [asked.units.of(name).factor for name in ("positions", "cell")]
    return [candidates, lengths, asked.format, asked.group, asked.column]


def _digest(place: Any) -> str | None:
    if not isinstance(place, Path) or not place.is_file():
        return None
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(files: Files, asked: Asked, folder: Path, progress: Progress) -> None:
    with written_whole(folder) as draft, _fewer_collections():
        draft.mkdir()
        writer = ShardWriter(draft)
        of_file: list[int] = []
        n_rows = [0] * len(files.sources)
        carried: dict[str, Counter[str]] = {}
        first = 0
        with (draft / _FAULTS).open("w", encoding="utf-8") as faults:
            for block in blocks(progress(_rows(files, asked.format, of_file, n_rows)), asked):
                writer.add(*_for_shard(block, first, of_file))
                for fault in block.faults:
                    faults.write(json.dumps(_plain(fault, block.where[fault.row - first])) + "\n")
                for key, places in block.carried.items():
                    carried.setdefault(key, Counter()).update(places)
                del of_file[: block.n_rows]
                first += block.n_rows
        writer.flush()
        receipt = {
            "n_rows": n_rows,
            "shards": [path.name for path in writer.paths],
            "carried": [[key, dict(places)] for key, places in carried.items()],  # in the order of first sight
        }
        write_json(draft / _RECEIPT, receipt)


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """Let Python look for circles among objects less often: rows make very many objects, and took a fifth longer."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _give_memory_back() -> None:
    """Ask glibc's allocator to return what small objects have left; elsewhere nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _rows(files: Files, format_name: str, of_file: list[int], n_rows: list[int]) -> Iterator[tuple[str, Any]]:
    """The rows of all files; the number of each one's file goes into `of_file`, and rows are counted by file."""
    for at, source in enumerate(files.sources):
        for row in read_rows(format_name, source.place, unreadable="yield"):
            of_file.append(at)
            n_rows[at] += 1
            yield row


def _for_shard(block: Block, first: int, of_file: Sequence[int]) -> tuple[dict[str, NDArray[Any]], dict[str, pa.Array]]:
    """What a shard keeps of a block whose first row has the number `first`."""
    inside = (block.numbers - first).tolist()
    columns = {**block.columns, **{label_name(*one): values for one, values in block.labels.items()}}
    return columns, {
        "number": pa.array(block.numbers),
        "file": pa.array([of_file[at] for at in inside], type=pa.int32()),
        "place": pa.array([block.where[at] for at in inside], type=pa.string()),
        "kind": pa.array(block.kinds, type=pa.string()),
        "group": pa.array(block.groups, type=pa.string()),
        "official": pa.array(block.official, type=pa.string()),
        "isolated": pa.array(block.isolated),
    }


def _plain(fault: Fault, where: str) -> dict[str, Any]:
    content = fault.content
    raw = content if isinstance(content, bytes) else b"" if content is None else None
    return {
        "row": fault.row,
        "where": where,
        "check": fault.check,
        "candidate": None if fault.candidate is None else list(fault.candidate),
        "what": fault.what,
        "got": fault.got,
        "expected": fault.expected,
        "remedy": fault.remedy,
        "id": row_id(raw if raw is not None else content, where),
        "text": None if raw is not None else row_text(content),
        "raw": None if raw is None else base64.b64encode(raw).decode(),
    }


def _opened(files: Files, folder: Path) -> Unit:
    receipt = read_json(folder / _RECEIPT)
    faults = []
    with (folder / _FAULTS).open(encoding="utf-8") as lines:
        for line in lines:
            said = json.loads(line)
            said["candidate"] = None if said["candidate"] is None else Candidate(*said["candidate"])
            said["raw"] = None if said["raw"] is None else base64.b64decode(said["raw"])
            faults.append(KeptFault(**said))
    return Unit(
        files,
        folder,
        np.array(receipt["n_rows"], dtype=np.int64),
        tuple(open_shard(folder / name) for name in receipt["shards"]),
        faults,
        {key: Counter(places) for key, places in receipt["carried"]},
    )
