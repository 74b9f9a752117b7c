"""What a row is called once a check has something to say of it: a name of its content, whatever file it stands in.

A row that changes gets another id, so that what people decided of it holds no longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import COLUMNS, DERIVED, STRUCTURE, Axis
from forcefoundry.contract.row_text import Content, row_text
from forcefoundry.databases.keys import Keys, keys_of

LENGTH = 12
"""Hexadecimal digits of an id."""

Ids = NDArray[np.bytes_]
"""Ids of rows, (n,) of dtype S12: a million of them take 12 MB."""


def row_id(content: Content, place: str = "") -> str:
    """The id of one row: 12 hexadecimal digits of a sha256 over what it is.

    Args:
        content: one structure's packed columns in canonical units, which give what `row_ids` gives; the ASE Atoms of a
            row that cannot be packed, over all that it carries; or the bytes of one that cannot be read.
        place: file and place in it, which stand in for the bytes where not even these are known.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content or place.encode(errors="backslashreplace")).hexdigest()[:LENGTH]
    if isinstance(content, Mapping):
        return str(row_ids(_packed(content))[0].decode())
    return hashlib.sha256(row_text(content).encode()).hexdigest()[:LENGTH]


def row_ids(columns: Mapping[str, NDArray[Any]], keys: Keys | None = None) -> Ids:
    """The ids of all structures of packed columns, (n,): over the structure's key and its labels, by their names.

    A label that is NaN throughout, which is one that the row has not, is left out, and -0.0 counts as 0.0. What is no
    column, such as `config_type`, counts for nothing.

    Args:
        columns: n_atoms, species, positions, cell, pbc and labels, in canonical units.
        keys: (n, 32) what `keys_of(columns)` gives, if that is known already.
    """
    keys = keys_of(columns) if keys is None else keys
    offsets = np.concatenate([[0], np.cumsum(columns["n_atoms"])]).astype(np.int64)
    hashes = [hashlib.sha256(key.tobytes()) for key in keys]
    for name in sorted(set(columns) & (set(COLUMNS) - {*STRUCTURE, *DERIVED})):
        values = np.asarray(columns[name], dtype="<f8") + 0.0
        lacking = np.isnan(values)
        values[lacking] = np.nan  # one of the many NaN
        if COLUMNS[name].axis is Axis.SYSTEM:
            values, lacking = values.reshape(len(keys), -1), lacking.reshape(len(keys), -1)
            cuts = range(len(keys) + 1)
        else:
            cuts = offsets.tolist()
        for at, (start, stop) in enumerate(pairwise(cuts)):
            if not lacking[start:stop].all():
                hashes[at].update(name.encode() + b"\0" + np.ascontiguousarray(values[start:stop]).tobytes())
    return np.array([one.hexdigest()[:LENGTH] for one in hashes], dtype=f"S{LENGTH}")


def copies_apart(ids: Ids) -> Ids:
    """Ids of which none is there twice: the second, third ... row of one content gets an id of its own.

    Without that, rejecting a row that is there twice would leave out both. As the content is the same, it does not
    matter which of them is called the second one.
    """
    order = np.argsort(ids, kind="stable")
    found = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]])) if len(ids) else np.zeros(0, np.int64)
    rank = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    apart = ids.copy()
    for at in np.flatnonzero(rank).tolist():
        text = f"{found[at].decode()} {rank[at] + 1}"
        apart[order[at]] = hashlib.sha256(text.encode()).hexdigest()[:LENGTH].encode()
    return apart


def _packed(row: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """One structure's columns with an axis SYSTEM of length 1 where they lack it."""
    columns = {}
    for name in set(row) & set(COLUMNS):
        values = np.asarray(row[name])
        known = COLUMNS[name]
        columns[name] = values.reshape(1, *known.shape) if known.axis is Axis.SYSTEM else values
    columns["n_atoms"] = np.array([len(columns["species"])], dtype=np.int64)
    return columns
