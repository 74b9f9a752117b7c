"""Rows measured: of packed columns, the numbers that the checks look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import COLUMNS, STRUCTURE, Axis
from forcefoundry.contract.closest import closest
from forcefoundry.contract.gaps import gaps
from forcefoundry.contract.measures import Floats, Ints, Measures
from forcefoundry.contract.symmetric import polarity
from forcefoundry.databases.keys import keys_of

_TOO_CLOSE = 0.3  # of the sum of covalent radii

Columns = Mapping[str, NDArray[Any]]


def measure(columns: Columns, kinds: Sequence[str | None], given: Sequence[str | None]) -> Measures:
    """Measure n rows, whatever they are: atoms in one place, cells of nothing and absent labels are no errors.

    Args:
        columns: packed, in canonical units: `species`, `positions`, `cell`, `pbc`, `n_atoms`, and labels, NaN where a
            row has none. Rows that `steps` of trajectories are looked for in must be in the order of their file.
        kinds: (n,) each row's `config_type` (or `database.group`), None for none.
        given: (n,) the official split of each row's file, None for none.
    """
    n_atoms = np.asarray(columns["n_atoms"], dtype=np.int64)
    kind_names, kind = _numbered(kinds)
    split_names, split = _numbered(given)
    species, composition = _composition(columns["species"], n_atoms)
    distance, nearness, atoms = closest(columns)
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are wrong: the checks say so
        labels = _forces(columns, n_atoms) | _stress(columns, len(n_atoms)) | {"volume": _volume(columns)}
    fingerprint = _fingerprints(columns)
    step_energy, step_work = _steps(columns, fingerprint)
    return Measures(
        n_atoms=n_atoms,
        species=species,
        composition=composition,
        kinds=kind_names,
        kind=kind,
        pbc=np.asarray(columns["pbc"], dtype=bool),
        distance=distance,
        nearness=nearness,
        closest=atoms,
        energy=np.asarray(columns.get("energy", np.full(len(n_atoms), np.nan)), dtype=np.float64),
        **labels,
        gap=gaps(columns, np.flatnonzero(np.isfinite(labels["pressure"]) & (labels["volume"] > 0.0))),
        polarity=_polarity(columns, n_atoms, labels["max_force"], nearness),
        step_energy=step_energy,
        step_work=step_work,
        keys=keys_of(columns),
        fingerprint=fingerprint,
        labelled={name: _labelled(name, columns[name], n_atoms) for name in columns if name not in STRUCTURE},
        given=split,
        splits=split_names,
    )


def _numbered(names: Sequence[str | None]) -> tuple[tuple[str, ...], Ints]:
    """The different names in the order of first sight, and (n,) the number of each, -1 for None."""
    known: dict[str, int] = {}
    codes = [-1 if name is None else known.setdefault(str(name), len(known)) for name in names]
    return tuple(known), np.array(codes, dtype=np.int64)


def _composition(species: NDArray[Any], n_atoms: Ints) -> tuple[tuple[int, ...], Ints]:
    numbers = np.asarray(species, dtype=np.int64)
    present = np.flatnonzero(np.bincount(numbers)) if len(numbers) else np.zeros(0, dtype=np.int64)
    place = np.zeros(int(present[-1]) + 1 if len(present) else 0, dtype=np.int64)
    place[present] = np.arange(len(present))
    slots = np.repeat(np.arange(len(n_atoms)), n_atoms) * len(present) + place[numbers]
    counts = np.bincount(slots, minlength=len(n_atoms) * len(present))
    return tuple(present.tolist()), counts.reshape(len(n_atoms), len(present)).astype(np.int64)


def _forces(columns: Columns, n_atoms: Ints) -> dict[str, Any]:
    n = len(n_atoms)
    if "forces" not in columns or not n:
        nothing = {name: np.full(n, np.nan) for name in ("max_force", "rms_force", "net_force")}
        return nothing | {"max_force_atom": np.full(n, -1, dtype=np.int64)}
    forces = np.asarray(columns["forces"], dtype=np.float64)
    starts = np.cumsum(n_atoms) - n_atoms
    squares = np.einsum("ik,ik->i", forces, forces)
    largest = np.maximum.reduceat(squares, starts)
    at = np.flatnonzero(squares == np.repeat(largest, n_atoms))[::-1]  # backwards: the first of equal ones stays
    row = np.searchsorted(starts, at, side="right") - 1
    atom = np.full(n, -1, dtype=np.int64)
    atom[row] = at - starts[row]
    return {
        "max_force": np.sqrt(largest),
        "rms_force": np.sqrt(np.add.reduceat(squares, starts) / (3 * n_atoms)),
        "net_force": np.linalg.norm(np.add.reduceat(forces, starts, axis=0), axis=1),
        "max_force_atom": atom,
    }


def _polarity(columns: Columns, n_atoms: Ints, max_force: Floats, nearness: Floats) -> Floats:
    """Where all forces are zero; not of atoms so close that an Å holds thousands, which is wrong by itself."""
    found = np.full(len(n_atoms), np.nan)
    rows = np.flatnonzero((max_force == 0.0) & (n_atoms > 1) & ~(nearness < _TOO_CLOSE))
    if len(rows):
        found[rows] = polarity(columns, rows)
    return found


def _stress(columns: Columns, n: int) -> dict[str, Floats]:
    if "stress" not in columns:
        return {name: np.full(n, np.nan) for name in ("pressure", "max_stress", "stress_asymmetry")}
    stress = np.asarray(columns["stress"], dtype=np.float64)
    return {
        "pressure": np.trace(stress, axis1=1, axis2=2) / 3.0,
        "max_stress": np.abs(stress).max(axis=(1, 2)),
        "stress_asymmetry": np.abs(stress - stress.transpose(0, 2, 1)).max(axis=(1, 2)),
    }


def _volume(columns: Columns) -> Floats:
    volume: Floats = np.abs(np.linalg.det(np.asarray(columns["cell"], dtype=np.float64)))
    return np.where(np.asarray(columns["pbc"], dtype=bool).all(axis=1), volume, np.nan)


def _labelled(name: str, values: NDArray[Any], n_atoms: Ints) -> NDArray[np.bool_]:
    """(n,) whether each row has that label in all its atoms and components."""
    there: NDArray[np.bool_] = ~np.isnan(values).reshape(len(values), -1).any(axis=1)
    if name not in COLUMNS or COLUMNS[name].axis is Axis.SYSTEM or not len(n_atoms):
        return there
    of_rows: NDArray[np.bool_] = np.logical_and.reduceat(there, np.cumsum(n_atoms) - n_atoms)
    return of_rows


def _steps(columns: Columns, fingerprint: NDArray[np.float32]) -> tuple[Floats, Floats]:
    from forcefoundry.contract.trajectories import steps

    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are wrong
        return steps(columns, fingerprint)


def _fingerprints(columns: Columns) -> NDArray[np.float32]:
    from forcefoundry.contract.fingerprints import fingerprints

    return fingerprints(columns)
