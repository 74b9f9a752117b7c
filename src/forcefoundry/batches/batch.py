"""Packed batches: the rows of some structures, one after another, as tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch

from forcefoundry.batches.copied import CopiedColumns
from forcefoundry.batches.joined import Batch, Joined
from forcefoundry.batches.sampling import Budget, groups
from forcefoundry.databases.database import Database
from forcefoundry.pairs.contract import Ints
from forcefoundry.pairs.nodes import cached_column

PAIR_BYTES = 28
"""i and j in int64, S in int32."""

logger = logging.getLogger(__name__)


class Packer:
    """Makes batches of a database: for any structures, the named columns as tensors on a device.

    Floating-point columns stay float64; the model casts where its own precision begins. Several threads may pack at
    once.

    Args:
        database: where the columns are.
        names: the columns that a batch holds, in this order.
        device: where its tensors go.
    """

    def __init__(self, database: Database, names: Sequence[str], device: torch.device | str = "cpu"):
        database.check_columns(list(names))
        self.names = tuple(dict.fromkeys(names))
        if not self.names:
            raise ValueError("A batch needs at least one column, got none.")
        self.device = torch.device(device)
        self._database = database
        of_pairs = {cached_column(cutoff, key): (cutoff, key) for cutoff in database.pairs for key in ("i", "j", "S")}
        lost = [name for name in self.names if name.startswith("pairs_") and name not in of_pairs]
        if lost:
            raise ValueError(
                f"The database holds no cached pairs for {', '.join(lost)}. Call precompute_pairs, or attach a cache."
            )
        self._pairs: dict[float, list[tuple[str, str]]] = {}
        for name in self.names:
            if name in of_pairs:
                cutoff, key = of_pairs[name]
                self._pairs.setdefault(cutoff, []).append((name, key))
        sizes = [database.pairs[cutoff].pairs_of_structure for cutoff in self._pairs]
        self._pair_sizes = sizes[0] if len(sizes) == 1 else sum(sizes, np.zeros(len(database), dtype=np.int64))
        self._copied = CopiedColumns(database, [name for name in self.names if name not in of_pairs])
        self._largest = self._copied.largest + PAIR_BYTES * int(self._pair_sizes.max(initial=0))

    def pack(self, structures: Ints) -> Batch:
        """The batch of the given structures, in the given order, on the device.

        Columns have one row a structure, an atom or a pair; indices of atoms count from 0 in the batch.
        """
        return self.pack_together([structures])[0]

    def pack_together(self, batches: Sequence[Ints]) -> list[Batch]:
        """Several batches, the same as one by one. They lie in common memory, which lives as long as any of them."""
        joined = self.join(batches)
        return (joined if self.device.type == "cpu" else joined.on(self.device)).batches()

    def join(self, batches: Sequence[Ints]) -> Joined:
        """Several batches before they are cut apart, in the processor's memory whatever the device."""
        if not all(map(len, batches)):
            raise ValueError("A batch needs at least one structure, got none.")
        ends = list(accumulate(map(len, batches)))
        structures = np.concatenate(batches, dtype=np.int64)
        found, lengths, first_atoms = self._copied.copy(structures, np.array(ends))
        for cutoff, keys in self._pairs.items():
            table = self._database.pairs[cutoff]
            pairs = table.batch(structures, first_atoms)
            sizes = np.add.reduceat(table.pairs_of_structure.take(structures), [0, *ends[:-1]]).tolist()
            for name, key in keys:
                found[name], lengths[name] = torch.from_numpy(getattr(pairs, key)), sizes
        return Joined({name: found[name] for name in self.names}, lengths, len(ends))

    def groups(self, batches: Iterable[Ints]) -> Iterator[list[Ints]]:
        """The batches as they are best packed together."""
        return groups(batches, self._n_bytes, self._largest)

    def _n_bytes(self, batches: Sequence[Ints]) -> int:
        """About the memory that the batches will take; nothing for structures that are not there."""
        return self._copied.n_bytes(np.concatenate(batches, dtype=np.int64), self._pair_sizes, PAIR_BYTES)

    def budgets(self, max_atoms: int | None, max_pairs: int | None) -> list[Budget]:
        """What a batch may hold at most: so many atoms, and so many ordered pairs of all columns; None for any number.

        Structures that exceed a budget alone are told once, by a warning. `max_pairs` is a ValueError where pairs are
        found while the model runs, so that nobody knows beforehand how many a structure has.
        """
        found = []
        if max_atoms is not None:
            found.append(Budget("atoms", max_atoms, self._database.n_atoms))
        if max_pairs is not None:
            if not self._pairs:
                raise ValueError(
                    f"training.max_pairs is {max_pairs}, but pairs are found on the fly, so how many a structure has "
                    "is not known before. Set training.max_atoms in its place, or pairs.source=cache."
                )
            found.append(Budget("pairs", max_pairs, self._pair_sizes))
        for budget in found:
            _warn_of_large(budget)
        return found


def _warn_of_large(budget: Budget) -> None:
    alone = int(np.count_nonzero(budget.sizes > budget.most))
    if alone:
        largest = int(np.argmax(budget.sizes))
        logger.warning(
            "%d of %d structures have more than training.max_%s=%d %s (structure %d has the most, %d): "
            "each of them is a batch of its own",
            alone,
            len(budget.sizes),
            budget.what,
            budget.most,
            budget.what,
            largest,
            budget.sizes[largest],
        )
