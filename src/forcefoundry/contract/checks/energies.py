"""Energies that cannot be meant: far from what their atoms make likely, zero, or isolated atoms' that bind nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.atoms_fit import above_atoms, lone, with_energy
from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.robust import FEWEST, by_kind, spread
from forcefoundry.databases.isolated import says_isolated

_LOOK = "Look at the row: repair it or leave it out, or accept it if it is meant."


def outliers(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """An energy far from what the atoms of a row make likely, among those of its config_type."""
    spreads, times, least = (float(options[name]) for name in ("spreads", "times", "least"))
    rows = with_energy(measures)
    left = np.full(len(measures), np.nan)
    left[rows] = above_atoms(measures, rows)
    for members, among, name in by_kind(measures, rows):
        if len(among) < FEWEST:
            continue
        middle = float(np.median(left[among]))
        apart = np.abs(left[among] - middle)
        nine_tenths = float(np.quantile(apart, 0.9))
        far, most = spreads * spread(left[among]), times * nine_tenths
        limit, why = (
            (far, f"{spreads:g} spreads of {name}") if far < most else (most, f"{times:g} × nine tenths of {name}")
        )
        # A second heap of rows, of another temperature or phase, is no outlier: these are few.
        limit, why = (2.0 * nine_tenths, f"2 × nine tenths of {name}") if limit < 2.0 * nine_tenths else (limit, why)
        limit, why = (least, "less is never told") if limit < least else (limit, why)
        for row in members[np.abs(left[members] - middle) > limit].tolist():
            yield Finding(
                "energy_outlier",
                row,
                f"the energy, {measures.energy[row]:.10g} eV,",
                f"{left[row] - middle:+.4g} eV/atom from what its atoms make likely",
                f"at most {limit:.4g} eV/atom ({why})",
                f"Look whether it is a total and not per atom, its sign, and whether it converged. {_LOOK}",
            )


def zero(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """An energy that is exactly zero in a row of several atoms while others are not: a placeholder."""
    zeros = measures.energy == 0.0
    if zeros.sum() * 2 > np.isfinite(measures.energy).sum():
        return  # zero is what is usual here
    for row in np.flatnonzero(zeros & (measures.n_atoms > 1)).tolist():
        yield Finding(
            "zero_energy",
            row,
            f"the energy of {measures.n_atoms[row]} atoms",
            "exactly 0 eV",
            "one like those of the other rows",
            "If the row has no energy, take the zero out of it: without it the row counts as unlabelled.",
        )


def isolated(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Isolated atoms that are none or contradict each other, or that leave no sensible binding to the structures."""
    yield from _not_alone(measures)
    alone = lone(measures)
    alone = alone[np.isfinite(measures.energy[alone])]
    element = measures.composition[alone].argmax(axis=1)
    of_atom = np.full(len(measures.species), np.nan)
    for row, at in zip(alone.tolist(), element.tolist(), strict=True):
        if np.isnan(of_atom[at]):
            of_atom[at] = measures.energy[row]
        elif abs(measures.energy[row] - of_atom[at]) > float(options["differ"]):
            yield Finding(
                "isolated_atoms",
                row,
                f"the energy of an isolated atom of {_symbol(measures.species[at])}",
                f"{measures.energy[row]:.10g} eV",
                f"that of the first such row, {of_atom[at]:.10g} eV, within {options['differ']:g} eV",
                "Keep the one that was computed with the settings of the rest.",
            )
    yield from _binding(measures, alone, of_atom, float(options["least"]), float(options["most"]))


def _not_alone(measures: Measures) -> Iterable[Finding]:
    """Rows that say they are isolated atoms, and have several atoms, or images within reach."""
    said = [at for at, name in enumerate(measures.kinds) if says_isolated(name)]
    for row in np.flatnonzero(
        np.isin(measures.kind, said) & ((measures.n_atoms > 1) | (measures.distance > 0))
    ).tolist():
        several = measures.n_atoms[row] > 1
        yield Finding(
            "isolated_atoms",
            row,
            "the number of atoms of an isolated atom" if several else "the distance of an isolated atom from its image",
            str(measures.n_atoms[row]) if several else f"{measures.distance[row]:.4g} Å",
            "1" if several else "one beyond reach of all forces",
            "It is split and trained on as any other structure: give it another config_type, or leave it out."
            if several
            else "Make its cell larger, or set pbc to False.",
        )


def _binding(measures: Measures, alone: Any, of_atom: Any, least: float, most: float) -> Iterable[Finding]:
    """The median of what structures gain an atom, where the single atoms of all their elements are known."""
    rows = with_energy(measures)
    rows = rows[~(measures.composition[rows][:, np.isnan(of_atom)] > 0).any(axis=1)]
    if not len(rows) or not len(alone):
        return
    atoms = measures.composition[rows] @ np.nan_to_num(of_atom)
    gained = float(np.median((atoms - measures.energy[rows]) / measures.n_atoms[rows]))
    if not least <= gained <= most:
        known = ", ".join(
            f"{_symbol(measures.species[at])} {of_atom[at]:.6g}" for at in np.flatnonzero(~np.isnan(of_atom))
        )
        yield Finding(
            "isolated_atoms",
            None,
            f"what structures gain over isolated atoms ({known} eV), its median over {len(rows)} rows,",
            f"{gained:.4g} eV/atom",
            f"{least:g} to {most:g} eV/atom",
            "Look whether atoms and structures were computed with the same settings and have the same unit.",
        )


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


CHECKS = (
    Check("energy_outlier", outliers, "quarantine", options={"spreads": 20.0, "times": 6.0, "least": 0.02}),
    Check("zero_energy", zero, "quarantine"),
    Check("isolated_atoms", isolated, "warn", options={"differ": 0.001, "least": -1.0, "most": 20.0}),
)
