"""What the steps after `load` share: where files lie, the device, and the graph with its cached pairs."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forcefoundry.databases import Database
    from forcefoundry.databases.keys import Keys
    from forcefoundry.objectives import Objective
    from forcefoundry.pairs import PairStore, PairTable

logger = logging.getLogger(__name__)

LOAD = Path("artifacts/load")
QUARANTINE = LOAD / "quarantine.sqlite"
REVIEWS = Path("reviews.yaml")
PAIRS = Path("artifacts/precompute_pairs")
ASSEMBLE = Path("artifacts/assemble")
TRAIN = Path("artifacts/train")
EVALUATE = Path("artifacts/evaluate")
SCRATCH = Path(".forcefoundry/scratch")
OWN_STORE = Path(".forcefoundry/pairs")

_LIBRARY = "src/forcefoundry"
DATA_CODE = tuple(f"{_LIBRARY}/{part}" for part in ("columns.py", "files.py", "databases"))
PAIR_CODE = (*DATA_CODE, f"{_LIBRARY}/pairs")
"""A network's code is not among these: changing it computes no pair."""
PAIR_PARAMS = ("pairs.cutoff", "pairs.source")
"""Which finder finds the pairs is not among these: all find the same, to the last bit."""
MODEL_CODE = (
    *PAIR_CODE,
    *(f"{_LIBRARY}/{part}" for part in ("graph", "inputs.py", "networks", "targets", "losses", "objectives.py")),
    f"{_LIBRARY}/build.py",
    f"{_LIBRARY}/interfaces",
    f"{_LIBRARY}/experiment",
)


def store_root() -> Path:
    """Where this machine keeps its pairs: FORCEFOUNDRY_STORE, or a folder of the user's cache."""
    given = os.environ.get("FORCEFOUNDRY_STORE")
    if given:
        # Absolute, so that it is one store wherever a step is started; ~ as a shell would have read it.
        return Path(os.path.expanduser(given)).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forcefoundry" / "pairs"


def writable_store(cutoff: float) -> PairStore:
    """The machine's pair store or, where nothing can be written there, one of the workspace's own."""
    from forcefoundry.pairs import PairStore
    from forcefoundry.pairs.store.folders import can_write, register_workspace

    store = PairStore(store_root(), cutoff)
    if can_write(store.root) and can_write(store.folder):
        register_workspace(store.root, Path.cwd())
        return store
    logger.warning("the pair store %s cannot be written: this workspace keeps its pairs in %s", store.root, OWN_STORE)
    return PairStore(OWN_STORE, cutoff)


def choose_device(params: Mapping[str, Any]) -> str:
    """The device of `hardware.device`: `auto` takes CUDA where there is one; `cuda` where there is none is an error."""
    asked = str(params["hardware"]["device"])
    if asked not in ("auto", "cpu", "cuda"):
        raise ValueError(f"hardware.device is {asked!r}, expected auto, cpu or cuda.")
    if asked == "cpu":
        return asked
    import torch  # a second and 200 MB, which the pairs of a CPU do not need

    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("hardware.device is cuda, but torch sees no CUDA device. Set hardware=cpu or hardware=auto.")
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare_process(params: Mapping[str, Any]) -> None:
    """As many threads as the parameters say, tiny numbers rounded to zero, and memory that is kept once it is had."""
    import torch

    torch.set_num_threads(int(params["hardware"]["threads"]))
    torch.set_flush_denormal(True)
    _keep_memory()


def _keep_memory() -> None:
    """Tell glibc's allocator to keep freed memory: a training step asks for the same megabytes again each time.

    Elsewhere than on glibc nothing happens.
    """
    most_mapped, trim_threshold, top_padding = -4, -1, -2  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(most_mapped, 0)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(top_padding, 64 * 2**20)


def load_columns() -> Database:
    """The columns that the load step wrote."""
    from forcefoundry.databases import Database

    return Database.load(LOAD / "columns")


def assembled_with_pairs(
    params: Mapping[str, Any], database: Database, objective: Objective, plot_maker: Any = None
) -> tuple[Any, dict[str, list[str]]]:
    """Assemble, let the graph read its pairs from the cache where `pairs.source` says so, and assemble again."""
    from forcefoundry.experiment.assembly import assemble_for_training
    from forcefoundry.pairs.cache import use_cache

    modules, info = assemble_for_training(objective.train_loss, objective.validation_losses, plot_maker=plot_maker)
    if params["pairs"]["source"] == "cache":
        cutoff = float(params["pairs"]["cutoff"])
        use_cache(modules.model.outputs, database, {cutoff: kept_pairs(database, cutoff)})
        modules, info = assemble_for_training(objective.train_loss, objective.validation_losses, plot_maker=plot_maker)
    database.inputs, database.targets = info["inputs"], info["targets"]
    return modules, info


def kept_pairs(database: Database, cutoff: float) -> PairTable:
    """The pairs of a database out of the machine's store."""
    return pairs_of(database.keys(), database.n_atoms, cutoff)


def pairs_of(keys: Keys, n_atoms: NDArray[np.int64], cutoff: float) -> PairTable:
    """The pairs of structures, by their keys (n, 32) and numbers of atoms (n,), out of the machine's store.

    What the store lacks, after `dvc pull` or once it was cleaned, is linked into it from the shards that the workspace
    holds.
    """
    from forcefoundry.pairs import PairStore

    store = PairStore(store_root(), cutoff)
    if len(store.missing(keys)):
        store = writable_store(cutoff)
        adopted = store.adopt_folder(PAIRS / "shards")
        logger.info("%d shards that this workspace holds were linked into the pair store %s", adopted, store.root)
    return store.table(keys, n_atoms)


def progress_bar(items: Any, what: str, unit: str, total: int | None = None) -> Any:
    """A progress bar on stderr, quiet where that is no terminal. total: how many items, where they do not say."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)
