"""Frames of extended XYZ in the plain writing that nearly all files have, without ASE's reader: several times faster.

What comes is what ASE's reader makes of the same lines, to the last bit. Whatever is not known here with certainty is
UnsureError, and is left to ASE, which also says what is wrong with a frame that is no good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from forcefoundry.databases.formats._build import built, labelled, may_build
from forcefoundry.databases.formats._comment import UnsureError, columns_of, plain_info

DEFAULT = "species:S:1:pos:R:3"
"""The columns of a frame whose comment names none."""

_COLUMNS = re.compile(r"[1-9]\d?$", re.ASCII)
_BOOLS = {"T": True, "F": False, "True": True, "False": False}
_ONCE = ("energy", "free_energy", "magmom")  # labels of a whole structure, which ASE would take from a column as it is


def plain_frame(body: Sequence[str], text: str) -> tuple[Any, bool]:
    """The Atoms of a frame's comment and atoms, and whether the comment names the columns.

    Arguments:
        text: the atoms' lines as one, ASCII only.

    Raises:
        Exception: whatever the conversion stumbles over, UnsureError among it: ASE's reader must look at the frame.
    """
    if "_" in text or len(body) < 2 or not may_build():
        raise UnsureError
    info = plain_info(body[0])
    named = "Properties" in info
    layout = _layout(info.pop("Properties", DEFAULT))
    lattice = info.pop("Lattice", None)
    pbc = info.pop("pbc", lattice is not None)
    if layout is None or not _is_bool(pbc):
        raise UnsureError
    arrays = layout.arrays(body)
    mask = arrays.pop("move_mask", None)
    cell = None if lattice is None else lattice.T
    atoms = built(arrays.pop("numbers"), arrays.pop("positions"), arrays.pop("initial_charges", None), cell, pbc, info)
    if mask is not None:
        from ase.constraints import FixAtoms

        atoms.set_constraint(FixAtoms(mask=~mask))
    labelled(atoms, arrays)
    return atoms, named


def _is_bool(pbc: Any) -> bool:
    return isinstance(pbc, bool) or (isinstance(pbc, list) and len(pbc) == 3)


@dataclass(frozen=True)
class _Field:
    """Some columns side by side: under which name they go, and what makes values of them."""

    name: str
    columns: slice
    made: Callable[[Sequence[Sequence[str]]], np.ndarray]


@dataclass(frozen=True)
class _Layout:
    """What `Properties` says: how many columns, which of them are real numbers, and the others."""

    width: int
    reals: Callable[[Sequence[Sequence[str]]], Sequence[Sequence[str]]]
    n_reals: int
    real_fields: tuple[tuple[str, slice], ...]
    other_fields: tuple[_Field, ...]
    names: tuple[str, ...]

    def arrays(self, body: Sequence[str]) -> dict[str, np.ndarray]:
        """The arrays of a frame's lines behind its comment, in the order of their names in `Properties`."""
        columns = tuple(zip(*[line.split() for line in body[1:]], strict=True))
        if len(columns) != self.width:
            raise UnsureError
        count = len(body) - 1
        values = chain.from_iterable(self.reals(columns))
        reals = np.fromiter(map(float, values), np.float64, self.n_reals * count).reshape(self.n_reals, count)
        made = {name: _joined(reals[where]) for name, where in self.real_fields}
        for field in self.other_fields:
            made[field.name] = field.made(columns[field.columns])
        return {name: made[name] for name in self.names}


def _joined(columns: np.ndarray) -> np.ndarray:
    # One column is a row of atoms; several are a matrix, which ASE holds turned.
    joined: np.ndarray = columns[0] if len(columns) == 1 else columns.T
    return joined


def _integers(columns: Sequence[Sequence[str]]) -> np.ndarray:
    return _joined(np.array([list(map(int, column)) for column in columns], dtype="i"))


def _booleans(columns: Sequence[Sequence[str]]) -> np.ndarray:
    return _joined(np.array([[_BOOLS[token] for token in column] for column in columns], dtype=bool))


def _texts(columns: Sequence[Sequence[str]]) -> np.ndarray:
    return _joined(np.array(columns, dtype=object))


def _species(columns: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([_NUMBERS[token] for token in columns[0]], dtype=int)


class _Numbers(dict[str, int]):
    """Atomic numbers by symbols in any case."""

    def __missing__(self, symbol: str) -> int:
        from ase.data import atomic_numbers

        self[symbol] = number = int(atomic_numbers[symbol.capitalize()])
        return number


_NUMBERS = _Numbers()
_MADE = {"I": _integers, "L": _booleans, "S": _texts}


@lru_cache(maxsize=64)
def _layout(properties: Any) -> _Layout | None:
    # None where a frame of these columns is for ASE.
    from ase.calculators.calculator import all_properties
    from ase.io.extxyz import REV_PROPERTY_NAME_MAP, parse_properties

    try:
        columns_of(properties)
        parse_properties(properties)  # as an opinion
    except Exception:
        return None
    fields = properties.split(":")
    reals: list[int] = []
    real_fields: list[tuple[str, slice]] = []
    other_fields: list[_Field] = []
    names: list[str] = []
    at = 0
    for own_name, kind, n in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
        name = REV_PROPERTY_NAME_MAP.get(own_name, own_name)
        if not own_name or name in names or not _COLUMNS.match(n) or not _is_plain(name, kind, int(n), all_properties):
            return None
        columns = slice(at, at + int(n))
        at += int(n)
        if kind == "R":
            real_fields.append((name, slice(len(reals), len(reals) + int(n))))
            reals += range(columns.start, columns.stop)
        else:
            made = _species if name == "symbols" else _MADE[kind]
            name = "numbers" if name == "symbols" else name
            other_fields.append(_Field(name, columns, made))
        if name in names:
            return None
        names.append(name)
    if not {"numbers", "positions"} <= set(names):
        return None
    return _Layout(at, itemgetter(*reals), len(reals), tuple(real_fields), tuple(other_fields), tuple(names))


def _is_plain(name: str, kind: str, n: int, labels: Sequence[str]) -> bool:
    # What ASE takes apart from the others has one kind here; its labels are numbers.
    expected = {
        "symbols": ("S", 1),
        "numbers": ("I", 1),
        "positions": ("R", 3),
        "initial_charges": ("R", 1),
        "move_mask": ("L", 1),
    }
    if name in expected:
        return expected[name] == (kind, n)
    return name not in _ONCE if name in labels and kind in "RI" else name not in labels
