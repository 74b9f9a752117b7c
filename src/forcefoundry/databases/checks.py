"""What columns must fulfil before anything is computed from them; each refusal names the structure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import COLUMNS, STRUCTURE, Axis, Column, column

Array = NDArray[Any]


def checked_columns(
    columns: Mapping[str, Array], partial: Collection[str]
) -> tuple[Mapping[str, Array], NDArray[np.int64]]:
    """Copies of the columns in their own dtypes and shapes, read-only, and where each structure's atoms start.

    Raises:
        ValueError: for absent, unknown or misshapen columns, numbers that are not whole where they must be, structures
            without atoms, numbers that are not finite (NaN is allowed in `partial` ones), and atomic numbers outside
            1 to 118; named with structure and atom.
    """
    absent = [name for name in STRUCTURE if name not in columns]
    if absent:
        raise ValueError(f"The database lacks the columns {', '.join(absent)}; it has {', '.join(columns)}.")
    wrong = sorted(set(partial) & set(STRUCTURE) | set(partial) - set(columns))
    if wrong:
        raise ValueError(f"partial names {wrong[0]!r}, which is not one of the label columns.")
    checked = {name: _cast(column(name), np.asarray(values)) for name, values in columns.items()}
    counts = checked["n_atoms"]
    if counts.ndim != 1 or (counts < 1).any():
        where = f"structure {int(np.argmax(counts < 1))} has {int(counts.min())}" if counts.ndim == 1 else "it is not"
        raise ValueError(f"Column 'n_atoms' must hold one number above 0 a structure; {where}. Leave it out.")
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    for name, values in checked.items():
        known = COLUMNS[name]
        rows = len(counts) if known.axis is Axis.SYSTEM else int(offsets[-1])
        # Energies and the like may come as (n, 1) where one number a row is meant.
        if values.shape == (rows, 1) and known.shape == ():
            values = checked[name] = values[:, 0]
        elif values.shape != (rows, *known.shape):
            raise ValueError(f"Column {name!r} has shape {values.shape}, expected {(rows, *known.shape)}.")
        _check_values(known, values, offsets, name in partial)
        values.flags.writeable = False
    return MappingProxyType(checked), offsets


def _cast(known: Column, values: Array) -> Array:
    cast = np.array(values, dtype=known.dtype)
    if known.dtype is np.bool_ and values.dtype.kind != "b" and not np.array_equal(cast, values):
        raise ValueError(f"Column {known.name!r} must hold truth values, got {values[cast != values][0]}.")
    if known.dtype is np.int64 and values.dtype.kind == "f" and not np.array_equal(cast, values):
        raise ValueError(f"Column {known.name!r} must hold whole numbers, got {values[cast != values][0]}.")
    return cast


def _check_values(known: Column, values: Array, offsets: NDArray[np.int64], may_lack: bool) -> None:
    if known.name == "species":
        bad = (values < 1) | (values > 118)
        expected = "atomic numbers of 1 to 118. Padded arrays are read by from_padded"
    elif known.dtype is not np.float64:
        return
    else:
        bad = ~np.isfinite(values) & ~(may_lack & np.isnan(values))
        expected = f"finite numbers in {known.unit}"
        expected += "" if may_lack or known.name in STRUCTURE else ", or the column's name in partial=(...)"
    rows = np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))
    if len(rows):
        row = int(rows[0])
        where = f"structure {row}"
        if known.axis is Axis.ATOM:
            structure = int(np.searchsorted(offsets, row, side="right")) - 1
            where = f"structure {structure}, atom {row - int(offsets[structure])}"
        raise ValueError(
            f"Column {known.name!r}, {where}: got {values[row].tolist()}, expected {expected}. Repair it or leave "
            "the structure out."
        )
