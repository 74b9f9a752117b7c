"""Packed batches: the rows of some structures, one after another, as tensors."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from forcefoundry.batches.sampling import Budget
from forcefoundry.columns import COLUMNS, DERIVED, Axis
from forcefoundry.databases.database import Database
from forcefoundry.pairs.contract import Ints
from forcefoundry.pairs.nodes import cached_column

Batch = dict[str, torch.Tensor]

logger = logging.getLogger(__name__)


class _Copied(NamedTuple):
    """The columns that a batch copies rows of, and what compiled code asks of them, worked out once.

    held: their arrays, row after row in memory, so that the addresses stay good. rows: the shape of a row of each.
    places: where the structures lie in these. sources: (pieces, columns) addresses, 0 where there is no such label.
    lengths: 1 for a column that has a row for each atom, else 0.
    """

    names: tuple[str, ...]
    held: tuple[tuple[NDArray[Any] | None, ...], ...]
    places: Ints
    rows: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype[Any], ...]
    sources: NDArray[np.uint64]
    widths: Ints
    of_atoms: NDArray[np.bool_]
    lengths: tuple[int, ...]


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
        self._numbered = "system_of_atom" in self.names
        self._copied = _copied(database, [name for name in self.names if name not in (*of_pairs, *DERIVED)])

    def pack(self, structures: Ints) -> Batch:
        """The batch of the given structures, in the given order, on the device.

        Columns have one row a structure, an atom or a pair; indices of atoms count from 0 in the batch.
        """
        batch = self.pack_on_cpu(structures)
        if self.device.type == "cpu":
            return batch
        return {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}

    def pack_on_cpu(self, structures: Ints) -> Batch:
        """The same in the processor's memory, whatever the device."""
        structures = np.ascontiguousarray(structures, dtype=np.int64)
        first_atoms = self._first_atoms(structures)
        found = self._copy(structures, first_atoms)
        for cutoff, keys in self._pairs.items():
            pairs = self._database.pairs[cutoff].batch(structures, first_atoms[:-1])
            for name, key in keys:
                found[name] = torch.from_numpy(getattr(pairs, key))
        if "strain" in self.names:
            found["strain"] = torch.zeros(len(structures), 3, 3, dtype=torch.float64)
        return {name: found[name] for name in self.names}

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
            sizes = [self._database.pairs[cutoff].pairs_of_structure for cutoff in self._pairs]
            found.append(Budget("pairs", max_pairs, np.sum(sizes, axis=0)))
        for budget in found:
            _warn_of_large(budget)
        return found

    def _first_atoms(self, structures: Ints) -> Ints:
        """(n + 1,) where the atoms of each structure start in the batch, and the last end."""
        if not len(structures):
            raise ValueError("A batch needs at least one structure, got none.")
        starts = np.empty(len(structures) + 1, dtype=np.int64)
        wrong = _compiled().first_atoms(structures, self._database.offsets, starts)
        if wrong >= 0:
            raise ValueError(
                f"A batch was asked for structure {structures[wrong]}, expected 0 to {len(self._database) - 1}."
            )
        return starts

    def _copy(self, structures: Ints, first_atoms: Ints) -> Batch:
        """The copied columns, and `system_of_atom` where it is asked for."""
        names, _, places, rows, dtypes, sources, widths, of_atoms, lengths_of = self._copied
        lengths = (len(structures), int(first_atoms[-1]))
        # By way of NumPy: for small tensors torch.empty takes three times as long.
        made = {
            name: torch.from_numpy(np.empty((lengths[of_atom], *row), kind))
            for name, of_atom, row, kind in zip(names, lengths_of, rows, dtypes, strict=True)
        }
        targets = np.array([values.data_ptr() for values in made.values()], dtype=np.uint64)
        systems = np.empty(lengths[1] if self._numbered else 0, dtype=np.int64)
        _compiled().copy_rows(
            structures, self._database.offsets, places, sources, widths, of_atoms, targets, first_atoms, systems
        )
        if self._numbered:
            made["system_of_atom"] = torch.from_numpy(systems)
        return made


@cache
def _compiled() -> ModuleType:
    """What copies; numba takes seconds to import, and a look into a module that is imported its time too."""
    from forcefoundry.batches import gather

    return gather


def _copied(database: Database, names: Sequence[str]) -> _Copied:
    known = [COLUMNS[name] for name in names]
    held = tuple(database.columns.pieces(name) for name in names)
    addresses = [[0 if piece is None else piece.ctypes.data for piece in pieces] for pieces in held]
    return _Copied(
        names=tuple(names),
        held=held,
        places=np.stack(database.columns.places),
        rows=tuple(column.shape for column in known),
        dtypes=tuple(np.dtype(column.dtype) for column in known),
        sources=np.ascontiguousarray(np.array(addresses, dtype=np.uint64).reshape(len(names), -1).T),
        widths=np.array([np.dtype(one.dtype).itemsize * math.prod(one.shape) for one in known], dtype=np.int64),
        of_atoms=np.array([column.axis is Axis.ATOM for column in known], dtype=np.bool_),
        lengths=tuple(int(column.axis is Axis.ATOM) for column in known),
    )


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
