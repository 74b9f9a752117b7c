"""Batches as hippynn makes them of its sparse pair cache, for `benchmarks.batches`; not run by itself."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forcefoundry.databases import Database
from forcefoundry.pairs.contract import Ints


def hippynn_way(database: Database, cutoff: float) -> Callable[[Ints], Any] | None:
    """Its data set, its collating and what its model does to have integers again; None where it is not installed.

    The pairs are ours, in the sparse tensor that its precompute_pairs would have made.
    """
    try:
        NamedTensorDataset, collate = _loader_of_hippynn()
    except ImportError:
        return None
    arrays = _padded(database)
    arrays["pairs"] = _sparse(database, cutoff)
    names = list(arrays)
    data = NamedTensorDataset(names, *arrays.values())

    def way(rows: Ints) -> Any:
        batch = collate([data[int(row)] for row in rows])
        batch = batch if isinstance(batch, dict) else dict(zip(names, batch, strict=True))
        pairs = batch["pairs"].coalesce()
        return batch, pairs.indices(), pairs.values()

    return way


def _loader_of_hippynn() -> tuple[Any, Any]:
    elsewhere = os.environ.get("FORCEFOUNDRY_PEERS")
    if elsewhere and importlib.util.find_spec("hippynn") is None:
        # hippynn is Python alone: its environment comes last, so that all else is ours.
        sys.path.extend(str(path) for path in Path(elsewhere).glob("lib/python3*/site-packages"))
    from hippynn.databases.database import NamedTensorDataset, sparse_enabled_colate

    return NamedTensorDataset, sparse_enabled_colate


def _padded(database: Database) -> dict[str, torch.Tensor]:
    """Its arrays: one row a structure, padded with zeros to the largest one."""
    columns, counts = database.columns, database.columns["n_atoms"]
    real = np.arange(counts.max())[None] < counts[:, None]
    arrays = {}
    for name in ("species", "positions", "forces"):
        arrays[name] = np.zeros((*real.shape, *columns[name].shape[1:]), columns[name].dtype)
        arrays[name][real] = columns[name]
    arrays |= {name: columns[name] for name in ("cell", "energy")}
    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}


def _sparse(database: Database, cutoff: float) -> torch.Tensor:
    """(structures, n, n, images, 3): S where (i, j, S) is a pair, as its PairCacher lays it out."""
    starts, pairs = database.pairs[cutoff].all_pairs()
    structure = np.repeat(np.arange(len(database)), np.diff(starts))
    reach = int(np.abs(pairs.S).max(initial=1))
    side = 2 * reach + 1
    image = ((pairs.S + reach) * np.array([side * side, side, 1])).sum(axis=1)
    most = int(database.columns["n_atoms"].max())
    indices = torch.from_numpy(np.stack([structure, pairs.i, pairs.j, image]))
    size = (len(database), most, most, side**3, 3)
    values = torch.from_numpy(pairs.S.astype(np.int32))
    return torch.sparse_coo_tensor(indices, values, size, is_coalesced=True, check_invariants=False)
