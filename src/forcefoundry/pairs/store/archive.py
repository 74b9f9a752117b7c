"""Shards for keeping or sending: compressed copies of them, and the way back.

FOLDER/archive.json    format, contract, cutoff, and of each shard its name and size here and in a store
FOLDER/SHA256.arrow    a shard of the same rows, compressed by zstd; named after these bytes
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forcefoundry.files import write_json, written_whole
from forcefoundry.pairs.contract import CONTRACT_VERSION
from forcefoundry.pairs.store.shard import (
    FORMAT,
    DamagedShardError,
    check_digest,
    fits,
    open_shard,
    rows_of,
    write_shard,
)
from forcefoundry.pairs.store.store import PairStore
from forcefoundry.pairs.store.view import read_contents

CONTENTS = "archive.json"


@dataclass(frozen=True)
class Archived:
    """What an archive holds: number of shards, their bytes in a store, and their bytes in the archive."""

    shards: int
    raw_bytes: int
    n_bytes: int


def write_archive(shards: Iterable[Path], cutoff: float, folder: Path | str) -> Archived:
    """Write compressed copies of shards into a new folder; what lies there already, unless an archive, is refused."""
    folder = Path(folder)
    if folder.exists() and not (folder / CONTENTS).is_file() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something that is no archive of pairs. Name another folder.")
    said: list[dict[str, Any]] = []
    with written_whole(folder) as draft:
        draft.mkdir()
        for path in shards:
            check_digest(path)
            _check_fits(path, cutoff)
            shard = open_shard(path)
            made = write_shard(draft, cutoff, shard.keys, rows_of(shard, np.arange(len(shard))), "zstd")
            said.append(
                {
                    "name": made.name,
                    "bytes": made.stat().st_size,
                    "raw": path.name,
                    "raw_bytes": path.stat().st_size,
                    "structures": len(shard),
                }
            )
        contents = {"format": FORMAT, "contract": CONTRACT_VERSION, "cutoff": cutoff, "shards": said}
        write_json(draft / CONTENTS, contents)
    return _archived(said)


def restore_archive(root: Path | str, folder: Path | str) -> tuple[PairStore, Archived]:
    """Put the shards of an archive into the store below `root`, uncompressed, byte for byte as they were.

    Gives the store, and what was in the archive. A damaged archive is a `DamagedShardError`.
    """
    folder = Path(folder)
    said = read_contents(folder / CONTENTS, "Compute them again.")
    store = PairStore(root, float(said["cutoff"]))
    for one in said["shards"]:
        path = folder / one["name"]
        try:
            check_digest(path)
        except DamagedShardError:
            raise DamagedShardError(f"{path} is damaged. Take another copy of the archive.") from None
        _check_fits(path, store.cutoff)
        shard = open_shard(path)
        # Another version of Arrow may lay out a file in another way and so give it another name: the rows are the same.
        store.write(shard.keys, rows_of(shard, np.arange(len(shard))))
    store.refresh()
    return store, _archived(said["shards"])


def _check_fits(path: Path, cutoff: float) -> None:
    """Refuse a shard that does not say itself what the list beside it says of it."""
    if not fits(path, cutoff):
        raise DamagedShardError(
            f"{path} does not hold pairs within {cutoff} Å, as the list beside it says. Somebody changed the list: "
            "take another copy, or run precompute_pairs again."
        )


def _archived(said: list[dict[str, Any]]) -> Archived:
    return Archived(len(said), sum(one["raw_bytes"] for one in said), sum(one["bytes"] for one in said))
