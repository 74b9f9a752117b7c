"""Histograms of the data card as drawings that stand in the page itself, in its colours, read aloud by their titles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

_WIDTH, _HEIGHT = 360.0, 170.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 6.0, 6.0, 18.0, 30.0
_CLASSES = {"train": "train", "valid": "valid", "test": "test", "held_out": "held"}


def drawn(title: str, made: Mapping[str, Any]) -> str:
    """A histogram as SVG: bars of all splits upon each other, ticks, the highest count, and what lies outside."""
    edges, unit = made["edges"], made["unit"]
    counts = {name: made["counts"][name] for name in in_order(made["counts"])}
    totals = [sum(bins) for bins in zip(*counts.values(), strict=True)]
    most = max(totals, default=0) or 1
    scale = _Scale(edges[0], edges[-1])
    bars = "".join(_bar(at, edges, counts, totals[at], most, scale, unit) for at in range(len(totals)) if totals[at])
    told = spread(made)
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" preserveAspectRatio="xMidYMid meet">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>"
        f'<text class="most" x="{_LEFT:g}" y="12">{count(most)}</text>{bars}'
        f'<line class="axis" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{_floor():g}" y2="{_floor():g}"/>'
        f"{_ticks(scale, unit)}</svg>"
    )


def spread(made: Mapping[str, Any]) -> str:
    """One line of what a histogram says: the ends and the middle, and how much lies outside of the bars."""
    unit, edges = made["unit"], made["edges"]
    if made["min"] == made["max"]:
        return f"{number(made['min'])} {unit} in all {count(made['n'])}"
    low, high, middle, *ends = (
        number(value, edges[-1] - edges[0]) for value in (made["min"], made["max"], made["median"], edges[0], edges[-1])
    )
    told = f"{low} to {high} {unit}, median {middle}"
    outside = [(made["below"], "below", ends[0]), (made["above"], "above", ends[1])]
    return told + "".join(f"; {count(n)} {where} {edge} not drawn" for n, where, edge in outside if n)


def in_order(names: Iterable[str]) -> list[str]:
    """Splits in the order in which people think of them, whatever order a file has them in."""
    return sorted(names, key=lambda name: [*_CLASSES, name].index(name))


def split_class(name: str) -> str:
    """The class that gives a split its colour."""
    return _CLASSES.get(name, "none")


def count(value: int) -> str:
    """A number of things, its thousands set apart by a narrow space that does not break."""
    return f"{value:,}".replace(",", "\u202f")


def number(value: float, width: float | None = None) -> str:
    """Four digits that count, or more where there are more before the point, with a true minus.

    Of numbers that lie within a `width`, such as total energies, as many as tell them apart.
    """
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    after = 2 - math.floor(math.log10(width)) if width else 0
    text = f"{value:.0f}" if 4 < before < 10 and after <= 0 else f"{value:.{min(max(4, before + after), 15)}g}"
    return ("0" if text == "-0" else text).replace("-", "−")


class _Scale:
    """Where on the drawing a value stands."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        return _LEFT + (value - self.low) / (self.high - self.low) * (_WIDTH - _LEFT - _RIGHT)


def _bar(
    at: int,
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    total: int,
    most: int,
    scale: _Scale,
    unit: str,
) -> str:
    left, right = scale(edges[at]), scale(edges[at + 1])
    parts, top = [], _floor()
    for name, bins in counts.items():
        height = bins[at] / most * (_floor() - _TOP)
        if height:
            top -= height
            place = f'x="{left + 0.4:.2f}" y="{top:.2f}" width="{max(right - left - 0.8, 0.6):.2f}"'
            parts.append(f'<rect class="{split_class(name)}" {place} height="{height:.2f}"/>')
    by_split = ", ".join(f"{count(bins[at])} {name}" for name, bins in counts.items() if bins[at])
    told = f"{number(edges[at])} to {number(edges[at + 1])} {unit}: {by_split if len(counts) > 1 else count(total)}"
    return f"<g><title>{escape(told)}</title>{''.join(parts)}</g>"


def _ticks(scale: _Scale, unit: str) -> str:
    labels = next((one for one in (_labels(scale, parts) for parts in (4.5, 2.5)) if _fits(scale, one)), {})
    found = []
    for value, text in labels.items():
        x = scale(value)
        anchor = "start" if x < 24 else "end" if x > _WIDTH - 24 else "middle"
        found.append(
            f'<line class="axis" x1="{x:.2f}" x2="{x:.2f}" y1="{_floor():g}" y2="{_floor() + 4:g}"/>'
            f'<text x="{x:.2f}" y="{_floor() + 15:g}" text-anchor="{anchor}">{text}</text>'
        )
    place = f'x="{_WIDTH - _RIGHT:g}" y="{_HEIGHT - 2:g}" text-anchor="end"'
    return "".join(found) + f"<text {place}>{escape(unit)}</text>"


def _labels(scale: _Scale, parts: float) -> dict[float, str]:
    """Round values along the axis, about so many, and how they are written."""
    step = _step((scale.high - scale.low) / parts)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return {at * step: "0" if at == 0 else f"{at * step:.{digits}f}".replace("-", "−") for at in range(first, last + 1)}


def _fits(scale: _Scale, labels: Mapping[float, str]) -> bool:
    """Whether labels stand clear of one another; one at an end is moved in by half its width."""
    places = [scale(value) for value in labels]
    width = 6.5 * max((len(text) for text in labels.values()), default=0)
    return all(right - left > 1.5 * width + 4 for left, right in pairwise(places))


def _step(rough: float) -> float:
    """A length of one, two or five times a power of ten, of about so much."""
    power = 10.0 ** math.floor(math.log10(rough))
    return float(power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / rough))))


def _floor() -> float:
    return _HEIGHT - _BOTTOM
