"""What keeps a row from coming in: found while rows are packed, in words that name the quantity and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ELEMENTS = 118


@dataclass(frozen=True)
class Fault:
    """One row that cannot come in as it is.

    Attributes:
        row: its number among the rows of its file.
        check: the name under which conf/contract says what follows.
        said: all of it in a sentence or two.
        what, got, expected, remedy: the same in parts.
        candidate: the property and the key whose value is wrong, or None where the row is wrong as a whole. A row
            whose label is wrong under a key that is not taken is a good row.
        content: the row's Atoms or, if it could not be read, what is known of its bytes; None where neither is kept.
    """

    row: int
    check: str
    said: str
    what: str
    got: str
    expected: str
    remedy: str
    candidate: tuple[str, str] | None = None
    content: Any = None


def structure_faults(columns: Mapping[str, NDArray[Any]], rows: Sequence[tuple[int, Any]]) -> list[Fault]:
    """The rows that are no structure: numbers that are not finite, atoms of no element, flat cells; once each.

    Args:
        columns: n_atoms, species, positions, cell and pbc, packed, in the units of the file.
        rows: the number and the Atoms of each.
    """
    n_atoms = columns["n_atoms"]
    starts = np.cumsum(n_atoms) - n_atoms
    found: dict[int, Fault] = {}
    for at in _first_in(~np.isfinite(columns["positions"]).all(axis=1), starts, n_atoms):
        found[at] = _not_finite(rows[at], "the position of atom", rows[at][1].positions)
    for at in np.flatnonzero(~np.isfinite(columns["cell"]).all(axis=(1, 2))).tolist():
        found.setdefault(at, _not_finite(rows[at], "lattice vector", np.asarray(rows[at][1].cell)))
    for at in _flat(columns["cell"], columns["pbc"]):
        if at not in found:
            found[at] = _flat_cell(rows[at])
    species = columns["species"]
    for at in _first_in((species < 1) | (species > _ELEMENTS), starts, n_atoms):
        if at not in found:
            found[at] = _no_element(rows[at])
    return [found[at] for at in sorted(found)]


def no_atoms(row: int, atoms: Any) -> Fault:
    """A structure of nothing."""
    said = "the structure has no atoms. Remove the row."
    return Fault(row, "no_atoms", said, "the number of atoms", "0", "1 or more", "Remove the row.", content=atoms)


def unreadable(row: int, reason: str, said: str, raw: bytes) -> Fault:
    """A row that its reader could make nothing of; `said` is what the reader says of such rows."""
    return Fault(
        row,
        "unreadable",
        f"{said} ({reason}).",
        "the row",
        f"one that {said} ({reason})",
        "a structure",
        "Repair or remove the row.",
        content=raw,
    )


def wrong_shape(row: int, candidate: tuple[str, str], reason: str, atoms: Any) -> Fault:
    """A label that does not fit its structure."""
    name, key = candidate
    reason = reason if reason.endswith(".") else f"{reason}."
    remedy = "Repair or remove the row."
    return Fault(
        row,
        "shape",
        f"{reason} {remedy}",
        f"{name} (key {key!r})",
        f"not to be read as such: {reason.rstrip('.')}",
        "numbers in the shape of the structure",
        remedy,
        candidate,
        atoms,
    )


def label_not_finite(row: int, candidate: tuple[str, str], atoms: Any) -> Fault:
    """A label that is there and no number."""
    name, key = candidate
    remedy = "Repair or remove the row."
    what = f"{name} (key {key!r})"
    said = f"{what} is not finite. {remedy}"
    return Fault(row, "not_finite", said, what, "not finite", "finite numbers", remedy, candidate, atoms)


def _not_finite(row: tuple[int, Any], what: str, values: NDArray[Any]) -> Fault:
    at = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
    got, expected, remedy = str(values[at].tolist()), "finite numbers in Å", "Repair or remove the row."
    said = f"{what} {at} is {got}, expected {expected}. {remedy}"
    return Fault(row[0], "not_finite", said, f"{what} {at}", got, expected, remedy, content=row[1])


def _flat_cell(row: tuple[int, Any]) -> Fault:
    vectors = np.asarray(row[1].cell)[row[1].pbc].tolist()
    remedy = "Give it a cell, or set pbc to False for that direction."
    said = f"it is periodic, but its periodic lattice vectors {vectors} are zero or lie in one plane. {remedy}"
    expected = "vectors that span as many dimensions as are periodic"
    return Fault(row[0], "flat_cell", said, "the periodic cell", str(vectors), expected, remedy, content=row[1])


def _no_element(row: tuple[int, Any]) -> Fault:
    numbers = row[1].numbers
    at = int(np.flatnonzero((numbers < 1) | (numbers > _ELEMENTS))[0])
    said = f"atomic number {numbers[at]} is not an element. Repair the row."
    what = f"the atomic number of atom {at}"
    return Fault(
        row[0], "no_element", said, what, str(numbers[at]), f"1 to {_ELEMENTS}", "Repair the row.", content=row[1]
    )


def _first_in(wrong: NDArray[np.bool_], starts: NDArray[np.int64], n_atoms: NDArray[np.int64]) -> list[int]:
    """The rows that have a wrong atom."""
    if not wrong.any():
        return []
    return np.flatnonzero(np.logical_or.reduceat(wrong, starts)).tolist()


def _flat(cells: NDArray[np.float64], pbc: NDArray[np.bool_]) -> list[int]:
    """The rows whose periodic lattice vectors are zero or lie in one plane or line, as `keys.is_flat` tells."""
    patterns = pbc @ np.array([1, 2, 4])
    found: list[int] = []
    for pattern in np.unique(patterns).tolist():
        rows = np.flatnonzero(patterns == pattern)
        rows = rows[np.isfinite(cells[rows]).all(axis=(1, 2))]
        if not pattern or not len(rows):
            continue
        vectors = cells[rows][:, pbc[rows[0]]]
        with np.errstate(over="ignore", under="ignore"):
            volume = np.sqrt(np.maximum(np.linalg.det(vectors @ vectors.transpose(0, 2, 1)), 0.0))
            flat = volume <= 1e-10 * np.prod(np.linalg.norm(vectors, axis=2), axis=1)
        found += rows[flat].tolist()
    return sorted(found)
