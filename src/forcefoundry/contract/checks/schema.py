"""What a data set says of itself in `database.schema`: its elements, and from where to where its numbers go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Floats, Measures

Quantity = tuple[Callable[[Measures], Floats], str, str]

QUANTITIES: Mapping[str, Quantity] = {
    "n_atoms": (lambda m: m.n_atoms.astype(np.float64), "the number of atoms", ""),
    "energy": (lambda m: m.energy, "the energy", " eV"),
    "energy_per_atom": (lambda m: m.energy / m.n_atoms, "the energy", " eV/atom"),
    "max_force": (lambda m: m.max_force, "the largest force", " eV/Å"),
    "rms_force": (lambda m: m.rms_force, "the rms force", " eV/Å"),
    "net_force": (lambda m: m.net_force, "the sum of all forces", " eV/Å"),
    "max_stress": (lambda m: m.max_stress, "the largest component of the stress", " eV/Å³"),
    "pressure": (lambda m: m.pressure, "a third of the stress's trace, tension positive,", " eV/Å³"),
    "volume": (lambda m: m.volume, "the volume of the cell", " Å³"),
    "volume_per_atom": (lambda m: m.volume / m.n_atoms, "the volume of the cell", " Å³/atom"),
    "distance": (lambda m: m.distance, "the distance between the two closest atoms", " Å"),
}
"""What a range may be given of: its name in `database.schema.ranges`, how it is had, told, and its unit."""


def schema(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A row with an element or a number that `database.schema` does not allow. What a row does not have is no finding.

    Raises:
        ValueError: for what is no element, no known quantity or no range.
    """
    allowed = _elements(options["species"])
    ranges = {name: _range(name, given) for name, given in dict(options["ranges"] or {}).items()}
    if allowed is not None:
        yield from _other_species(measures, allowed)
    for name, (low, high) in ranges.items():
        of_rows, what, unit = QUANTITIES[name]
        values = of_rows(measures)
        for row in np.flatnonzero((values < low) | (values > high)).tolist():
            number = f"{values[row]:.0f}" if name == "n_atoms" else f"{values[row]:.6g}"
            yield Finding(
                "schema",
                row,
                what,
                f"{number}{unit}",
                f"{low:g} to {high:g}{unit} (database.schema.ranges.{name})",
                "Repair the row or leave it out, or widen the range.",
            )


def _other_species(measures: Measures, allowed: set[int]) -> Iterator[Finding]:
    from ase.data import chemical_symbols

    other = np.array([number not in allowed for number in measures.species], dtype=bool)
    for row in np.flatnonzero((measures.composition[:, other] > 0).any(axis=1)).tolist():
        present = [number for at, number in enumerate(measures.species) if other[at] and measures.composition[row, at]]
        yield Finding(
            "schema",
            row,
            "an element of the structure",
            " and ".join(chemical_symbols[number] for number in present),
            f"{', '.join(chemical_symbols[number] for number in sorted(allowed))} alone (database.schema.species)",
            "Leave the row out, or add the element to the list.",
        )


def _elements(symbols: Any) -> set[int] | None:
    from ase.data import atomic_numbers

    if symbols is None:
        return None
    for symbol in symbols:
        if symbol not in atomic_numbers or symbol == "X":
            # YAML reads a bare No as false, which is near to nothing that was meant.
            text = symbol.capitalize() if isinstance(symbol, str) else ""
            near = get_close_matches(text, atomic_numbers, n=1, cutoff=0.5)
            hint = (
                f"Did you mean {near[0]}?" if near else "Give symbols such as [H, C, O]; NO, ON and the like in quotes."
            )
            raise ValueError(f"database.schema.species names {symbol!r}, which is no element. {hint}")
    return {int(atomic_numbers[symbol]) for symbol in symbols}


def _range(name: str, given: Any) -> tuple[float, float]:
    if name not in QUANTITIES:
        near = get_close_matches(name, QUANTITIES, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(QUANTITIES)}."
        raise ValueError(f"database.schema.ranges names {name!r}, which is no quantity here. {hint}")
    ends = list(given) if isinstance(given, list | tuple) else []
    if len(ends) == 2 and all(end is None or (type(end) in (int, float) and np.isfinite(end)) for end in ends):
        low = -np.inf if ends[0] is None else float(ends[0])
        high = np.inf if ends[1] is None else float(ends[1])
        if low <= high:
            return low, high
    raise ValueError(
        f"database.schema.ranges.{name} is {given!r}, expected two numbers in{QUANTITIES[name][2] or ' atoms'}, the "
        "lower first, such as [0, 50]; null for an end that is open."
    )


CHECKS = (Check("schema", schema, "quarantine", options={"species": None, "ranges": {}}),)
