"""precompute_pairs: the pairs of every structure, computed once on this machine and linked into the workspace."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefoundry.files import write_json
from pipeline.listings import LOCK, UnknownListingError, cache_folder, files_of
from pipeline.step import Step
from pipeline.steps.workspace import LOAD, PAIR_CODE, PAIR_PARAMS, PAIRS, choose_device, store_root, writable_store

if TYPE_CHECKING:
    from forcefoundry.databases import Database
    from forcefoundry.databases.keys import Keys
    from forcefoundry.pairs import PairStore
    from forcefoundry.pairs.store import Filled

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/precompute_pairs/: shards (hard links into the store), digest.json and a receipt.

    Structures are read from disk piece by piece: memory does not grow with their number.
    """
    import numpy as np

    from forcefoundry.databases import Database
    from forcefoundry.pairs import CONTRACT_VERSION
    from forcefoundry.pairs.digest import digest_of, distinct
    from forcefoundry.pairs.store.merging import merge_small
    from forcefoundry.pairs.store.view import write_view

    started = time.perf_counter()
    cutoff, source = float(params["pairs"]["cutoff"]), params["pairs"]["source"]
    if source not in ("cache", "on_the_fly"):
        raise ValueError(f"pairs.source is {source!r}, expected cache or on_the_fly.")
    store = writable_store(cutoff)
    structures = Database.load(LOAD / "columns")
    keys = structures.keys() if source == "cache" else np.zeros((0, 32), dtype=np.uint8)
    _adopt(store, keys)
    device = choose_device(params)
    filled = _fill(store, keys, structures, params, device)
    merged = merge_small(store, keys)
    if merged:
        logger.info("many small shards were merged into %d", len(merged))
    view = write_view(store, keys, PAIRS / "shards")
    if view["copied"]:
        logger.info(
            "no hard links can be made into the store %s (another file system, or another user's files): "
            "%d shards were copied, not linked",
            store.root,
            view["copied"],
        )
    write_json(
        PAIRS / "digest.json",
        {
            "source": source,
            "digest": digest_of(keys, cutoff),
            "cutoff": cutoff,
            "contract": CONTRACT_VERSION,
            "n_structures": len(keys),
            "n_pairs": view["pairs"],
        },
    )
    write_json(
        PAIRS / "receipt.json",
        {
            "computed": filled.structures,
            "computed_pairs": filled.pairs,
            "kept": len(distinct(keys)) - filled.structures,
            "seconds": round(time.perf_counter() - started, 3),
            "bytes": sum(shard["bytes"] for shard in view["shards"]),
            "device": device,
        },
    )


def _fill(store: PairStore, keys: Keys, structures: Database, params: Mapping[str, Any], device: str) -> Filled:
    """Compute what the store lacks."""
    from forcefoundry.pairs.finders import make_finder
    from forcefoundry.pairs.store import Filled, fill

    missing = store.missing(keys)
    if not len(missing):
        return Filled(0, 0, 0.0)
    finder = make_finder(str(params["pairs"]["finder"]), device, int(params["hardware"]["threads"]))
    logger.info(
        "pairs within %g Å of %d structures by %s on %s",
        store.cutoff,
        len(missing),
        type(finder).__name__,
        "the GPU" if device == "cuda" else "the CPU (no GPU is used)",
    )
    with _Progress(len(missing)) as progress:
        return fill(store, keys, structures, finder, progress, missing)


class _Progress:
    """Shows how far the pairs are: a bar on a terminal, a line every half minute in a log."""

    def __init__(self, n_structures: int, every: float = 30.0):
        from tqdm import tqdm

        self._total, self._done, self._pairs = n_structures, 0, 0
        self._started = self._said = time.monotonic()
        self._every = every
        self._bar = tqdm(
            total=n_structures, desc="pairs", unit=" structures", disable=None, leave=False, dynamic_ncols=True
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, structures: int, pairs: int) -> None:
        """So many structures and ordered pairs more are done."""
        self._done, self._pairs = self._done + structures, self._pairs + pairs
        now = time.monotonic()
        passed = max(now - self._started, 1e-9)
        speed = f"{self._pairs / passed / 1e6:.1f} million pairs/s"
        self._bar.set_postfix_str(speed, refresh=False)
        self._bar.update(structures)
        if self._bar.disable and now - self._said >= self._every:
            self._said = now
            left = passed / self._done * (self._total - self._done)
            logger.info(
                "pairs: %d of %d structures, %.0f structures/s, %s, about %.0f s left",
                self._done,
                self._total,
                self._done / passed,
                speed,
                left,
            )


def _adopt(store: PairStore, keys: Keys) -> None:
    """Link into the store what this workspace, DVC or a store that cannot be written hold of these structures."""
    from forcefoundry.pairs import PairStore

    new = store.adopt_folder(PAIRS / "shards") + _adopt_from_dvc(store)
    if new:
        logger.info("%d shards came with this workspace and were linked into the store", new)
    if store.root != store_root():
        others = PairStore(store_root(), store.cutoff).shards_of(keys[store.missing(keys)])
        store.adopt({path.name: path for path in others})


def _adopt_from_dvc(store: PairStore) -> int:
    """Link the shards that DVC holds of the last run into the store; the number of shards that were new there.

    On a machine whose store is empty the shards came with `dvc pull`. But before it runs a stage DVC deletes the
    stage's old outputs, so what the workspace held is to be had from DVC's cache alone; dvc.lock says where.
    """
    lock = Path(LOCK)
    if not lock.exists():
        return 0
    try:
        found = files_of(lock.read_text(encoding="utf-8"), PAIRS / "shards", cache_folder(Path()), str(lock))
    except UnknownListingError:
        return 0  # DVC's cache has nothing of that run
    return store.adopt({name: path for name, path in found.items() if path is not None})


STEP = Step(
    "precompute_pairs",
    run,
    deps=("pipeline/steps/precompute_pairs.py", *PAIR_CODE, str(LOAD / "columns")),
    params=PAIR_PARAMS,
    outs=(str(PAIRS / "shards"), str(PAIRS / "digest.json"), str(PAIRS / "receipt.json")),
    gpu=True,
)
