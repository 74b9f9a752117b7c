"""How numbers are spread, split by split, in bins that a few outliers do not stretch; plain numbers, for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Blocks = Callable[[], Iterable[tuple[NDArray[Any], Ints]]]
"""Called twice; gives values (m,), NaN where there is none, and (m,) which split each is of."""

BINS = 40
_OUTLYING, _FEWEST = 0.01, 20
"""The share of values at each end that may lie outside the bins; where there are few, all lie within."""
_SAMPLE = 200_000


def histogram(values: NDArray[Any], split: Ints, names: Sequence[str], unit: str) -> dict[str, Any] | None:
    """The histogram of values (n,), NaN where there is none, of rows that are in the splits (n,) of those names.

    None where there are no values. What is given: `unit`, `edges` (bins + 1), `counts` split to its (bins) counts,
    `below` and `above` (how many lie outside of the bins), `n`, `min`, `median`, `mean`, `max`.
    """
    return streamed_histogram(lambda: [(values, split)], names, unit)


def streamed_histogram(blocks: Blocks, names: Sequence[str], unit: str) -> dict[str, Any] | None:
    """The same of values that come in blocks and need not fit in memory together.

    Where there are more than 200 000 the edges and the median are those of an even sample of them.
    """
    n, total, low, high = 0, 0.0, np.inf, -np.inf
    whole = True
    for values, _ in blocks():
        finite = values[np.isfinite(values)]
        n += len(finite)
        if len(finite):
            total += float(finite.sum(dtype=np.float64))
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        whole &= bool(np.equal(np.mod(finite, 1), 0).all())
    if not n:
        return None
    sample = _sample(blocks, n)
    edges = _edges(sample, low, high, whole)
    counts = np.zeros((len(names), len(edges) - 1), dtype=np.int64)
    below = above = 0
    for values, split in blocks():
        finite = np.isfinite(values)
        inside = finite & (values >= edges[0]) & (values <= edges[-1])
        below += int((values[finite] < edges[0]).sum())
        above += int((values[finite] > edges[-1]).sum())
        bins = np.clip(np.searchsorted(edges, values[inside], side="right") - 1, 0, len(edges) - 2)
        np.add.at(counts, (split[inside], bins), 1)
    return {
        "unit": unit,
        "edges": edges.tolist(),
        "counts": {name: row.tolist() for name, row in zip(names, counts, strict=True) if row.any()},
        "below": below,
        "above": above,
        "n": n,
        "min": low,
        "median": float(np.median(sample)),
        "mean": total / n,
        "max": high,
    }


def _sample(blocks: Blocks, n: int) -> NDArray[Any]:
    step = max(1, n // _SAMPLE)
    taken, first = [], 0
    for values, _ in blocks():
        finite = values[np.isfinite(values)]
        taken.append(finite[-first % step :: step])
        first += len(finite)
    return np.concatenate(taken)


def _edges(sample: NDArray[Any], low: float, high: float, whole: bool) -> Floats:
    first, last = low, high
    if len(sample) >= _FEWEST:  # the values themselves: between them and a far one there is nothing
        first = np.quantile(sample, _OUTLYING, method="higher")
        last = np.quantile(sample, 1 - _OUTLYING, method="lower")
    room = 0.5 * (last - first)
    # To the very ends, unless they lie far from nearly all.
    first = low if low >= first - room else first - room
    last = high if high <= last + room else last + room
    if whole:
        width = max(1, math.ceil((last - first + 1) / BINS))
        return np.arange(math.floor(first) - 0.5, last + width, width)
    size = max(abs(first), abs(last))
    if last - first <= max(1e-9 * size, 1e-12):  # all the same but for rounding
        room = max(1e-6 * size, 1e-6)
        first, last = first - room, last + room
    return np.linspace(first, last, BINS + 1)
