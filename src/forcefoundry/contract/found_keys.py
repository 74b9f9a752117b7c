"""What stands in rows: every key, where it lies, how many rows have it, in which shape, and from where to where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forcefoundry.databases.labels import available

_MOST_WORDS = 1000
"""Different texts that are counted; beyond that there are many."""


@dataclass
class FoundKey:
    """A key of rows.

    Attributes:
        key: its name.
        places: place (info, arrays or results) to the number of rows that have it there.
        shapes: the shapes in which it stands; the number of atoms is N.
        low, high: the ends of its numbers, inf and -inf where it has none.
        words: its texts, and how many rows have each.
    """

    key: str
    places: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    low: float = math.inf
    high: float = -math.inf
    words: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows have it."""
        return sum(self.places.values())

    def add(self, place: str, value: Any, n_atoms: int) -> None:
        """Count one row's value."""
        self.places[place] = self.places.get(place, 0) + 1
        if isinstance(value, str):
            shape = "text"
            if len(self.words) < _MOST_WORDS or value in self.words:
                self.words[value] = self.words.get(value, 0) + 1
        elif isinstance(value, (bool, np.bool_)):
            shape = "true or false"
        else:
            shape = self._numbers(value, place, n_atoms)
        self.shapes[shape] = self.shapes.get(shape, 0) + 1

    def _numbers(self, value: Any, place: str, n_atoms: int) -> str:
        try:
            numbers = np.asarray(value)
        except ValueError:  # lists of several lengths
            return "other"
        if numbers.dtype.kind not in "fiu" or not numbers.size:
            return "texts" if numbers.dtype.kind in "US" else "other"
        finite = numbers[np.isfinite(numbers)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        of_atoms = place == "arrays" or (numbers.ndim == 2 and numbers.shape == (n_atoms, 3))
        shape = [str(length) for length in numbers.shape]
        if of_atoms and shape:
            shape[0] = "N"
        return " × ".join(shape) or "number"


class FoundKeys:
    """Every key of rows, in the order of first sight."""

    def __init__(self) -> None:
        self._by_name: dict[str, FoundKey] = {}

    def add(self, atoms: Any) -> None:
        """Count what one row (ASE Atoms) carries."""
        for key, place in available(atoms).items():
            source = {"info": atoms.info, "arrays": atoms.arrays}.get(place)
            value = atoms.calc.results[key] if source is None else source[key]
            self._by_name.setdefault(key, FoundKey(key)).add(place, value, len(atoms))

    def __iter__(self) -> Iterator[FoundKey]:
        return iter(self._by_name.values())
