"""Which units and signs numbers of a file may have, each guess with what speaks for it; none is taken in silence.

Lengths are told by bonds: atoms that are neighbours lie about as far apart as their covalent radii add up to. Energies
are told where they are those of all electrons, which atoms by themselves have nearly too (Thomas and Fermi's, with
Scott's and Schwinger's corrections, come within 3 % from carbon on). Forces are told by their work: from a frame of a
trajectory to the next the energy changes by −F·Δr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.agreement import Agreement
from forcefoundry.contract.measures import Floats, Ints
from forcefoundry.databases.units import unit
from forcefoundry.pairs.cpu import CpuFinder

_LOOKED_AT = 60
"""Structures whose bonds are measured."""
_BONDED = (0.7, 1.35)
"""The nearest atoms' distance over the sum of their covalent radii, from hydrogen to molten metals."""
_LENGTHS = ("Å", "Bohr", "nm", "pm")
_ENERGIES = ("eV", "Hartree", "kcal/mol", "kJ/mol", "meV")
_FORCES = (
    *("eV/Å", "Hartree/Bohr", "kcal/mol/Å", "kJ/mol/Å", "meV/Å"),
    *("Ry/Bohr", "eV/Bohr", "Hartree/Å", "kcal/mol/Bohr"),
)


_ROUGHLY, _NEARLY, _EXACTLY = 0.4, 0.2, 0.08
"""Of a factor's logarithm. Work between rows that are some way apart is rough: it may confirm what is usual, but what
is not usual has to fit well."""


@dataclass(frozen=True)
class Guess:
    """What numbers seem to be.

    Attributes:
        of: length, energy, forces, stress.
        told: how it is shown; what is not known is said to be so.
        evidence: what speaks for it, in words.
        unit: as `database.units` takes it, or None where it is the default.
        sign: as `database.signs` takes it, or None.
    """

    of: str
    told: str
    evidence: str
    unit: str | None = None
    sign: str | None = None


def guess_length(columns: Mapping[str, NDArray[Any]]) -> Guess:
    """The unit of positions and cell, by the bonds of some structures; columns as the file has them."""
    ratios = _bonds(columns)
    if not len(ratios):
        return Guess("length", "taken for Å", "no structure has two atoms that could be neighbours")
    middle = float(np.median(ratios))
    evidence = f"nearest atoms lie {middle:.3g} of their covalent radii apart (median of {len(ratios)} structures)"
    fitting = [name for name in _LENGTHS if _BONDED[0] <= middle * unit(name).factor <= _BONDED[1]]
    if not fitting:
        return Guess("length", "taken for Å, though no unit fits", evidence)
    found = fitting[0]
    return Guess("length", found, evidence, None if found == "Å" else found)


def guess_energy(columns: Mapping[str, NDArray[Any]]) -> Guess | None:
    """The unit of the energies, where they are those of all electrons."""
    if "energy" not in columns:
        return None
    ends = np.cumsum(columns["n_atoms"])
    of_atoms = np.add.reduceat(all_electrons(columns["species"]), ends - columns["n_atoms"])
    labelled = np.isfinite(columns["energy"]) & (columns["n_atoms"] > 1)
    if not labelled.any():
        return Guess("energy", "taken for eV", "no structure of several atoms has an energy")
    ratio = float(np.median(columns["energy"][labelled] / of_atoms[labelled]))
    middle = float(np.median(columns["energy"][labelled] / columns["n_atoms"][labelled]))
    for name in _ENERGIES:
        expected = unit("Hartree").factor / unit(name).factor
        if abs(ratio / expected - 1) < 0.06:
            evidence = (
                f"totals are {ratio:.4g} × what all electrons of the atoms have in Hartree, which is {expected:.4g} "
                f"{name}"
            )
            return Guess("energy", name, evidence, None if name == "eV" else name)
    evidence = (
        f"{middle:.4g} an atom is no total of all electrons in any unit; what it is, the program that made it knows"
    )
    return Guess("energy", "taken for eV", evidence)


