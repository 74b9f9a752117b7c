"""Structures that cannot be meant: atoms too close or too far, cells too small or too large, elements hardly seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.robust import FEWEST, by_kind

_LOOK = "Look at the row: repair it or leave it out, or accept it if it is meant."


def close_atoms(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Two atoms closer than a fraction of the sum of their covalent radii, down to one place for both."""
    fraction = float(options["fraction"])
    for row in np.flatnonzero(measures.nearness < fraction).tolist():
        one, other = measures.closest[row].tolist()
        what = f"the distance between atoms {one} and {other}"
        if one == other:
            what = f"the distance between atom {one} and its own image"
        distance, nearness = measures.distance[row], measures.nearness[row]
        # Atoms in one place have no sum of radii to be told from their distance.
        radii = f" = {fraction * distance / nearness:.3g} Å" if nearness > 0 else ""
        yield Finding(
            "close_atoms",
            row,
            what,
            f"{distance:.4g} Å, {nearness:.2f} of the sum of their covalent radii",
            f"{fraction:g} of it{radii} or more",
            f"Look whether the lengths are in Å, and whether the cell is the row's own. {_LOOK}",
        )


def far_atoms(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Two closest atoms that are farther apart than in nearly all rows of the same config_type, or out of reach."""
    times = float(options["times"])
    for members, among, name in by_kind(measures, np.flatnonzero(measures.n_atoms > 1)):
        near = measures.nearness[among]
        if len(among) < FEWEST or np.isnan(near).sum() * 10 > len(among):
            continue
        limit = times * float(np.nanquantile(near, 0.9))
        for row in members[~(measures.nearness[members] <= limit)].tolist():
            apart = measures.distance[row]
            yield Finding(
                "far_atoms",
                row,
                "the distance between the two closest atoms",
                f"{apart:.4g} Å, {measures.nearness[row]:.2f} of the sum of their covalent radii"
                if np.isfinite(apart)
                else "beyond reach",
                f"at most {limit:.3g} of it ({times:g} × nine tenths of {name})",
                f"Look whether the row's lengths are in Å. {_LOOK}",
            )


def volume(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A periodic cell with less room, or more, for each atom than any solid, slab or gas has, or others of its kind."""
    per_atom = measures.volume / measures.n_atoms
    limits = [(np.arange(len(measures)), float(options["least"]), float(options["most"]), "")]
    for members, among, name in by_kind(measures, np.flatnonzero(np.isfinite(per_atom))):
        if len(among) >= FEWEST:
            low, high = np.quantile(per_atom[among], [0.1, 0.9]).tolist()
            times = float(options["times"])
            limits.append((members, low / times, high * times, f" ({times:g} times what is usual for {name})"))
    told: set[int] = set()
    for rows, least, most, why in limits:
        for row in rows[(per_atom[rows] < least) | (per_atom[rows] > most)].tolist():
            if row in told:
                continue
            told.add(row)
            yield Finding(
                "volume_outlier",
                row,
                "the volume of the cell",
                f"{per_atom[row]:.4g} Å³/atom",
                f"{least:.4g} to {most:.4g} Å³/atom{why}",
                "Look whether cell and positions are in Å, and whether a molecule in a large box should have pbc "
                "False.",
            )


def rare_species(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """An element that hardly any structure has: nothing can be learned of it. Isolated atoms do not count."""
    from ase.data import chemical_symbols

    fewest = int(options["fewest"])
    bound = (measures.n_atoms > 1) | measures.pbc.any(axis=1)
    for at, number in enumerate(measures.species):
        rows = np.flatnonzero((measures.composition[:, at] > 0) & bound)
        if len(rows) >= fewest:
            continue
        for row in rows.tolist():
            yield Finding(
                "rare_species",
                row,
                f"the number of structures with {chemical_symbols[number]}",
                str(len(rows)),
                f"{fewest} or more",
                f"Look whether {chemical_symbols[number]} is meant, and add structures with it or leave these out.",
            )


CHECKS = (
    Check("close_atoms", close_atoms, "quarantine", options={"fraction": 0.5}),
    Check("far_atoms", far_atoms, "warn", options={"times": 1.5}),
    Check("volume_outlier", volume, "warn", options={"least": 3.0, "most": 1000.0, "times": 5.0}),
    Check("rare_species", rare_species, "warn", options={"fewest": 5}),
)
