"""Finding labels in rows: an explicit key first, then REF_*, then calculator results, then common aliases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import Axis, column

# rMD17's old_energies and old_forces are not among them, and must not be: they are the noisy ones.
ALIASES = {
    "energy": ("free_energy", "Energy", "total_energy", "dft_energy", "energy_xtb", "energies", "E"),
    "forces": ("force", "Forces", "dft_forces", "dft_force", "forces_xtb", "F"),
    "stress": ("Stress", "dft_stress", "REF_virial", "REF_virials", "virial", "virials", "dft_virial"),
    "charge": ("total_charge", "Q"),
    # No alias names 2S or S, which are other numbers.
    "spin": ("multiplicity", "spin_multiplicity", "total_spin"),
    "dipole": ("dft_dipole", "dipole_moment", "D"),
    "weight": ("config_weight",),
}

Carried = Mapping[str, Counter[str]]
"""Key to how many rows carry it in their results, info or arrays."""


@dataclass(frozen=True)
class Choice:
    """The key under which a property is read, and others under which it could have been."""

    key: str
    rivals: tuple[str, ...] = ()


def available(atoms: Any) -> dict[str, str]:
    """What a row carries: key to where it lies (results, info or arrays)."""
    where = {str(key): "info" for key, value in atoms.info.items() if value is not None}
    where |= {key: "arrays" for key in atoms.arrays if key not in ("numbers", "positions")}
    if atoms.calc is not None:
        where |= {key: "results" for key, value in atoms.calc.results.items() if value is not None}
    return where


def carried_by(rows: Iterable[Any]) -> Carried:
    """How many of the rows (ASE Atoms) carry each key, and where."""
    found: dict[str, Counter[str]] = {}
    for atoms in rows:
        for key, where in available(atoms).items():
            found.setdefault(key, Counter())[where] += 1
    return found


def usual_keys(name: str) -> tuple[str, ...]:
    """Where a property is looked for, in this order, if no key was asked for."""
    return (f"REF_{name}", name, *ALIASES.get(name, ()))


def choose_key(name: str, asked: str | None, carried: Carried) -> Choice:
    """The key under which rows carry a property.

    Raises:
        ValueError: no row carries the key that was asked for, or any of the usual ones; with the nearest.
    """
    column(name)
    if asked is not None:
        if asked in carried:
            return Choice(asked)
        raise ValueError(f"No row carries the key {asked!r} that database.keys.{name} names. {_near([asked], carried)}")
    usual = usual_keys(name)
    # A calculator's `energies` are those of single atoms.
    found = [key for key in usual if key in carried and (key != "energies" or set(carried[key]) == {"info"})]
    if not found:
        raise ValueError(
            f"No row carries {name} under one of the usual keys ({', '.join(usual)}). {_near(usual, carried)} Name the "
            f"key in database.keys.{name}, or label the rows."
        )
    return Choice(found[0], tuple(found[1:]))


def value_of(atoms: Any, name: str, key: str, is_virial: bool = False) -> NDArray[np.float64] | None:
    """One row's label in the shape of its column and in the units of the file, or None where the row has none.

    Args:
        atoms: the row.
        name: of the column.
        key: under which the row may carry it.
        is_virial: what stands there is −V · stress, and is divided by −V.

    Raises:
        ValueError: for another shape, or a virial of a structure without a volume.
    """
    where = available(atoms).get(key)
    if where is None:
        return None
    source = {"info": atoms.info, "arrays": atoms.arrays}.get(where)
    return shaped(atoms.calc.results[key] if source is None else source[key], atoms, name, key, is_virial)


def shaped(given: Any, atoms: Any, name: str, key: str, is_virial: bool = False) -> NDArray[np.float64]:
    """What a row carries under a key, in the shape of its column; as for `value_of`."""
    found = np.asarray(given, dtype=np.float64)
    known = column(name)
    if name == "stress":
        found = full_stress(found)
        if is_virial:
            if atoms.cell.rank < 3:
                raise ValueError(f"{name} (key {key!r}) is a virial, but the structure has no volume to divide it by.")
            found = -found / atoms.get_volume()
    expected = (len(atoms), *known.shape) if known.axis is Axis.ATOM else known.shape
    # Flattened numbers and axes of length 1 are put into shape; transposed ones would be scrambled by that.
    same = found.ndim <= 1 or _without_ones(found.shape) == _without_ones(expected)
    if same and found.size == int(np.prod(expected)):
        found = found.reshape(expected)
    if found.shape != expected:
        raise ValueError(f"{name} (key {key!r}) has shape {found.shape}, expected {expected}.")
    return found


def full_stress(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) from ASE's Voigt order xx, yy, zz, yz, xz, xy, from nine numbers, or as it is."""
    if stress.shape == (6,):
        xx, yy, zz, yz, xz, xy = stress
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return stress.reshape(3, 3) if stress.size == 9 else stress


def _near(wanted: Iterable[str], carried: Carried) -> str:
    """The closing sentence of a complaint: the keys most like those that were looked for, or all."""
    folded = {key.casefold(): key for key in sorted(carried)}
    near: list[str] = []
    for key in wanted:
        near += [folded[one] for one in get_close_matches(key.casefold(), folded, n=2, cutoff=0.75)]
        near += [found for one, found in folded.items() if len(key) > 4 and key.casefold() in one]
    if near:
        return f"Did you mean {' or '.join(dict.fromkeys(near))}?"
    return f"Rows carry {', '.join(sorted(carried)) or 'no labels'}."


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
