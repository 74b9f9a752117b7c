"""The vocabulary: every column that structures, labels and pairs may have, with its axis, shape and unit.

Arrays are packed: the atoms of all systems lie one after another (axis ATOM), beside one row a system (axis SYSTEM)
and one row a pair (axis PAIR). No array is padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum

import numpy as np


class Axis(Enum):
    """What one row of a column stands for."""

    SYSTEM = "system"
    ATOM = "atom"
    PAIR = "pair"


@dataclass(frozen=True)
class Column:
    """A named quantity: its axis, the shape of one row, its NumPy dtype and its canonical unit."""

    name: str
    axis: Axis
    shape: tuple[int, ...]
    dtype: type[np.generic]
    unit: str
    meaning: str


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("n_atoms", Axis.SYSTEM, (), np.int64, "1", "number of atoms"),
        Column("cell", Axis.SYSTEM, (3, 3), np.float64, "Å", "lattice vectors as rows; a non-periodic one is ignored"),
        Column("pbc", Axis.SYSTEM, (3,), np.bool_, "1", "whether each lattice vector is periodic"),
        Column("energy", Axis.SYSTEM, (), np.float64, "eV", "potential energy"),
        Column("stress", Axis.SYSTEM, (3, 3), np.float64, "eV/Å³", "stress, tension positive"),
        Column("dipole", Axis.SYSTEM, (3,), np.float64, "e·Å", "dipole moment"),
        Column("charge", Axis.SYSTEM, (), np.float64, "e", "total charge"),
        Column("spin", Axis.SYSTEM, (), np.float64, "1", "spin multiplicity, 2S + 1: 1 where all electrons are paired"),
        Column("weight", Axis.SYSTEM, (), np.float64, "1", "how much the structure counts in a weighted loss"),
        Column("species", Axis.ATOM, (), np.int64, "1", "atomic number"),
        Column("positions", Axis.ATOM, (3,), np.float64, "Å", "Cartesian positions, wrapped or not"),
        Column("forces", Axis.ATOM, (3,), np.float64, "eV/Å", "force on each atom"),
        Column("charges", Axis.ATOM, (), np.float64, "e", "atomic partial charge"),
        Column("atom_weight", Axis.ATOM, (), np.float64, "1", "how much the atom counts in a weighted loss"),
        Column("system_of_atom", Axis.ATOM, (), np.int64, "1", "index of the atom's system in the batch"),
        Column("strain", Axis.SYSTEM, (3, 3), np.float64, "1", "zeros that the energy is differentiated by for stress"),
    )
}

STRUCTURE = ("species", "positions", "cell", "pbc", "n_atoms")
"""The columns that say what a structure is; everything else is a label."""

DERIVED = ("system_of_atom", "strain")
"""The columns that a batch makes from the others and no database holds."""


def column(name: str) -> Column:
    """Look a column up by name; an unknown name is a ValueError that says the nearest."""
    try:
        return COLUMNS[name]
    except KeyError:
        near = get_close_matches(name, COLUMNS, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" Known are {', '.join(COLUMNS)}."
        raise ValueError(f"{name!r} is not a column.{hint}") from None
