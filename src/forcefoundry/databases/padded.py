"""Padded arrays, as hippynn, PhysNet and others keep them, made into packed columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forcefoundry.columns import Axis, column
from forcefoundry.databases.database import Database


def from_padded(
    arrays: Mapping[str, ArrayLike],
    splits: Mapping[str, NDArray[np.int64]] | None = None,
    partial: Collection[str] = (),
) -> Database:
    """A database from arrays in which every structure has as many places as the largest has atoms.

    Args:
        arrays: column name to array. `species` (S, n_max) has 0 where a place is blank; blanks may stand anywhere.
            Columns of atoms are (S, n_max, ...), those of systems (S, ...). Without `cell` and `pbc` all is open; a
            `cell` alone means periodic in all three directions.
        splits, partial: as for `Database`.

    Raises:
        ValueError: for shapes that do not fit `species`, and whatever `Database` refuses.
    """
    given = {name: np.asarray(values) for name, values in arrays.items()}
    species = given.get("species")
    if species is None or species.ndim != 2:
        raise ValueError("Padded arrays need 'species' of shape (structures, places), 0 where a place is blank.")
    taken = species != 0
    n_systems = len(species)
    columns: dict[str, NDArray[Any]] = {"n_atoms": taken.sum(axis=1)}
    for name, values in given.items():
        known = column(name)
        if known.axis is not Axis.ATOM:
            columns[name] = values
            continue
        if values.shape[:2] != species.shape:
            raise ValueError(
                f"Column {name!r} has shape {values.shape}, expected {(*species.shape, *known.shape)} as for species."
            )
        columns[name] = values[taken]
    periodic = "cell" in given
    columns.setdefault("cell", np.zeros((n_systems, 3, 3)))
    columns.setdefault("pbc", np.full((n_systems, 3), periodic))
    return Database(columns, splits, partial)
