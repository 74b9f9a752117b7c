"""What a labeller hands over: labelled rows, rows left out with their reason, and the seeds they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator


@dataclass(frozen=True)
class Labelled:
    """One structure with its labels, as results of its calculator in ASE's units; `name` is the group it belongs to."""

    name: str
    frame: int
    atoms: Atoms


@dataclass(frozen=True)
class LeftOut:
    """One structure that was to be labelled and was not, and why."""

    name: str
    frame: int
    reason: str


def judged(
    name: str, frame: int, atoms: Atoms, results: Mapping[str, Any], max_force: float, calculator: str
) -> Labelled | LeftOut:
    """Keep a structure if its labels are usable.

    `results` are energy (eV), forces (eV/Å, (n_atoms, 3)) and whatever else ASE names. Labels that are not finite, or
    a force component beyond `max_force` (eV/Å), leave the structure out. `calculator` is the name that the row carries.
    """
    for key, value in results.items():
        if not np.all(np.isfinite(value)):
            return LeftOut(name, frame, f"{key} is not finite")
    largest = float(np.abs(results["forces"]).max())
    if largest > max_force:
        return LeftOut(name, frame, f"a force component of {largest:.1f} eV/Å is above max_force = {max_force:g}")
    kept = atoms.copy()
    kept.calc = SinglePointCalculator(kept, **results)
    kept.calc.name = calculator
    return Labelled(name, frame, kept)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Random numbers that depend on the seed and the names alone, so not on the order or the process they run in."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
