"""Copper as EMT has it: energies and forces that belong together, of which no check has anything to say."""

from __future__ import annotations

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


def crystals(n: int, kind: str) -> list[ase.Atoms]:
    """Cells of copper, shaken, strained and of several sizes, with EMT's energies and forces."""
    rng = np.random.default_rng(len(kind))
    made = []
    for at in range(n):
        atoms = bulk("Cu", a=3.6 * rng.uniform(0.97, 1.05)).repeat((2, 2, 1 + at % 2))
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = kind
        made.append(atoms)
    return made
