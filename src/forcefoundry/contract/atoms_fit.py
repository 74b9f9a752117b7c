"""Energies of atoms by a fit that a few wrong rows do not spoil, and what is left of each row's energy without them."""

from __future__ import annotations

import numpy as np

from forcefoundry.contract.measures import Floats, Ints, Measures, row_numbers

_MOST = 20_000  # compositions that are fitted; of more an even sample is
_STEPS = 40
_SMALLEST = 1e-4  # eV/atom: deviations below count as equal


def lone(measures: Measures) -> Ints:
    """The rows that are one atom in open space."""
    return np.flatnonzero((measures.n_atoms == 1) & ~measures.pbc.any(axis=1))


def with_energy(measures: Measures) -> Ints:
    """The rows that have an energy, but for single atoms in open space: they are not bound to anything."""
    bound = np.isfinite(measures.energy)
    bound[lone(measures)] = False
    return np.flatnonzero(bound)


def above_atoms(measures: Measures, rows: Ints) -> Floats:
    """(m,) eV an atom: the rows' energies less those of their atoms, of which the sum of deviations is least.

    Energies of one composition count by their median; where compositions leave the energies of atoms open, as for a
    single molecule, their sum is what is determined.
    """
    per_atom = measures.energy[rows] / measures.n_atoms[rows]
    if not len(rows):
        return per_atom
    compositions = measures.composition[rows]
    _, first, number = np.unique(row_numbers(compositions.T), return_index=True, return_inverse=True)
    kinds = compositions[first]
    middles = _medians(per_atom, number, len(kinds))
    counts = np.minimum(np.bincount(number, minlength=len(kinds)), 100).astype(np.float64)
    shares = kinds / kinds.sum(axis=1, keepdims=True)
    some = np.unique(np.linspace(0, len(kinds) - 1, min(len(kinds), _MOST)).astype(np.int64))
    # Around the middle, so that totals of thousands of eV leave room for the digits that matter.
    centre = float(np.median(per_atom))
    fitted = _least_deviations(shares[some], middles[some] - centre, counts[some])
    left: Floats = per_atom - centre - (shares @ fitted)[number]
    return left


def _medians(values: Floats, number: Ints, n: int) -> Floats:
    """(n,) the median of the values with each number."""
    order = np.lexsort((values, number))
    counts = np.bincount(number, minlength=n)
    starts = np.cumsum(counts) - counts
    low, high = values[order][starts + (counts - 1) // 2], values[order][starts + counts // 2]
    return np.asarray(low + 0.5 * (high - low))


def _least_deviations(shares: Floats, values: Floats, counts: Floats) -> Floats:
    """The (E,) x with least Σ counts · |values − shares @ x|, by least squares weighted anew again and again."""
    weights = np.sqrt(counts)
    fitted: Floats = np.zeros(shares.shape[1])
    for _ in range(_STEPS):
        before = fitted
        fitted = np.asarray(np.linalg.lstsq(shares * weights[:, None], values * weights, rcond=None)[0])
        if np.abs(shares @ (fitted - before)).max() < _SMALLEST:
            break
        weights = np.sqrt(counts / np.maximum(np.abs(values - shares @ fitted), _SMALLEST))
    return np.asarray(fitted)
