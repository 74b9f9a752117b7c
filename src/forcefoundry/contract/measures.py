"""What the checks know of each row: numbers that fit in memory for a million rows, made while rows stream by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Measures:
    """One entry a row that could be read, n of them, in canonical units; NaN where a row has no such thing.

    Attributes:
        n_atoms: (n,) number of atoms.
        species: the E atomic numbers that occur, ascending.
        composition: (n, E) how many atoms of each.
        kinds, kind: the values of `config_type` (or of database.group), and (n,) which of them a row has, -1 for none.
        pbc: (n, 3).
        volume: (n,) Å³ of a cell that is periodic in all three directions.
        gap: (n,) Å, the thickest layer of a row's cell without the centre of an atom, as `gaps.gaps` finds it; NaN for
            rows without a stress, or not periodic in all three directions.
        distance: (n,) Å, between the two atoms that are closest for their elements; NaN where none are within reach.
        nearness: (n,) that distance by the sum of their covalent radii.
        closest: (n, 2) the two atoms.
        energy: (n,) eV.
        max_force, rms_force: (n,) eV/Å, the largest force's length, and the root of the mean square of the components.
        max_force_atom: (n,) the atom with the largest force, -1 for none.
        net_force: (n,) eV/Å, the length of the sum of all forces.
        polarity: (n,) of rows of several atoms whose forces are all exactly zero: how far their surroundings are from
            making them so by symmetry, as `symmetric.polarity` tells; 0 is symmetric, NaN for all other rows.
        pressure: (n,) eV/Å³, a third of the trace of the stress: tension positive.
        max_stress: (n,) eV/Å³, the largest component of the stress by absolute value.
        stress_asymmetry: (n,) eV/Å³, the largest difference between the stress and its transpose.
        step_energy: (n,) eV, energy less that of a neighbouring row, as `trajectories.steps` finds one.
        step_work: (n,) eV, what the mean of both rows' forces says that difference is: −Σ ½(F + F′)·Δr.
        keys: (n, 32) the content key, as `keys_of` gives it.
        fingerprint: (n, k) float32, what nearly equal structures have nearly equal, however turned or numbered.
        labelled: label to (n,), whether a row has it.
        given: (n,) the official split of the row's file, by its number in `splits`, -1 for none.
        splits, split: the names of the splits, and (n,) where each row was put, -1 for nowhere; known after splitting.
        twin: (n,) the earliest row that each is a near duplicate of, by its number among these, -1 for none; None until
            the door has set it, by `replace(measures, twin=near_duplicates(measures, take).twin)`.
    """

    n_atoms: Ints
    species: tuple[int, ...]
    composition: NDArray[np.integer[Any]]
    kinds: tuple[str, ...]
    kind: Ints
    pbc: NDArray[np.bool_]
    volume: Floats
    gap: Floats
    distance: Floats
    nearness: Floats
    closest: Ints
    energy: Floats
    max_force: Floats
    rms_force: Floats
    max_force_atom: Ints
    net_force: Floats
    polarity: Floats
    pressure: Floats
    max_stress: Floats
    stress_asymmetry: Floats
    step_energy: Floats
    step_work: Floats
    keys: NDArray[np.uint8]
    fingerprint: NDArray[np.float32]
    labelled: Mapping[str, NDArray[np.bool_]]
    given: Ints
    splits: tuple[str, ...] = ()
    split: Ints | None = None
    twin: Ints | None = None

    def __len__(self) -> int:
        return len(self.n_atoms)

    def without(self, names: Sequence[str]) -> Measures:
        """The same with numbers that nobody needs any more let go of: NaN for floats, -1 for others."""
        gone: dict[str, Any] = {}
        for name in names:
            values = getattr(self, name)
            nothing = np.array(np.nan if values.dtype.kind == "f" else -1, dtype=values.dtype)
            gone[name] = np.broadcast_to(nothing, values.shape)
        return replace(self, **gone)

    def take(self, rows: Ints) -> Measures:
        """Those rows alone, in that order; all of them in theirs are these measures themselves."""
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self
        taken: dict[str, Any] = {
            one.name: _taken(getattr(self, one.name), rows)
            for one in fields(self)
            if isinstance(getattr(self, one.name), np.ndarray)
        }
        if self.twin is not None:
            places = np.full(len(self) + 1, -1, dtype=np.int64)  # the last one is for -1
            places[:-1][rows] = np.arange(len(places[:-1][rows]))
            taken["twin"] = places[self.twin[rows]]
        return replace(self, **taken, labelled={name: has[rows] for name, has in self.labelled.items()})


def _one_for_all(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers none of which is one, as the stresses of rows without any, as one NaN that stands for all of them."""
    if values.dtype.kind != "f" or values.ndim > 1 or not np.isnan(values).all():
        return values
    return np.broadcast_to(np.array(np.nan, dtype=values.dtype), values.shape)


