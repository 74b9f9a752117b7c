"""Structures that are there twice: to the bit, nearly, or with another energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures, first_of_key


def _repeats(measures: Measures) -> list[tuple[int, int]]:
    first = first_of_key(measures.keys)
    return [(row, int(first[row])) for row in np.flatnonzero(first != np.arange(len(first))).tolist()]


def _twins(measures: Measures) -> list[tuple[int, int]]:
    """Near duplicates that are no exact ones, each with the first row that it is one of."""
    if measures.twin is None:
        return []
    first = first_of_key(measures.keys)
    rows = np.flatnonzero((measures.twin >= 0) & (first == np.arange(len(first))))
    return [(row, int(measures.twin[row])) for row in rows.tolist()]


def exact(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A structure that an earlier row has to the last bit."""
    for row, earlier in _repeats(measures):
        yield Finding(
            "exact_duplicate",
            row,
            "the structure",
            f"that of {Finding.OTHER}, to the last bit",
            "each structure once",
            "Leave one of the two out, unless it is to count twice.",
            earlier,
        )


def near(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A structure that is an earlier one, turned, shifted, wrapped or renumbered."""
    for row, earlier in _twins(measures):
        yield Finding(
            "near_duplicate",
            row,
            "the structure",
            f"nearly that of {Finding.OTHER}: the same elements and distances",
            "structures that differ by more than turning, shifting, mirroring and numbering",
            "Leave one of the two out, unless it is to count twice.",
            earlier,
        )


def labels_differ(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """An energy other than that of the same structure, or nearly the same, in an earlier row."""
    same = [(*pair, "the same structure", float(options["energy_per_atom"])) for pair in _repeats(measures)]
    twins = [pair for pair in _twins(measures) if measures.n_atoms[pair[0]] > 1]  # single atoms: check isolated_atoms
    nearly = [(*pair, "nearly the same structure", float(options["near"])) for pair in twins]
    for row, earlier, which, threshold in (*same, *nearly):
        apart = abs(measures.energy[row] - measures.energy[earlier]) / measures.n_atoms[row]
        if apart > threshold:
            yield Finding(
                "duplicate_labels_differ",
                row,
                "the energy",
                f"{measures.energy[row]:.6f} eV, and that of {which} in {Finding.OTHER} "
                f"{measures.energy[earlier]:.6f} eV",
                f"energies of {which} within {threshold:g} eV/atom",
                "Find out which was computed with the settings of the rest, and leave the other out.",
                earlier,
            )


CHECKS = (
    Check("exact_duplicate", exact, "warn"),
    Check("near_duplicate", near, "warn"),
    Check("duplicate_labels_differ", labels_differ, "quarantine", options={"energy_per_atom": 0.001, "near": 0.005}),
)
