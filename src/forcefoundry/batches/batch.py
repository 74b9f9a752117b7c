"""Packed batches: the rows of some structures, one after another, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from forcefoundry.columns import COLUMNS, Axis
from forcefoundry.databases.database import Database
from forcefoundry.pairs.contract import Ints, Pairs
from forcefoundry.pairs.nodes import cached_column

Batch = dict[str, torch.Tensor]


class Packer:
    """Makes batches of a database: for any structures, the named columns as tensors on a device.

    Floating-point columns stay float64; the model casts where its own precision begins.

    Args:
        database: where the columns are.
        names: the columns that a batch holds, in this order.
        device: where its tensors go.
    """

    def __init__(self, database: Database, names: Sequence[str], device: torch.device | str = "cpu"):
        database.check_columns(list(names))
        self.names = tuple(dict.fromkeys(names))
        self.device = torch.device(device)
        self._database = database
        self._pair_columns = {
            cached_column(cutoff, key): (cutoff, key) for cutoff in database.pairs for key in ("i", "j", "S")
        }
        lost = [name for name in self.names if name.startswith("pairs_") and name not in self._pair_columns]
        if lost:
            raise ValueError(
                f"The database holds no cached pairs for {', '.join(lost)}. Call precompute_pairs, or attach a cache."
            )

    def pack(self, structures: Ints) -> Batch:
        """The batch of the given structures, in the given order.

        Columns have one row a structure, an atom or a pair; indices of atoms count from 0 in the batch.
        """
        if not len(structures):
            raise ValueError("A batch needs at least one structure, got none.")
        database = self._database
        counts = database.columns["n_atoms"][structures]
        first_atoms = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(database.offsets[structures] - first_atoms[:-1], counts) + np.arange(first_atoms[-1])
        pairs: dict[float, Pairs] = {}
        batch: Batch = {}
        for name in self.names:
            values: NDArray[np.generic]
            if name in self._pair_columns:
                cutoff, key = self._pair_columns[name]
                if cutoff not in pairs:
                    pairs[cutoff] = database.pairs[cutoff].batch(structures, first_atoms[:-1])
                values = getattr(pairs[cutoff], key)
            elif name == "system_of_atom":
                values = np.repeat(np.arange(len(structures)), counts)
            elif name == "strain":
                values = np.zeros((len(structures), 3, 3))
            else:
                values = database.columns[name][rows if COLUMNS[name].axis is Axis.ATOM else structures]
            batch[name] = torch.from_numpy(values).to(self.device, non_blocking=True)
        return batch
