"""Copper-gold crystals on the fcc lattice, strained and rattled, labelled with ASE's EMT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.steps.labelling.rows import Labelled, LeftOut, generator, judged
from pipeline.steps.labelling.settings import at_least

Cell = tuple[bool, tuple[int, int, int]]

COPPER, GOLD = 29, 79
LATTICE = {COPPER: 3.59, GOLD: 4.06}  # Å, where EMT's energy is lowest

# Ten structures go round these, so that the mixed cells, of which there are most, come most often.
FAMILIES = ("Cu", "Au", "Cu3Au", "CuAu", "CuAu3", "alloy", "alloy", "alloy", "vacancy", "vacancy")
ORDERED = {  # on the four sites of the cubic cell: the corner, then the faces across x, y and z
    "Cu": (COPPER, COPPER, COPPER, COPPER),
    "Au": (GOLD, GOLD, GOLD, GOLD),
    "Cu3Au": (GOLD, COPPER, COPPER, COPPER),
    "CuAu": (COPPER, GOLD, GOLD, COPPER),
    "CuAu3": (COPPER, GOLD, GOLD, GOLD),
}
# Cells: whether of the cubic unit of 4 sites or of the primitive one of 1 site, and how many units along each side.
CUBIC: tuple[Cell, ...] = ((True, (1, 1, 1)), (True, (2, 1, 1)), (True, (2, 2, 1)), (True, (2, 2, 2)))
PRIMITIVE: tuple[Cell, ...] = ((False, (2, 2, 2)), (False, (3, 2, 2)), (False, (3, 3, 2)), (False, (3, 3, 3)))


@dataclass(frozen=True)
class Settings:
    """How many crystals, and how far they are from perfect."""

    seed: int = at_least(0)
    structures: int = at_least(1)
    max_atoms: int = at_least(16)  # a vacancy wants a cell of at least 16 sites
    strain: float = at_least(0)  # the largest component of the random strain, and of the change of all lengths together
    rattle: float = at_least(0)  # Å, the largest standard deviation of the atoms' random displacements
    max_force: float = at_least(0)  # eV/Å; a structure with a larger component is left out


def label(settings: Settings, processes: int) -> Iterator[Labelled | LeftOut]:
    """Yield the crystals in their order; one process is enough, and `processes` is not used."""
    seen = dict.fromkeys(FAMILIES, 0)
    for index in tqdm(range(settings.structures), "label", unit=" crystal", disable=None):
        name = FAMILIES[index % len(FAMILIES)]
        frame = seen[name]
        seen[name] += 1
        atoms = _crystal(name, settings, generator(settings.seed, name, frame))
        calculator = EMT()
        calculator.calculate(atoms)
        results = {key: calculator.results[key] for key in ("energy", "forces", "stress")}
        yield judged(name, frame, atoms, results, settings.max_force, calculator="emt")


def _crystal(name: str, settings: Settings, rng: np.random.Generator) -> Atoms:
    if name in ORDERED:
        atoms = _sites(CUBIC, 4, settings.max_atoms, rng)
        atoms.numbers = np.tile(ORDERED[name], len(atoms) // 4)
    else:
        atoms = _sites(CUBIC + PRIMITIVE, 16 if name == "vacancy" else 8, settings.max_atoms, rng)
        atoms.numbers = _mixed(len(atoms), 0 if name == "vacancy" else 1, rng)
    # Lengths by Vegard's rule, before atoms are taken out: a vacancy does not shrink the lattice.
    side = np.mean([LATTICE[int(number)] for number in atoms.numbers]) * (1 + rng.uniform(-1, 1) * settings.strain)
    strain = rng.uniform(-settings.strain, settings.strain, (3, 3))
    atoms.set_cell(side * atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    if name == "vacancy":
        del atoms[rng.choice(len(atoms), rng.integers(1, 3), replace=False)]
    atoms.positions += rng.uniform(0.2, 1) * settings.rattle * rng.standard_normal(atoms.positions.shape)
    return atoms


def _sites(cells: tuple[Cell, ...], least: int, most: int, rng: np.random.Generator) -> Atoms:
    """One of `cells` with `least` to `most` sites, at a lattice constant of 1; composition gives the real one."""
    fitting = [cell for cell in cells if least <= (4 if cell[0] else 1) * np.prod(cell[1]) <= most]
    cubic, repeats = fitting[rng.integers(len(fitting))]
    return bulk("Cu", "fcc", a=1.0, cubic=cubic) * repeats


def _mixed(n_atoms: int, least: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Atomic numbers (n_atoms,) of a random mixture with at least `least` atoms of either element."""
    n_gold = rng.integers(least, n_atoms - least + 1)
    return rng.permutation(np.where(np.arange(n_atoms) < n_gold, GOLD, COPPER))
