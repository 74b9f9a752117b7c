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
    import torch

    from forcefoundry.databases import Database
    from forcefoundry.objectives import Objective

logger = logging.getLogger(__name__)

LOAD = Path("artifacts/load")
PAIRS = Path("artifacts/precompute_pairs")
ASSEMBLE = Path("artifacts/assemble")
TRAIN = Path("artifacts/train")
EVALUATE = Path("artifacts/evaluate")
SCRATCH = Path(".forcefoundry/scratch")

_LIBRARY = "src/forcefoundry"
DATA_CODE = tuple(f"{_LIBRARY}/{part}" for part in ("columns.py", "files.py", "databases"))
PAIR_CODE = (*DATA_CODE, f"{_LIBRARY}/pairs")
"""A network's code is not among these: changing it computes no pair."""
MODEL_CODE = (
    *PAIR_CODE,
    *(f"{_LIBRARY}/{part}" for part in ("graph", "inputs.py", "networks", "targets", "losses", "objectives.py")),
    f"{_LIBRARY}/build.py",
    f"{_LIBRARY}/interfaces",
    f"{_LIBRARY}/experiment",
)


def store_root() -> Path:
    """Where this machine keeps its pairs: FORCEFOUNDRY_STORE, or a folder of the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forcefoundry" / "pairs"
    return Path(os.environ.get("FORCEFOUNDRY_STORE") or default)


def choose_device(params: Mapping[str, Any]) -> torch.device:
    """The device of `hardware.device`: `auto` takes CUDA where there is one; `cuda` where there is none is an error."""
    import torch

    asked = str(params["hardware"]["device"])
    if asked not in ("auto", "cpu", "cuda"):
        raise ValueError(f"hardware.device is {asked!r}, expected auto, cpu or cuda.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("hardware.device is cuda, but torch sees no CUDA device. Set hardware=cpu or hardware=auto.")
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


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
    from forcefoundry.pairs.cache import read_table, use_cache
    from forcefoundry.pairs.store import PairStore

    modules, info = assemble_for_training(objective.train_loss, objective.validation_losses, plot_maker=plot_maker)
    if params["pairs"]["source"] == "cache":
        cutoff = float(params["pairs"]["cutoff"])
        table = read_table(database, PairStore(PAIRS / "shards", cutoff))
        use_cache(modules.model.outputs, database, {cutoff: table})
        modules, info = assemble_for_training(objective.train_loss, objective.validation_losses, plot_maker=plot_maker)
    database.inputs, database.targets = info["inputs"], info["targets"]
    return modules, info


def progress_bar(items: Any, what: str, unit: str) -> Any:
    """A progress bar on stderr, quiet where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)