def guess_forces(work: Agreement | None, energy: Guess, default: float) -> Guess:
    """The unit and sign of the forces by their work between neighbouring rows.

    Args:
        work: what `work_factor` says with numbers as the file has them, but lengths in Å.
        energy: what energies seem to be.
        default: eV/Å that the forces have if they follow the units of energy and length.
    """
    usual = "as energy and length say"
    if work is None:
        return Guess("forces", usual, "no rows are near enough to each other for their work to say anything")
    evidence = f"between near rows energies change by {work.factor:.3g} × the work of the forces ({work.count} steps)"
    sign, factor = "gradients" if work.factor < 0 else None, abs(work.factor)
    known = energy.told in _ENERGIES
    if abs(np.log(factor * unit(energy.told if known else "eV").factor / default)) < _ROUGHLY:
        return Guess("forces", usual, evidence, None, sign)
    energies = (energy.told,) if known else _ENERGIES
    apart = {
        (of, name): abs(np.log(factor * unit(of).factor / unit(name).factor)) for of in energies for name in _FORCES
    }
    # What fits equally well stays in the order of how usual it is.
    near = [pair for pair in sorted(apart, key=lambda pair: round(apart[pair], 2)) if apart[pair] < _NEARLY]
    exact = [pair for pair in near if apart[pair] < _EXACTLY]
    if len(exact) == 1 and exact[0][0] in (energy.told, "eV"):
        return Guess("forces", exact[0][1], evidence, exact[0][1], sign)
    told = " or ".join(f"{name} with energies in {of}" for of, name in near[:4])
    return Guess("forces", f"perhaps {told}: declare it" if told else "unclear: no unit fits", evidence, None, sign)


def guess_stress(columns: Mapping[str, NDArray[Any]]) -> Guess | None:
    """What the size of the stresses says: 0.1 eV/Å³ are 16 GPa already."""
    if "stress" not in columns:
        return None
    largest = np.abs(columns["stress"]).max(axis=(1, 2))
    largest = largest[np.isfinite(largest)]
    if not len(largest):
        return None
    middle = float(np.median(largest))
    evidence = f"half of the structures have a component above {middle:.3g}"
    if middle < 1:
        return Guess("stress", "taken for eV/Å³, tension positive", evidence)
    likely = "GPa" if middle < 30 else "kbar"
    evidence += f", which would be {middle * 160.2:.0f} GPa in eV/Å³"
    return Guess("stress", f"perhaps {likely}: declare it", evidence)


def guess_dipole(columns: Mapping[str, NDArray[Any]]) -> Guess | None:
    """What the size of the dipoles says, which is little: molecules have all of them up to some e·Å."""
    if "dipole" not in columns:
        return None
    lengths = np.linalg.norm(columns["dipole"], axis=1)
    lengths = lengths[np.isfinite(lengths)]
    if not len(lengths):
        return None
    middle = float(np.median(lengths))
    debye, bohr = (middle / unit(name).factor for name in ("Debye", "e·Bohr"))
    evidence = (
        f"numbers alone do not tell; half of the lengths are above {middle:.3g}, which as e·Å would be {debye:.3g} "
        f"Debye or {bohr:.3g} e·Bohr: compare that with what the molecule is known to have"
    )
    return Guess("dipole", "unclear", evidence)


def _bonds(columns: Mapping[str, NDArray[Any]]) -> Floats:
    """The nearest atoms' distance over the sum of their radii, of some structures."""
    from ase.data import covalent_radii

    n_atoms = columns["n_atoms"]
    starts = np.cumsum(n_atoms) - n_atoms
    several = np.flatnonzero((n_atoms > 1) & (n_atoms <= 300))
    found = []
    for row in several[:: max(1, len(several) // _LOOKED_AT)].tolist():
        atoms = slice(starts[row], starts[row] + n_atoms[row])
        radii = np.nan_to_num(covalent_radii[columns["species"][atoms]], nan=1.5)
        positions = columns["positions"][atoms]
        if columns["pbc"][row].any():
            i, j, distance = _near_pairs(positions, columns["cell"][row], columns["pbc"][row])
        else:
            i, j = np.triu_indices(len(radii), 1)
            distance = np.linalg.norm(positions[i] - positions[j], axis=1)
        if len(distance):
            found.append((distance / (radii[i] + radii[j])).min())
    return np.array(found)


def _near_pairs(positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> tuple[Ints, Ints, Floats]:
    """Pairs of a periodic structure within twice the edge of an atom's room, whatever the lengths' unit."""
    volume = abs(np.linalg.det(cell)) or np.prod(np.ptp(positions, axis=0) + 1)
    scale = (len(positions) / volume) ** (1 / 3)
    try:
        pairs = CpuFinder()(positions * scale, cell[None] * scale, pbc[None], 2.0, np.array([0, len(positions)]))
    except ValueError:  # atoms in one place, which a check tells of
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    apart = positions[pairs.j] - positions[pairs.i] + pairs.S @ cell
    return pairs.i, pairs.j, np.linalg.norm(apart, axis=1)


def all_electrons(species: NDArray[np.int64]) -> Floats:
    """About the energy of all electrons of single atoms, Hartree; species: atomic numbers."""
    z = species.astype(np.float64)
    found: Floats = -0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.2699 * z ** (5 / 3)
    return found


def proposed(guesses: Sequence[Guess]) -> tuple[dict[str, str], dict[str, str]]:
    """The units and signs that guesses would have declared."""
    units = {one.of: one.unit for one in guesses if one.unit is not None}
    signs = {one.of: one.sign for one in guesses if one.sign is not None}
    return units, signs
