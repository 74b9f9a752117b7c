"""Rows of crystals and molecules to plant faults into, and what single checks say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.measuring import measure
from tests.contract.lennard_jones import packed, strained

Columns = dict[str, NDArray[Any]]

N = 40
"""Rows of `crystals`."""

N_ATOMS = 32
"""Atoms of each of them."""


@cache
def _crystals() -> Columns:
    return packed(strained(N))


def crystals() -> Columns:
    """Columns of strained and shaken crystals of copper with true labels, of which no check finds anything."""
    return {name: values.copy() for name, values in _crystals().items()}


def structures(frames: Sequence[Atoms], energy: Sequence[float]) -> Columns:
    """Columns of these structures with these energies and no other labels."""
    return {
        "n_atoms": np.array([len(atoms) for atoms in frames]),
        "species": np.concatenate([atoms.numbers for atoms in frames]),
        "positions": np.concatenate([atoms.positions for atoms in frames]),
        "cell": np.array([np.asarray(atoms.cell) for atoms in frames]),
        "pbc": np.array([atoms.pbc for atoms in frames]),
        "energy": np.asarray(energy, dtype=np.float64),
    }


def stacked(*parts: Columns) -> Columns:
    """The rows of all parts, with the labels that all of them have."""
    return {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0] if all(name in part for part in parts)
    }


def atom(row: int, number: int = 0) -> int:
    """Where an atom of a row of `crystals` stands among all."""
    return row * N_ATOMS + number


def atoms(row: int) -> slice:
    """Where all of them stand."""
    return slice(row * N_ATOMS, (row + 1) * N_ATOMS)


def measured(columns: Columns, kinds: Sequence[str | None] | None = None) -> Measures:
    """The rows, measured."""
    n = len(columns["n_atoms"])
    return measure(columns, [None] * n if kinds is None else kinds, [None] * n)


def found(name: str, held: Columns | Measures, **options: Any) -> list[Finding]:
    """What a check says with its defaults, but for some options."""
    check = known_checks()[name]
    assert check.find is not None
    assert set(options) <= set(check.options)
    measures = held if isinstance(held, Measures) else measured(held)
    told = list(check.find(measures, {**check.options, **options}))
    assert all(one.check == name for one in told)
    assert all(one.what and one.got and one.expected and one.remedy for one in told)
    return told


def rows(name: str, held: Columns | Measures, **options: Any) -> list[int | None]:
    """The rows that a check names, in its order; None for the set as a whole."""
    return [one.row for one in found(name, held, **options)]


def in_splits(measures: Measures, split: Sequence[int], twin: Sequence[int] | None = None) -> Measures:
    """The rows once they are put into train (0), valid (1), test (2) or nowhere (-1)."""
    near = None if twin is None else np.array(twin, dtype=np.int64)
    return replace(measures, splits=("train", "valid", "test"), split=np.array(split, dtype=np.int64), twin=near)
