"""Whether two things that physics ties together agree in a set of rows, and by which factor if they do not.

Energies and forces: between neighbouring rows the energy changes by the work of the forces. Stress and volume: the
pressure of one composition falls as its cell grows, by the bulk modulus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from forcefoundry.contract.measures import Floats, Ints, Measures

_FEWEST_STEPS, _FEWEST_CELLS = 8, 15
_HEAVIEST = 3  # the two steps of most work weigh as much as the third: a row is in two steps
_ALIKE = 0.7  # the share of steps, or the correlation, from which one factor explains them
_OPEN = 5.0  # Å: a cell with a gap that wide is a slab or a molecule in a box, whose volume is mostly vacuum


@dataclass(frozen=True)
class Agreement:
    """What one quantity is in terms of another: `factor` times, as `count` rows say."""

    factor: float
    count: int


def work_factor(measures: Measures, rows: Ints) -> Agreement | None:
    """How many times the work of the forces energies change by, 1 where all is right; None where rows do not tell.

    The median of the steps' ratios, each weighed by its work: a few wrong rows do not move it. Nothing is told by fewer
    than eight steps, or where one factor does not explain seven tenths of them within a factor of two; or more than
    that of few, which chance can make alike.
    """
    energy, work = measures.step_energy[rows], measures.step_work[rows]
    told = np.isfinite(energy) & np.isfinite(work) & (work != 0.0)
    if told.sum() < _FEWEST_STEPS:
        return None
    ratio, weight = energy[told] / work[told], np.abs(work[told])
    weight = np.minimum(weight, np.sort(weight)[-_HEAVIEST])  # one absurd force must not speak for all
    factor = _weighted_median(ratio, weight)
    if factor == 0.0:
        return None
    agree = (ratio / factor > 0.5) & (ratio / factor < 2.0)
    if weight[agree].sum() < (_ALIKE + 1.0 / told.sum()) * weight.sum():
        return None
    return Agreement(factor, int(told.sum()))


def bulk_modulus(measures: Measures) -> Agreement | None:
    """eV/Å³, by how much the trace of the stress by three rises with the logarithm of the volume; None if unknown.

    The median over compositions of 15 periodic rows or more whose pressures go with their volumes, weighed by rows.
    Rows with vacuum do not count: there the tension of surfaces and bonds falls as the vacuum grows.
    """
    slopes, weights = [], []
    for rows in _of_one_composition(measures):
        volume = np.log(measures.volume[rows])
        pressure = measures.pressure[rows]
        if np.ptp(volume) < 0.005 or not np.ptp(pressure) > 0.0:
            continue
        slope, goes_with = _slope(volume, pressure)
        if abs(goes_with) >= _ALIKE:
            slopes.append(slope)
            weights.append(float(len(rows)))
    if not slopes:
        return None
    return Agreement(_weighted_median(np.array(slopes), np.array(weights)), int(sum(weights)))


def pressure_factor(measures: Measures) -> Agreement | None:
    """How many times the pressure energies change by as cells grow, about 1 where all is right; None if unknown.

    Of rows of one composition that follow each other in volume, ΔE by mean pressure · ΔV; structures differ in
    more than volume, so only the median's order of magnitude is to be believed.
    """
    ratios = []
    for rows in _of_one_composition(measures):
        rows = rows[np.isfinite(measures.energy[rows])]
        rows = rows[np.argsort(measures.volume[rows], kind="stable")]
        one, two = rows[:-1], rows[1:]
        grown = measures.volume[two] - measures.volume[one]
        work = 0.5 * (measures.pressure[one] + measures.pressure[two]) * grown
        far = (grown > 0.002 * measures.volume[one]) & (work != 0.0)
        ratios.append((measures.energy[two] - measures.energy[one])[far] / work[far])
    every = np.concatenate([np.zeros(0), *ratios])
    return Agreement(float(np.median(every)), len(every)) if len(every) >= _FEWEST_STEPS else None


def _of_one_composition(measures: Measures) -> Iterator[Ints]:
    told = np.flatnonzero(np.isfinite(measures.pressure) & (measures.gap < _OPEN))
    if not len(told):
        return
    # Rows of as many atoms: a slab and a bulk cell of one element have little to do with each other.
    _, number = np.unique(measures.composition[told], axis=0, return_inverse=True)
    order = np.argsort(number.ravel(), kind="stable")
    cuts = np.flatnonzero(np.diff(number.ravel()[order])) + 1
    for members in np.split(told[order], cuts):
        if len(members) >= _FEWEST_CELLS:
            yield members


def _slope(x: Floats, y: Floats) -> tuple[float, float]:
    """The slope of y over x and their correlation, without the tenth of points that are farthest from both medians."""
    far = np.abs(y - np.median(y))
    kept = far <= np.quantile(far, 0.95)
    x, y = x[kept] - x[kept].mean(), y[kept] - y[kept].mean()
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    return (xy / xx, xy / np.sqrt(xx * yy)) if xx > 0.0 and yy > 0.0 else (0.0, 0.0)


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)])
