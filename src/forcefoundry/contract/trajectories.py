"""Rows that are near one another on an energy surface, and whether the forces do the work that the energies say.

A row's neighbour is the one before it, as in a trajectory, or the one that is most like it among those that were
measured with it, as in frames drawn from a trajectory: whichever is nearer once both are laid over each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.fingerprints import fingerprints
from forcefoundry.contract.measures import Floats, Ints

FARTHEST = 0.5
"""Å: rows between which an atom moved more are no neighbours; the mean force on the way is too coarse then."""

_NEAREST = 1e-6  # Å: what moved less is the same structure again
_SAME_CELL = 1e-6  # Å
_PAIRS_AT_ONCE = 20_000

Columns = Mapping[str, NDArray[Any]]


def steps(columns: Columns, fingerprint: NDArray[np.float32] | None = None) -> tuple[Floats, Floats]:
    """For each of n rows in the order of their file, what lies between it and its neighbour.

    Args:
        columns: packed structures with `energy` and `forces`, some thousands.
        fingerprint: (n, k) theirs, if it is known.

    Returns:
        (n,) eV, the energy less that of the neighbour, and (n,) eV, the work -Σ ½(F + F')·Δr of the mean forces on
        the way, which is the same to third order in Δr. NaN where a row has no neighbour: of other atoms or in another
        order, of another cell, or farther away than `FARTHEST`, or without labels. Two rows that are each other's
        neighbours are one step, of the later row: counted twice it would seem to be confirmed.
    """
    n_atoms = np.asarray(columns["n_atoms"], dtype=np.int64)
    energy, work = np.full(len(n_atoms), np.nan), np.full(len(n_atoms), np.nan)
    if "energy" not in columns or "forces" not in columns or len(n_atoms) < 2:
        return energy, work
    labelled = np.isfinite(columns["energy"]) & (n_atoms > 1)
    if not labelled.any():
        return energy, work
    fingerprint = fingerprints(columns) if fingerprint is None else fingerprint
    nearest, neighbour = np.full(len(n_atoms), FARTHEST), np.full(len(n_atoms), -1, dtype=np.int64)
    for pairs in _candidates(columns, n_atoms, labelled, fingerprint):
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            farthest, done = _between(columns, n_atoms, part[:, 0], part[:, 1])
            good = np.isfinite(done) & (farthest > _NEAREST) & (farthest < nearest[part[:, 0]])
            rows, others = part[good].T
            nearest[rows], neighbour[rows] = farthest[good], others
            energy[rows] = columns["energy"][rows] - columns["energy"][others]
            work[rows] = done[good]
    rows = np.flatnonzero(neighbour > np.arange(len(n_atoms)))
    twice = rows[neighbour[neighbour[rows]] == rows]
    energy[twice], work[twice] = np.nan, np.nan
    return energy, work


def _candidates(columns: Columns, n_atoms: Ints, labelled: NDArray[np.bool_], fingerprint: Any) -> Iterator[Ints]:
    """Pairs of rows of the same atoms in the same order and cell: with the one before, and with the most similar."""
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    make = _makes(columns, n_atoms)
    alike = np.flatnonzero((make[1:] == make[:-1]) & labelled[1:] & labelled[:-1]) + 1
    yield np.stack([alike, alike - 1], axis=1)
    usable = np.flatnonzero(labelled & np.isfinite(fingerprint).all(axis=1))
    _, number, many = np.unique(make[usable], return_inverse=True, return_counts=True)
    several = many[number] > 1
    members, number = usable[several], number[several]
    if not len(members):
        return
    points = fingerprint[members].astype(np.float64)
    # One tree for all makes: they lie so far apart that the nearest row is one of the same.
    apart = 2.0 * float(np.linalg.norm(points, axis=1).max()) + 1.0
    points = np.column_stack([points, apart * number])
    others = cKDTree(points).query(points, k=2)[1]
    # Of rows that are there twice the nearest may be the row itself.
    other = np.where(others[:, 1] == np.arange(len(members)), others[:, 0], others[:, 1])
    yield np.stack([members, members[other]], axis=1)


def _makes(columns: Columns, n_atoms: Ints) -> Ints:
    """(n,) equal numbers for rows with the same elements in the same order, periodicity and cell."""
    species = np.ascontiguousarray(columns["species"], dtype=np.int64)
    cell = np.where(columns["pbc"][:, :, None], columns["cell"], 0.0)
    known: dict[bytes, int] = {}
    ends = np.cumsum(n_atoms)
    frames = np.ascontiguousarray(np.rint(cell.reshape(-1, 9) / _SAME_CELL)) + 0.0  # -0 has other bytes than 0
    return np.array(
        [
            known.setdefault(species[end - count : end].tobytes() + frames[row].tobytes(), len(known))
            for row, (count, end) in enumerate(zip(n_atoms.tolist(), ends.tolist(), strict=True))
        ],
        dtype=np.int64,
    )


def _between(columns: Columns, n_atoms: Ints, rows: Ints, others: Ints) -> tuple[Floats, Floats]:
    """(m,) Å, how far the atom goes that goes farthest from `others` to `rows`, and (m,) eV, the work on the way."""
    if not len(rows):
        return np.zeros(0), np.zeros(0)
    starts = np.cumsum(n_atoms) - n_atoms
    counts = n_atoms[rows]
    first = np.cumsum(counts) - counts
    pair = np.repeat(np.arange(len(rows)), counts)
    inside = np.arange(counts.sum()) - first[pair]
    to, back = starts[rows][pair] + inside, starts[others][pair] + inside
    here, there = (np.asarray(columns["positions"][at], dtype=np.float64) for at in (to, back))
    turn = np.broadcast_to(np.eye(3), (len(rows), 3, 3))
    periodic: NDArray[np.bool_] = np.asarray(columns["pbc"][rows].any(axis=1))
    moved = here - there
    if periodic.any():
        cell = np.where(columns["pbc"][rows][:, :, None], columns["cell"][rows], 0.0)
        wrapped = np.rint(np.einsum("ik,ikl->il", moved, _inverses(cell)[pair]))
        moved = moved - np.einsum("ik,ikl->il", wrapped, cell[pair])
    if not periodic.all():
        here, there = (x - _means(x, first, counts)[pair] for x in (here, there))
        turn = np.where(periodic[:, None, None], np.eye(3), _turns(here, there, first))
        laid = np.einsum("ik,ikl->il", here, turn[pair])
        moved = np.where(periodic[pair][:, None], moved, laid - there)
    moved = moved - _means(moved, first, counts)[pair]  # moving all atoms alike does no work
    farthest = np.sqrt(np.maximum.reduceat(np.einsum("ik,ik->i", moved, moved), first))
    mean = 0.5 * (np.einsum("ik,ikl->il", columns["forces"][to], turn[pair]) + columns["forces"][back])
    return farthest, -np.add.reduceat(np.einsum("ik,ik->i", mean, moved), first)


def _inverses(cell: Floats) -> Floats:
    """(m, 3, 3) of each cell; of those with vectors of nothing the pseudo-inverse, which takes far longer."""
    found, whole = np.empty_like(cell), np.linalg.det(cell) != 0.0
    found[whole] = np.linalg.inv(cell[whole])
    found[~whole] = np.linalg.pinv(cell[~whole])
    return found


def _means(values: Floats, first: Ints, counts: Ints) -> Floats:
    found: Floats = np.add.reduceat(values, first, axis=0) / counts[:, None]
    return found


def _turns(here: Floats, there: Floats, first: Ints) -> Floats:
    """(m, 3, 3) the rotations R with least Σ |here @ R - there|², centred both (Kabsch, Acta Cryst. A32, 922, 1976)."""
    products = np.add.reduceat(np.einsum("ik,il->ikl", here, there), first)
    u, _, v = np.linalg.svd(products)
    mirror = np.ones((len(first), 3))
    mirror[:, 2] = np.where(np.linalg.det(u @ v) < 0, -1.0, 1.0)
    found: Floats = (u * mirror[:, None, :]) @ v
    return found
