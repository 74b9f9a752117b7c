"""What a workspace holds of the store: hard links to the shards of one data set, and a manifest beside them.

    FOLDER/manifest.json   format, contract, cutoff, number of structures and pairs, and the shards with their sizes
    FOLDER/SHA256.arrow    links into the store: one file on disk, however many names it has

This is what DVC versions. Shards never change, so of a data set that grew DVC hashes and pushes only what is new.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forcefoundry.databases.keys import Keys
from forcefoundry.files import read_json, write_json, written_whole
from forcefoundry.pairs.contract import CONTRACT_VERSION
from forcefoundry.pairs.store.folders import link_or_copy
from forcefoundry.pairs.store.shard import FORMAT
from forcefoundry.pairs.store.store import PairStore

MANIFEST = "manifest.json"


def write_view(store: PairStore, keys: Keys, folder: Path | str) -> dict[str, Any]:
    """Link the shards that hold the given structures into `folder`; gives the manifest, and `copied` with it.

    `copied` is the number of shards that could not be linked, since the store is on another file system or its files
    are another user's, and were copied; the manifest on disk does not say so, for it says what the data are.
    """
    folder = Path(folder)
    shards = store.shards_of(keys)
    copied = 0
    with written_whole(folder) as draft:
        draft.mkdir()
        for shard in shards:
            copied += not link_or_copy(shard, draft / shard.name)
        manifest = {
            "format": FORMAT,
            "contract": CONTRACT_VERSION,
            "cutoff": store.cutoff,
            "structures": len(keys),
            "pairs": store.n_pairs(keys),
            "shards": [
                {"name": shard.name, "bytes": shard.stat().st_size, "structures": len(store.shard(shard.name))}
                for shard in shards
            ],
        }
        write_json(draft / MANIFEST, manifest)
    return {**manifest, "copied": copied}


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of a view. One of another format, or that is no manifest, is a ValueError that says so."""
    return read_contents(Path(folder) / MANIFEST, "Run precompute_pairs again.")


def read_contents(path: Path, remedy: str) -> dict[str, Any]:
    """A list of shards with what they are, as JSON; what cannot be one is a ValueError with its name and a remedy."""
    try:
        said = read_json(path)
        shards = [(str(one["name"]), int(one["bytes"])) for one in said["shards"]]
        known = (int(said["format"]), int(said["contract"]), float(said["cutoff"]), shards)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no list of shards that can be read ({error!r}). {remedy}") from None
    if known[:2] != (FORMAT, CONTRACT_VERSION):
        raise ValueError(
            f"{path.parent} holds pairs of format {known[0]} by contract {known[1]}, expected {FORMAT} and "
            f"{CONTRACT_VERSION}. {remedy}"
        )
    contents: dict[str, Any] = said
    return contents
