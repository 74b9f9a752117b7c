"""Rows of ASE's databases, whichever backend keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from forcefoundry.databases.formats._build import built, labelled, may_build
from forcefoundry.databases.formats._unreadable import KEPT, Unreadable

_COLUMNS = 27  # of ASE's table `systems`: id to data, without what only makes its queries faster
_RARE = ("initial_charges", "initial_magmoms", "masses", "momenta", "tags")


def atoms_of(row: Any) -> Any:
    """A row's Atoms: results in the calculator, `data` and key-value pairs in info.

    Raises:
        ValueError: when positions are missing or of another shape; ASE would put all atoms at 0.
    """
    n_atoms, shape = np.size(row.get("numbers")), np.shape(row.get("positions"))
    if row.get("numbers") is None or shape != (n_atoms, 3):
        raise ValueError(
            f"it has atomic numbers of shape {np.shape(row.get('numbers'))} and positions of shape {shape}"
        )
    atoms = _plain(row)
    if atoms is None:
        atoms = row.toatoms()
    atoms.info = {**row.data, **row.key_value_pairs}
    return atoms


def _plain(row: Any) -> Any:
    # What `row.toatoms()` gives, in a fraction of the time; None where a row has more than most, or other arrays.
    from ase.calculators.calculator import all_properties

    held = vars(row)
    numbers, positions, cell, pbc = (held.get(name) for name in ("numbers", "positions", "cell", "pbc"))
    fit = _is(numbers, "iu", 1) and _is(positions, "f", 2) and _is(cell, "f", 2) and _is(pbc, "b", 1)
    if not fit or cell.shape != (3, 3) or pbc.shape != (3,):
        return None
    results = {name: held[name] for name in all_properties if name in held}
    rare = row._constraints or any(name in held for name in _RARE) or any(one is None for one in results.values())
    if rare or not may_build():
        return None
    atoms = built(numbers, positions, None, cell, pbc, {})
    labelled(atoms, results)
    if results:
        atoms.calc.name = row.get("calculator", "unknown")
    return atoms


def _is(value: Any, kinds: str, axes: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in kinds and value.ndim == axes


def statement(database: Any, rows: int) -> str:
    """Asks for the next rows behind an id, with the columns that ASE makes a row of."""
    columns = ", ".join(database.columnnames[:_COLUMNS])
    return f"SELECT {columns} FROM systems WHERE id > ? ORDER BY id LIMIT {rows}"


def know_external_tables(database: Any) -> None:
    """Ask for the names of a database's tables of its own once; ASE would ask for each row, on a new connection."""
    names = database._get_external_table_names()
    database._get_external_table_names = lambda: names


def converted(
    database: Any, page: Sequence[Sequence[Any]], told: Callable[[BaseException], str]
) -> Iterator[tuple[int, Any]]:
    """Ids and Atoms of rows as a database gave them, Unreadable where one makes no structure.

    Arguments:
        told: makes words of what ASE raised.
    """
    for values in page:
        try:
            if broken := [name for name, one in zip(database.columnnames, values, strict=False) if _is_broken(one)]:
                raise ValueError(f"{broken[0]} holds bytes that are no UTF-8")
            atoms = atoms_of(database._convert_tuple_to_row(tuple(values)))
        except Exception as error:  # ASE raises whatever it stumbles over
            atoms = Unreadable(told(error), _raw(database.columnnames, values))
        yield values[0], atoms


class BrokenText(bytes):
    """A text that is none; ASE would take mere bytes for data packed in its own way."""

    @classmethod
    def or_text(cls, held: bytes) -> str | BrokenText:
        """The text of some bytes, or these as they are."""
        try:
            return held.decode()
        except UnicodeDecodeError:
            return cls(held)


def _is_broken(value: Any) -> bool:
    return isinstance(value, BrokenText)


def _raw(names: Sequence[str], values: Sequence[Any]) -> bytes:
    parts = []
    for name, value in zip(names, values, strict=False):
        if value is not None:
            held = bytes(value[:KEPT]) if isinstance(value, bytes | memoryview) else str(value).encode()[:KEPT]
            parts.append(f"{name}=".encode() + held)
    return b"\n".join(parts)
