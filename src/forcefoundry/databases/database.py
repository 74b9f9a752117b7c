"""A data set: packed columns, in memory or mapped, splits, and what a model and a loss read. Knows no nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import DERIVED
from forcefoundry.databases.checks import checked_columns
from forcefoundry.databases.folder import Contents, read_folder, write_folder
from forcefoundry.databases.keys import Keys, keys_of
from forcefoundry.databases.mapped import MappedColumns, PackedColumns, pieces
from forcefoundry.databases.shards import ShardWriter
from forcefoundry.files import told_as

_ATOMS_AT_ONCE = 100_000


class Database:
    """Columns of many structures, packed, with named splits.

    Args:
        columns: name to array. `species`, `positions`, `cell`, `pbc` and `n_atoms` must be there; every array has one
            row an atom or one row a structure, as the vocabulary says.
        splits: name to the indices of its structures. A structure is in at most one split.
        partial: labels that not every row has. Where there is none stands NaN, which no loss and no metric counts;
            in any other column NaN is an error.

    Attributes:
        columns: read-only copies, since what was computed from them, pairs above all, would not follow a change. For
            changed columns make a new database: `Database({**old.columns, "positions": new}, old.splits)`. Of a
            database that `load` opened, each look copies a column into memory; `columns.take` copies some rows.
        offsets: (n + 1,) where the atoms of each structure start.
        inputs, targets: the columns that a model and its loss read; set them from `db_info` after assembling.
        pairs: cached pairs by cutoff, put there by `use_cache`; what they are, only their reader knows.
    """

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]],
        splits: Mapping[str, NDArray[np.int64]] | None = None,
        partial: Collection[str] = (),
    ):
        held, offsets = checked_columns(columns, partial)
        self.columns: PackedColumns | MappedColumns = PackedColumns(held, offsets)
        self.partial = tuple(partial)
        self._known: Contents | None = None
        self._set_splits(splits or {})

    def _set_splits(self, splits: Mapping[str, NDArray[np.int64]]) -> None:
        self.offsets = self.columns.offsets
        self.splits = {name: np.asarray(rows, dtype=np.int64) for name, rows in splits.items()}
        for name, rows in splits.items():
            if np.asarray(rows).size and np.asarray(rows).dtype.kind not in "iu":
                raise ValueError(f"The split {name!r} holds {np.asarray(rows).dtype} values, expected indices.")
        every = np.concatenate(list(self.splits.values())) if self.splits else np.zeros(0, dtype=np.int64)
        if len(np.unique(every)) != len(every):
            raise ValueError("A structure stands in the splits twice; each may stand in one, once.")
        if len(every) and (every.min() < 0 or every.max() >= len(self)):
            wrong = every.min() if every.min() < 0 else every.max()
            raise ValueError(f"A split names structure {wrong}, expected 0 to {len(self) - 1}.")
        self.inputs: list[str] = []
        self.targets: list[str] = []
        self.pairs: dict[float, Any] = {}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def species(self) -> tuple[int, ...]:
        """The atomic numbers that occur, ascending."""
        if self._known is not None:
            return self._known.species
        return tuple(int(number) for number in np.unique(self.columns["species"]))

    def split(self, name: str) -> NDArray[np.int64]:
        """The structures of a split; an unknown name is a ValueError that lists the known ones."""
        if name not in self.splits:
            raise ValueError(f"The database has no split {name!r}; it has {', '.join(self.splits) or 'none'}.")
        return self.splits[name]

    def atoms(self, structure: int) -> slice:
        """Where the atoms of one structure lie in the ATOM columns."""
        return slice(int(self.offsets[structure]), int(self.offsets[structure + 1]))

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """The number of atoms of each structure, (n,)."""
        return np.diff(self.offsets)

    def take(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
        """Positions (N, 3) and cell (m, 3, 3), Å, pbc (m, 3) and offsets (m + 1,) of m structures, packed anew."""
        positions, cell, pbc = (self.columns.take(name, rows) for name in ("positions", "cell", "pbc"))
        return positions, cell, pbc, np.concatenate([[0], np.cumsum(self.n_atoms[rows])])

    def keys(self) -> Keys:
        """The structures' content keys, (n, 32).

        Those that were saved with the columns are taken once the columns' bytes were seen to be what they were then.
        """
        if self._known is None:
            return keys_of(self.columns)
        self._known.columns.check()
        return self._known.keys

    def check_columns(self, names: list[str]) -> None:
        """Refuse names that are neither a column here, nor made by the batch, nor a cached pair column."""
        for name in names:
            known = name in self.columns or name in DERIVED or name.startswith("pairs_")
            if not known:
                raise ValueError(f"The database has no column {name!r}; it has {', '.join(self.columns)}.")

    def save(self, folder: Path | str) -> None:
        """Write the folder that `load` opens; equal databases give equal bytes."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with told_as(folder), TemporaryDirectory(prefix=f".{folder.name}.shards.", dir=folder.parent) as beside:
            writer = ShardWriter(Path(beside))
            for part in pieces(np.arange(len(self)), self.n_atoms, _ATOMS_AT_ONCE):
                writer.add({name: self.columns.take(name, part) for name in self.columns})
            writer.flush()
            write_folder(
                folder,
                writer.paths,
                {name: name for name in self.columns},
                writer.rows(),
                self.n_atoms,
                self.keys(),
                self.splits,
                self.partial,
                self.species,
            )

    @classmethod
    def load(cls, folder: Path | str) -> Database:
        """Open what `save` or the door wrote: columns stay on disk, mapped, and rows are read when they are needed."""
        found = cls.__new__(cls)
        found._known = read_folder(folder)
        found.columns, found.partial = found._known.columns, found._known.partial
        found._set_splits(found._known.splits)
        return found
