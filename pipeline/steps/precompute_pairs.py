"""precompute_pairs: the pairs of every structure, computed once on this machine and linked into the workspace."""

from __future__ import annotations

import configparser
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from forcefoundry.files import write_json, written_whole
from pipeline.step import Step
from pipeline.steps.workspace import LOAD, PAIR_CODE, PAIRS, choose_device, load_columns, progress_bar, store_root

if TYPE_CHECKING:
    from forcefoundry.pairs import PairStore

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/precompute_pairs/: shards (hard links into the store), digest.json and a receipt."""
    from forcefoundry.databases.keys import keys_of
    from forcefoundry.pairs import CONTRACT_VERSION, PairStore, store_folder
    from forcefoundry.pairs.cache import digest_of, fill_cache
    from forcefoundry.pairs.finders import make_finder
    from forcefoundry.pairs.store import link_or_copy

    started = time.perf_counter()
    database, pairs = load_columns(), params["pairs"]
    cutoff = float(pairs["cutoff"])
    if pairs["source"] not in ("cache", "on_the_fly"):
        raise ValueError(f"pairs.source is {pairs['source']!r}, expected cache or on_the_fly.")
    device = choose_device(params)
    finder = make_finder(str(pairs["finder"]), str(device))
    logger.info("pairs within %g Å on %s", cutoff, "the GPU" if device.type == "cuda" else "the CPU (no GPU is used)")
    store = PairStore(store_folder(store_root(), cutoff), cutoff)
    keys = keys_of(database.columns) if pairs["source"] == "cache" else []
    adopted = store.adopt(PAIRS / "shards") + _adopt_from_dvc(store)
    if adopted:
        logger.info("%d shards came with this workspace and were linked into the store", adopted)
    computed = 0
    if keys:
        computed = fill_cache(database, store, finder, lambda todo: progress_bar(todo, "pairs", "structures"))
    shards = store.shards_of(keys)
    with written_whole(PAIRS / "shards") as draft:
        draft.mkdir()
        copied = [shard.name for shard in shards if not link_or_copy(shard, draft / shard.name)]
    if copied:
        logger.info("the store is on another file system: %d shards were copied, not linked", len(copied))
    held = store.where()
    n_pairs = 2 * sum(store.n_half_pairs(key) for key in keys)
    write_json(
        PAIRS / "digest.json",
        {
            "source": pairs["source"],
            "digest": digest_of(keys, cutoff),
            "cutoff": cutoff,
            "contract": CONTRACT_VERSION,
            "n_structures": len(keys),
            "n_pairs": n_pairs,
        },
    )
    write_json(
        PAIRS / "receipt.json",
        {
            "computed": computed,
            "kept": len({key for key in keys if key in held}) - computed,
            "seconds": round(time.perf_counter() - started, 3),
            "bytes": sum(shard.stat().st_size for shard in shards),
            "device": device.type,
        },
    )


def _adopt_from_dvc(store: PairStore) -> int:
    """Link the shards that DVC holds of the last run into the store; the number of shards that were new there.

    On a machine whose store is empty the shards came with `dvc pull`. But before it runs a stage DVC deletes the
    stage's old outputs, so what the workspace held is to be had from DVC's cache alone; dvc.lock says where.
    """
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    outs = {out["path"]: out.get("md5", "") for out in stages.get("precompute_pairs", {}).get("outs", ())}
    cache = _dvc_cache()
    listing = _cached(cache, outs.get(str(PAIRS / "shards"), ""))
    if listing is None:
        return 0
    entries = json.loads(listing.read_text(encoding="utf-8"))
    found = {entry["relpath"]: _cached(cache, entry["md5"]) for entry in entries}
    return store.adopt_files({name: path for name, path in found.items() if path is not None})


def _dvc_cache() -> Path:
    """DVC's cache folder: cache.dir of its configuration, the local one first, relative to the folder .dvc."""
    for name in ("config.local", "config"):
        config = configparser.ConfigParser(interpolation=None)
        config.read(Path(".dvc") / name, encoding="utf-8")
        folder = config.get("cache", "dir", fallback=None)
        if folder:
            return Path(".dvc") / folder
    return Path(".dvc") / "cache"


def _cached(cache: Path, md5: str) -> Path | None:
    path = cache / "files" / "md5" / md5[:2] / md5[2:]
    return path if md5 and path.is_file() else None


STEP = Step(
    "precompute_pairs",
    run,
    deps=("pipeline/steps/precompute_pairs.py", *PAIR_CODE, str(LOAD / "columns")),
    params=("pairs",),
    outs=(str(PAIRS / "shards"), str(PAIRS / "digest.json"), str(PAIRS / "receipt.json")),
    gpu=True,
)
