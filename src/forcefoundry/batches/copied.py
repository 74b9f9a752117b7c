"""The columns of a batch that are copies of the database's rows, and those that number and accompany them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from forcefoundry.batches.joined import ALIGNED, Batch
from forcefoundry.columns import COLUMNS, DERIVED, Axis
from forcefoundry.databases.database import Database
from forcefoundry.pairs.contract import Ints

_NOBODY: Ints = np.empty(0, dtype=np.int64)
"""In place of `system_of_atom` where it is not wanted."""


class _Made(NamedTuple):
    """A column as a batch has it. axis: 1 where there is a row for each atom, 0 where for each structure.

    aligned: 1 for float64, whose batches are aligned in memory, else 0.
    """

    name: str
    axis: int
    aligned: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, name: str) -> _Made:
        known = COLUMNS[name]
        dtype = torch.from_numpy(np.empty(0, known.dtype)).dtype
        return cls(name, int(known.axis is Axis.ATOM), int(known.dtype is np.float64), known.shape, dtype)

    @property
    def n_bytes(self) -> int:
        """Of a row."""
        return self.dtype.itemsize * math.prod(self.shape)


class CopiedColumns:
    """Makes blocks of rows of a database's columns.

    Args:
        database: where they are.
        names: of columns of structures and of atoms, `system_of_atom` and `strain` among them where they are wanted.
    """

    def __init__(self, database: Database, names: Sequence[str]):
        copied = [_Made.of(name) for name in names if name not in DERIVED]
        self._made = copied + [_Made.of(name) for name in names if name in DERIVED]
        self._names = [one.name for one in copied]
        self._numbered = "system_of_atom" in names
        self._zeros = [name for name in names if name == "strain"]
        # What compiled code asks: the arrays' addresses, good as long as these are held, 0 where a piece of the
        # database has no such label; where structures lie in them; and what a column is, as `copy_rows` says.
        self._held = [database.columns.pieces(one.name) for one in copied]
        addresses = [[0 if piece is None else piece.ctypes.data for piece in pieces] for pieces in self._held]
        n_pieces = len(database.columns.pieces("n_atoms"))
        self._sources = np.ascontiguousarray(np.array(addresses, dtype=np.uint64).reshape(len(addresses), n_pieces).T)
        self._where = np.stack([*database.columns.places, database.n_atoms], axis=1).astype(np.int64, copy=False)
        numbers = [(one.n_bytes, one.axis, one.aligned) for one in copied]
        self._columns = np.array(numbers, dtype=np.int64).reshape(-1, 3)
        self._widths = [sum(one.n_bytes for one in copied if one.axis == axis) for axis in (0, 1)]
        self.largest = self._widths[0] + self._widths[1] * int(database.n_atoms.max(initial=0))
        """Bytes of the structure that takes most."""

    def n_bytes(self, structures: Ints, pairs: Ints, of_pair: int) -> int:
        """About the memory that the structures' batch takes; nothing for those that are not there.

        pairs: (N,) how many each structure of the database has, of so many bytes each.
        """
        return int(_compiled().n_bytes(structures, self._where, pairs, *self._widths, of_pair))

    def copy(self, structures: Ints, ends: Ints) -> tuple[Batch, dict[str, list[int]], Ints]:
        """Blocks of these columns and their lengths, as `Joined` has them; and (n,) where each structure's atoms start.

        structures: (n,) of all batches, in whose own atoms they start. ends: (batches,) where each ends among these.
        """
        first_atoms = np.empty(len(structures), dtype=np.int64)
        lengths = np.empty((2, 2 * len(ends)), dtype=np.int64)
        wrong = _compiled().lay_out(structures, ends, self._where, ALIGNED, first_atoms, lengths)
        if wrong >= 0:
            raise ValueError(
                f"A batch was asked for structure {structures[wrong]}, expected 0 to {len(self._where) - 1}."
            )
        layouts = [_layouts(of_axis) for of_axis in lengths.tolist()]
        # PyTorch's own memory begins at a multiple of 64 bytes. (Given one by one, numbers are read in half the time.)
        blocks = {
            name: torch.empty(layouts[axis][aligned][0], *shape, dtype=dtype)
            for name, axis, aligned, shape, dtype in self._made
        }
        targets = np.array([blocks[name].data_ptr() for name in self._names], dtype=np.uint64)
        systems = blocks["system_of_atom"].numpy() if self._numbered else _NOBODY
        _compiled().copy_rows(structures, ends, self._where, self._sources, self._columns, targets, lengths, systems)
        for name in self._zeros:
            blocks[name].zero_()
        return blocks, {one.name: layouts[one.axis][one.aligned][1] for one in self._made}, first_atoms


def _layouts(lengths: list[int]) -> tuple[tuple[int, list[int]], tuple[int, list[int]]]:
    """The rows of a block, and where it is cut: with batches right after each other, and aligned.

    lengths: what a batch has, and what is left out behind it, batch by batch.
    """
    plain = lengths[::2]
    spaced = lengths[:-1] if any(lengths[1:-1:2]) else plain
    return (sum(plain), plain), (sum(spaced), spaced)


@cache
def _compiled() -> ModuleType:
    """What copies; numba takes seconds to import, and a look into a module that is imported its time too."""
    from forcefoundry.batches import gather

    return gather
