"""What is usual among numbers some of which are wrong: medians and quantiles, kind by kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.measures import Floats, Ints, Measures

FEWEST = 10
"""Rows that a kind must have to be judged by itself; those of smaller ones are judged among all."""

_SMALLEST = 1e-3  # below this share of `least` numbers count as equal
_NARROWEST = 0.25  # of the logarithm: what is that narrow, is so by chance


@dataclass(frozen=True)
class Usual:
    """What is usual for some rows.

    Attributes:
        rows: (m,) which ones are judged.
        limit: up to where values are usual.
        why: the same in words, with what it comes from.
    """

    rows: Ints
    limit: float
    why: str


def named(measures: Measures, code: int) -> str:
    """A kind as it is told of."""
    return repr(measures.kinds[code]) if code >= 0 else "rows without a config_type" if measures.kinds else "all rows"


def rows_of(measures: Measures, code: int) -> str:
    """The rows of a kind as they are told of."""
    return f"rows of {named(measures, code)}" if code >= 0 else named(measures, code)


def of_each(codes: Ints, rows: Ints) -> Iterator[tuple[int, Ints]]:
    """Each code that rows have, ascending, and which of them have it, in their order; there may be as many as rows."""
    order = rows[np.argsort(codes[rows], kind="stable")]
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        if len(members):
            yield int(codes[members[0]]), members


def by_kind(measures: Measures, rows: Ints) -> Iterator[tuple[Ints, Ints, str]]:
    """For each kind among `rows` those of it, the rows that they are judged among, and how these are called."""
    few: list[Ints] = []
    for code, members in of_each(measures.kind, rows):
        if len(members) >= FEWEST:
            yield members, members, named(measures, code)
        else:
            few.append(members)
    if few:
        yield np.sort(np.concatenate(few)), rows, "all rows"


def spread(values: Floats) -> float:
    """The standard deviation that a normal distribution with the same median deviation has."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def usual_sizes(
    measures: Measures, values: Floats, spreads: float, times: float, least: float, cap: float | None, unit: str
) -> Iterator[Usual]:
    """Up to where sizes (n,), which are positive, are usual, kind by kind; NaN, and zeros by symmetry, are left out.

    That is so many `spreads` of the logarithm above the median, or so many `times` the size that nine in ten do not
    exceed, whichever is less; but not less than `least` and not more than `cap`.
    """
    rows = np.flatnonzero(values > 0.0)
    for members, among, name in by_kind(measures, rows):
        if len(among) < FEWEST:
            if cap is not None:
                yield Usual(members, cap, f"{cap:g} {unit}, the cap")
            continue
        logs = np.log(np.maximum(values[among], least * _SMALLEST))
        # Few rows tell a spread loosely.
        width = max(spread(logs), _NARROWEST * (1.0 + FEWEST / len(among)))
        # The exponent is kept where exp() has an answer.
        far = float(np.exp(min(np.median(logs) + spreads * width, 600.0)))
        most = times * float(np.quantile(values[among], 0.9))
        limit, why = (
            (far, f"{spreads:g} spreads above the median") if far < most else (most, f"{times:g} × nine tenths")
        )
        limit, why = (least, "less is never told") if limit < least else (limit, f"{why} of {name}")
        limit, why = (cap, "the cap") if cap is not None and cap < limit else (limit, why)
        yield Usual(members, limit, f"{limit:.4g} {unit} ({why})")


def beyond(values: NDArray[np.float64], usual: Usual) -> Ints:
    """Those of the rows whose values are larger than is usual."""
    found: Ints = usual.rows[values[usual.rows] > usual.limit]
    return found
