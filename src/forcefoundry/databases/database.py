"""A data set in memory: packed columns, splits, and which columns a model and a loss read. Knows nothing of nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import DERIVED, STRUCTURE
from forcefoundry.databases.checks import checked_columns
from forcefoundry.files import written_whole


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
            changed columns make a new database: `Database({**old.columns, "positions": new}, old.splits)`.
        inputs, targets: the columns that a model and its loss read; set them from `db_info` after assembling.
        pairs: cached pairs by cutoff, put there by `use_cache`; what they are, only their reader knows.
    """

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]],
        splits: Mapping[str, NDArray[np.int64]] | None = None,
        partial: Collection[str] = (),
    ):
        self.columns, self.offsets = checked_columns(columns, partial)
        self.splits = {name: np.asarray(rows, dtype=np.int64) for name, rows in (splits or {}).items()}
        for name, rows in (splits or {}).items():
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
        return tuple(int(number) for number in np.unique(self.columns["species"]))

    def split(self, name: str) -> NDArray[np.int64]:
        """The structures of a split; an unknown name is a ValueError that lists the known ones."""
        if name not in self.splits:
            raise ValueError(f"The database has no split {name!r}; it has {', '.join(self.splits) or 'none'}.")
        return self.splits[name]

    def atoms(self, structure: int) -> slice:
        """Where the atoms of one structure lie in the ATOM columns."""
        return slice(int(self.offsets[structure]), int(self.offsets[structure + 1]))

    def check_columns(self, names: list[str]) -> None:
        """Refuse names that are neither a column here, nor made by the batch, nor a cached pair column."""
        for name in names:
            known = name in self.columns or name in DERIVED or name.startswith("pairs_")
            if not known:
                raise ValueError(f"The database has no column {name!r}; it has {', '.join(self.columns)}.")

    def save(self, folder: Path | str) -> None:
        """Write one .npy file a column and a split; equal databases give equal bytes."""
        with written_whole(folder) as draft:
            draft.mkdir()
            for name, values in self.columns.items():
                _save_array(draft / f"{name}.npy", values)
            for name, rows in self.splits.items():
                _save_array(draft / f"split.{name}.npy", rows)

    @classmethod
    def load(cls, folder: Path | str) -> Database:
        """Read what `save` wrote."""
        files = sorted(Path(folder).glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"{folder} holds no columns: run the load step first.")
        arrays = {path.stem: np.load(path, allow_pickle=False) for path in files}
        splits = {name.removeprefix("split."): rows for name, rows in arrays.items() if name.startswith("split.")}
        columns = {name: values for name, values in arrays.items() if not name.startswith("split.")}
        return cls(columns, splits, partial=set(columns) - set(STRUCTURE))


class _Writer:
    """The `write` of a file and nothing else: given the file itself, NumPy hides that a disk is full."""

    def __init__(self, file: BinaryIO):
        self.write = file.write


def _save_array(path: Path, values: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(_Writer(file), np.ascontiguousarray(values), allow_pickle=False)