def _taken(values: NDArray[Any], rows: Ints) -> NDArray[Any]:
    if not any(values.strides):  # one number for all rows
        return np.broadcast_to(values[:1], (len(rows), *values.shape[1:])) if len(values) else values[:0]
    taken: NDArray[Any] = values[rows]
    return taken


def row_numbers(columns: Iterable[NDArray[Any]]) -> NDArray[np.uint64]:
    """(m,) equal for rows whose values are equal in all columns (m,) of whole numbers; hardly ever for others."""
    rng = np.random.default_rng(0)
    parts = (column.astype(np.uint64) * np.uint64(rng.integers(1 << 62) * 2 + 1) for column in columns)
    return np.asarray(sum(parts, start=np.uint64(0)))


def first_of_key(keys: NDArray[np.uint8]) -> Ints:
    """(n,) the first row with each row's content key (n, 32)."""
    first = np.arange(len(keys))
    # By their first eight bytes: sorting whole keys takes several times their memory.
    heads = np.ascontiguousarray(keys[:, :8]).view("<u8").ravel()
    order = np.argsort(heads, kind="stable")
    same = heads[order[1:]] == heads[order[:-1]]
    for start, stop in _runs(same):
        known: dict[bytes, int] = {}
        for row in order[start:stop].tolist():
            first[row] = known.setdefault(keys[row].tobytes(), row)
    return first


def _runs(same: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where runs of two or more equal neighbours start and end; same: (n - 1,) whether each is the one before it."""
    edges = np.diff(np.concatenate([[0], same.astype(np.int8), [0]]))
    yield from zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) + 1).tolist(), strict=True)


def joined(parts: Sequence[Measures]) -> Measures:
    """The rows of all parts, one part after another; elements, kinds and labels are those of any part.

    Parts are as they come out of the rows of files, before splitting.
    """
    species = tuple(sorted({number for part in parts for number in part.species}))
    kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.kinds))
    labels = dict.fromkeys(name for part in parts for name in part.labelled)
    splits = tuple(dict.fromkeys(split for part in parts for split in part.splits))
    whole: dict[str, Any] = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts])
        for one in fields(Measures)
        if isinstance(getattr(parts[0], one.name), np.ndarray) and one.name not in ("composition", "kind", "given")
    }
    whole |= {name: _one_for_all(values) for name, values in whole.items()}
    compositions = [np.zeros((len(part), len(species)), dtype=np.int32) for part in parts]
    for part, counts in zip(parts, compositions, strict=True):
        counts[:, [species.index(number) for number in part.species]] = part.composition
    return Measures(
        **whole,
        species=species,
        composition=np.concatenate(compositions),
        kinds=kinds,
        kind=np.concatenate([_renumbered(part.kind, part.kinds, kinds) for part in parts]),
        labelled={
            name: np.concatenate([part.labelled.get(name, np.zeros(len(part), dtype=bool)) for part in parts])
            for name in labels
        },
        given=np.concatenate([_renumbered(part.given, part.splits, splits) for part in parts]),
        splits=splits,
    )


def _renumbered(codes: Ints, names: Sequence[str], among: Sequence[str]) -> Ints:
    at = {name: place for place, name in enumerate(among)}
    places = np.array([at[name] for name in names] + [-1], dtype=np.int64)  # the last one is for -1
    return places[codes]
