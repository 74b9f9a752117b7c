"""Small molecules of ASE's G2 collection, shaken by Langevin dynamics and labelled with GFN2-xTB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed
from ase.collections import g2
from tblite.ase import TBLite
from tqdm import tqdm

from pipeline.steps.labelling.langevin import Array, langevin
from pipeline.steps.labelling.rows import Labelled, LeftOut, generator, judged
from pipeline.steps.labelling.settings import at_least
from pipeline.steps.labelling.workers import mapped

METHOD = "GFN2-xTB"
ELEMENTS = frozenset("HCNO")


@dataclass(frozen=True)
class Settings:
    """How many molecules and geometries, and how they are shaken."""

    seed: int = at_least(0)
    frames: int = at_least(1)  # labelled geometries of each molecule
    temperature: float = at_least(0)  # K
    timestep: float = at_least(1e-3)  # fs
    stride: int = at_least(1)  # time steps from one labelled geometry to the next
    friction: float = at_least(0)  # 1/fs
    min_atoms: int = at_least(1)
    max_atoms: int = at_least(1)
    max_molecules: int | None = at_least(1)  # the first so many of the collection; null = all
    max_force: float = at_least(0)  # eV/Å; a geometry with a larger component is left out


def label(settings: Settings, processes: int) -> Iterator[Labelled | LeftOut]:
    """Yield every molecule's frames in the collection's order; ValueError if no molecule fits."""
    names = chosen(settings)
    if not names:
        raise ValueError(
            f"No closed-shell molecule of H, C, N, O has {settings.min_atoms} to {settings.max_atoms} atoms. "
            "Widen database.label.min_atoms and max_atoms (3 and 14 are usual)."
        )
    jobs = [(name, settings) for name in names]
    for rows in tqdm(mapped(_labelled, jobs, processes), "label", len(jobs), unit=" molecule", disable=None):
        yield from rows


def chosen(settings: Settings) -> list[str]:
    """The names of the collection's closed-shell molecules of H, C, N and O within the sizes asked for."""
    names = [name for name in g2.names if _fits(molecule(name), settings)]
    return names[: settings.max_molecules]


def _fits(atoms: Atoms, settings: Settings) -> bool:
    closed_shell = not atoms.has("initial_magmoms")  # the collection gives moments to radicals and triplets alone
    right_size = settings.min_atoms <= len(atoms) <= settings.max_atoms
    return closed_shell and right_size and ELEMENTS.issuperset(atoms.get_chemical_symbols())


def _labelled(job: tuple[str, Settings]) -> list[Labelled | LeftOut]:
    name, settings = job
    atoms = molecule(name)
    path = langevin(
        atoms.positions,
        atoms.get_masses(),
        _Driver(atoms).forces,
        generator(settings.seed, name),
        thermal_energy=settings.temperature * units.kB,
        timestep=settings.timestep * units.fs,
        friction=settings.friction / units.fs,
    )
    rows: list[Labelled | LeftOut] = []
    try:
        every = islice(path, settings.stride - 1, settings.stride * settings.frames, settings.stride)
        for frame, positions in enumerate(every):
            atoms.positions = positions
            rows.append(_frame(name, frame, atoms, settings.max_force))
    except CalculationFailed as error:  # no forces, no further step: the frames still to come are lost too
        reason = f"the dynamics stopped on the way to it: {error}"
        rows += [LeftOut(name, frame, reason) for frame in range(len(rows), settings.frames)]
    return rows


def _frame(name: str, frame: int, atoms: Atoms, max_force: float) -> Labelled | LeftOut:
    # From the free atoms' guess, so that a label depends on its geometry alone and not on the path to it, and converged
    # until forces are good to 1e-6 eV/Å (5e-4 at the usual accuracy).
    calculator = TBLite(method=METHOD, verbosity=0, accuracy=0.01)
    try:
        calculator.calculate(atoms)
    except CalculationFailed as error:
        return LeftOut(name, frame, str(error))
    results = {key: calculator.results[key] for key in ("energy", "forces", "charges", "dipole")}
    return judged(name, frame, atoms, results, max_force, calculator="tblite")


class _Driver:
    """Forces along a path of near geometries: each calculation starts from the last one's electrons."""

    def __init__(self, atoms: Atoms) -> None:
        self._atoms = atoms.copy()
        self._atoms.calc = TBLite(method=METHOD, verbosity=0)

    def forces(self, positions: Array) -> Array:
        """Forces (n_atoms, 3) in eV/Å; CalculationFailed if the electrons do not settle from a fresh guess either."""
        self._atoms.positions = positions
        try:
            forces: Array = self._atoms.get_forces()
        except CalculationFailed:
            self._atoms.calc = TBLite(method=METHOD, verbosity=0)
            forces = self._atoms.get_forces()
        return forces
