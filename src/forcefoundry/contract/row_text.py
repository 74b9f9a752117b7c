"""One row as extended XYZ that gives every number back to the last bit, whatever is wrong with the row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import COLUMNS, DERIVED, Axis
from forcefoundry.databases.labels import full_stress

Content: TypeAlias = "bytes | Mapping[str, Any] | Any"
"""What a row is: its bytes, if it could not be read; the columns of one structure; or ASE Atoms."""

_KINDS = {"f": "R", "i": "I", "u": "I", "b": "L"}
_ELEMENTS = 118
_MATRICES = ("stress", "virial")
"""What ASE expects nine numbers under, column after column."""
_TAKEN = ("Lattice", "Properties", "pbc", "species", "pos", "Z", "positions", "numbers", "move_mask")
"""What says something else in such a file."""


@dataclass(frozen=True)
class _Row:
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


def row_text(content: Mapping[str, Any] | Any) -> str:
    """A frame of extended XYZ, as ASE reads it.

    Args:
        content: the columns of one structure in canonical units (labels that are NaN throughout are left out; texts
            such as `config_type` go into the comment), or ASE Atoms with all that they carry.

    Atoms that are of no element are written as X, their numbers in a column `atomic_number`.
    """
    row = _of_columns(content) if isinstance(content, Mapping) else _of_atoms(content)
    columns = [("species", "S", _symbols(row.numbers)), ("pos", "R", row.positions), *_columns_of(row)]
    comment = [] if not row.cell.any() else [f'Lattice="{_joined(row.cell)}"']
    widths = [f"{name}:{kind}:{np.atleast_2d(values.T).shape[0]}" for name, kind, values in columns]
    comment.append(f"Properties={':'.join(widths)}")
    comment += [f"{key}={_told(value)}" for key, value in _of_comment(row.info)]
    comment.append(f'pbc="{_joined(row.pbc)}"')
    lines = [" ".join(_joined(values[at]) for _, _, values in columns) for at in range(len(row.numbers))]
    return "\n".join([str(len(lines)), " ".join(comment), *lines]) + "\n"


def with_info(text: str, info: Mapping[str, str]) -> str:
    """A frame with more in its comment."""
    count, comment, rest = text.split("\n", 2)
    more = " ".join(f"{key}={_told(value)}" for key, value in info.items())
    return f"{count}\n{comment} {more}\n{rest}"


def _of_columns(columns: Mapping[str, Any]) -> _Row:
    n_atoms = len(columns["species"])
    row = _Row(
        np.asarray(columns["species"], dtype=np.int64),
        np.asarray(columns["positions"], dtype=np.float64).reshape(n_atoms, 3),
        np.asarray(columns["cell"], dtype=np.float64).reshape(3, 3),
        np.asarray(columns["pbc"], dtype=bool).reshape(3),
    )
    for name, value in columns.items():
        known = COLUMNS.get(name)
        if name in ("species", "positions", "cell", "pbc", "n_atoms", *DERIVED) or value is None:
            continue
        if known is None:
            row.info[name] = value
        elif not np.isnan(np.asarray(value, dtype=np.float64)).all():
            shape = (n_atoms, *known.shape) if known.axis is Axis.ATOM else known.shape
            (row.arrays if known.axis is Axis.ATOM else row.info)[name] = np.asarray(value).reshape(shape)
    return row


def _of_atoms(atoms: Any) -> _Row:
    arrays = {name: values for name, values in atoms.arrays.items() if name not in ("numbers", "positions")}
    info = dict(atoms.info)
    for name, value in (atoms.calc.results if atoms.calc is not None else {}).items():
        # What a calculator gave goes by its own name, as ASE writes it; a namesake steps aside.
        for others in (arrays, info):
            if name in others:
                others[f"{name}_beside"] = others.pop(name)
        of_atoms = np.ndim(value) in (1, 2) and len(value) == len(atoms) and np.asarray(value).dtype.kind in _KINDS
        (arrays if of_atoms and name != "dipole" else info)[name] = value
    return _Row(atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc, arrays, info)


def _columns_of(row: _Row) -> list[tuple[str, str, NDArray[Any]]]:
    """The columns of a frame besides elements and positions; what is no column of a frame goes into the comment."""
    columns = []
    if ((row.numbers < 0) | (row.numbers > _ELEMENTS)).any():
        columns.append(("atomic_number", "I", row.numbers))
    for name, values in row.arrays.items():
        array = np.asarray(values)
        if array.ndim in (1, 2) and array.size and array.dtype.kind in (*_KINDS, "U"):
            if array.dtype.kind == "U":
                array = np.vectorize(lambda text: "_".join(text.split()) or "_", otypes=[object])(array)
            columns.append((_key(name), _KINDS.get(np.asarray(values).dtype.kind, "S"), array))
        elif array.size:
            row.info[name] = array
    return columns


def _of_comment(info: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Keys as a comment can have them, and their values."""
    found = []
    for key, value in info.items():
        name = _key(key)
        if name in _MATRICES:
            try:
                value = full_stress(np.asarray(value, dtype=np.float64)).ravel(order="F")
            except (ValueError, TypeError):  # no numbers at all
                value = np.zeros(0)
            if value.shape != (9,):
                name, value = f"{name}_misshapen", info[key]
        found.append((name, value))
    return found


def _key(name: Any) -> str:
    """A name without what means something between names, and that is not taken."""
    text = "".join(" " if one in "=\"':{}[](),\\" else one for one in _line(str(name)))
    text = "_".join(text.split()) or "_"
    return f"{text}_beside" if text in _TAKEN else text


def _symbols(numbers: NDArray[np.int64]) -> NDArray[Any]:
    from ase.data import chemical_symbols

    return np.array([chemical_symbols[one] if 0 <= one <= _ELEMENTS else "X" for one in numbers.tolist()], dtype=object)


def _joined(values: Any) -> str:
    return " ".join(_word(value) for value in np.ravel(np.asarray(values)).tolist())


def _word(value: Any) -> str:
    """A number with all its digits."""
    if isinstance(value, bool):
        return "T" if value else "F"
    return repr(value) if isinstance(value, (int, float)) else str(value)


def _told(value: Any) -> str:
    """A value of the comment."""
    if isinstance(value, str):
        return _quoted(value)
    try:
        array = np.asarray(value)
        plain = array.dtype.kind in _KINDS and array.size > 0
    except ValueError:  # lists of several lengths
        plain = False
    if not plain:
        return _quoted(value if isinstance(value, str) else _json(value))
    if array.ndim == 0:
        return _word(array.item())
    return f'"{_joined(array)}"' if array.ndim == 1 else _quoted(f"_JSON {json.dumps(array.tolist())}")


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda one: one.tolist() if isinstance(one, np.ndarray) else repr(one))


def _quoted(text: str) -> str:
    return '"' + _line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _line(text: str) -> str:
    """A text that any file can hold in one line."""
    text = text.encode("utf-8", errors="backslashreplace").decode()
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
