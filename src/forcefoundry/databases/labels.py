"""Finding labels in rows: an explicit key first, then REF_*, then calculator results, then common aliases."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import Axis, column

ALIASES = {
    "energy": ("free_energy", "Energy", "total_energy", "dft_energy", "energy_xtb", "E"),
    "forces": ("force", "Forces", "dft_forces", "forces_xtb", "F"),
    "stress": ("Stress", "dft_stress"),
    "charges": ("Q",),
    "dipole": ("D",),
}


def available(atoms: Any) -> dict[str, str]:
    """What a row carries: key to where it lies (results, info or arrays)."""
    where = {str(key): "info" for key in atoms.info}
    where |= {key: "arrays" for key in atoms.arrays if key not in ("numbers", "positions")}
    if atoms.calc is not None:
        where |= {key: "results" for key, value in atoms.calc.results.items() if value is not None}
    return where


def choose_key(name: str, asked: str | None, counts: Counter[str]) -> str | None:
    """The key under which rows carry a property, out of how many rows carry each key; None when there is none.

    A key that was asked for and that no row carries is a ValueError that names the nearest.
    """
    if asked is not None:
        if counts[asked]:
            return asked
        near = get_close_matches(asked, counts, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Rows carry {', '.join(sorted(counts)) or 'no labels'}."
        raise ValueError(f"No row carries the key {asked!r} that database.keys.{name} names. {hint}")
    for key in (f"REF_{name}", name, *ALIASES.get(name, ())):
        if counts[key]:
            return key
    return None


def value_of(atoms: Any, name: str, key: str) -> NDArray[np.float64] | None:
    """One row's label in the shape of its column, or None where the row has none."""
    where = available(atoms).get(key)
    if where is None:
        return None
    source = {"info": atoms.info, "arrays": atoms.arrays}.get(where)
    found = np.asarray(atoms.calc.results[key] if source is None else source[key], dtype=np.float64)
    known = column(name)
    if name == "stress" and "virial" in key.lower():
        # virial = -V · stress, eV
        found = -full_stress(found) / atoms.get_volume()
    elif name == "stress":
        found = full_stress(found)
    expected = (len(atoms), *known.shape) if known.axis is Axis.ATOM else known.shape
    # Flattened numbers and axes of length 1 are put into shape; transposed ones would be scrambled by that.
    same = found.ndim <= 1 or _without_ones(found.shape) == _without_ones(expected)
    if same and found.size == int(np.prod(expected)):
        found = found.reshape(expected)
    if found.shape != expected:
        raise ValueError(f"{name} (key {key!r}) has shape {found.shape}, expected {expected}.")
    return found


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def full_stress(stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) from ASE's Voigt order xx, yy, zz, yz, xz, xy, from nine numbers, or as it is."""
    if stress.shape == (6,):
        xx, yy, zz, yz, xz, xy = stress
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return stress.reshape(3, 3) if stress.size == 9 else stress
