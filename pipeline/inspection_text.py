"""What a look at a file found, as aligned text of a screen or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.card_drawing import count, number

if TYPE_CHECKING:
    from forcefoundry.contract.findings import Finding
    from forcefoundry.contract.found_keys import FoundKey
    from forcefoundry.contract.inspection import Inspection

_MARGIN = 10
_SHORT = 36  # of a cell; what is longer has a line of its own
_MOST_KEYS, _MOST_KINDS, _MOST_WORDS, _MOST_FINDINGS = 30, 12, 5, 3
_FOLLOWS = {"error": "ends a run", "quarantine": "set apart", "warn": "warned of", "off": "not looked at"}
_USUAL = {"energy": ("energy", "etot"), "forces": ("force", "grad"), "stress": ("stress", "virial")}
_PLACES = {"results": "calculator", "info": "info", "arrays": "arrays"}


def text(found: Inspection, why: str) -> str:
    """All that there is to say; `why` tells how the format was known."""
    parts = [
        ("file", [f"{found.place}   {found.format} ({why})"]),
        ("rows", _rows(found)),
        ("kinds", _kinds(found)),
        ("keys", _keys(found)),
        ("labels", _labels(found)),
        ("units", _units(found)),
        ("ranges", _ranges(found)),
        ("wrong", _wrong(found)),
        ("suspect", _findings(found)),
    ]
    return "\n".join(_block(head, lines) for head, lines in parts if lines)


def _block(head: str, lines: Sequence[str | Sequence[str]]) -> str:
    """Lines beside a heading; cells of lines that are lists are put under one another."""
    rows = [line for line in lines if not isinstance(line, str)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    shown = [
        line if isinstance(line, str) else "   ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join(f"{head if not at else '':<{_MARGIN}}{line}".rstrip() for at, line in enumerate(shown))


def _rows(found: Inspection) -> list[str]:
    from forcefoundry.contract.card import periodicity, symbol

    measures = found.measures
    fewest, most = int(measures.n_atoms.min()), int(measures.n_atoms.max())
    each = f"{count(fewest)} in each" if fewest == most else f"{count(fewest)} to {count(most)} in each"
    shares = periodicity(measures.pbc)
    periodic = ", ".join(name if len(shares) == 1 else f"{count(n)} {name}" for name, n in shares.items())
    lines = [
        f"{count(found.n_rows)} structures   {count(int(measures.n_atoms.sum()))} atoms, {each}   "
        f"{' '.join(symbol(one) for one in measures.species)}   {periodic}{_cells(found)}"
    ]
    if found.stopped:
        lines.append(found.stopped)
    if found.isolated:
        lines.append(f"{count(found.isolated)} of them are isolated atoms, which are kept out of all splits")
    return lines


def _cells(found: Inspection) -> str:
    """Cells where there is no period count for nothing, which is worth a word."""
    held = ~found.columns["pbc"].any(axis=1) & found.columns["cell"].any(axis=(1, 2))
    return f"   {count(int(held.sum()))} with a cell that counts for nothing, since pbc is F" if held.any() else ""


def _kinds(found: Inspection) -> list[str]:
    kinds, n = found.measures.kinds, np.bincount(found.measures.kind + 1, minlength=len(found.measures.kinds) + 1)
    if not kinds:
        return []
    order = np.argsort(-n[1:], kind="stable")
    told = [f"{kinds[at]} {count(int(n[at + 1]))}" for at in order[:_MOST_KINDS].tolist()]
    told += [f"and {len(kinds) - _MOST_KINDS} more"] if len(kinds) > _MOST_KINDS else []
    return [", ".join(told) + (f"; {count(int(n[0]))} rows have no config_type" if n[0] else "")]


def _keys(found: Inspection) -> list[Any]:
    rows: list[Any] = [["key", "lies in", "rows", "shape", "holds"]]
    for one in found.keys[:_MOST_KEYS]:
        places = "/".join(_PLACES[place] for place in one.places)
        shapes = ", ".join(list(one.shapes)[:3]) + (", ..." if len(one.shapes) > 3 else "")
        rows.append([one.key, places, count(one.rows), shapes, _holds(one)])
    if len(found.keys) > _MOST_KEYS:
        rows.append(f"and {len(found.keys) - _MOST_KEYS} more")
    return rows if len(rows) > 1 else ["none: the rows carry nothing but structures"]


def _holds(one: FoundKey) -> str:
    told = []
    if one.low <= one.high:
        low, high = (number(end, one.high - one.low) for end in (one.low, one.high))
        told.append(low if low == high else f"{low} to {high}")
    if len(one.words) > _MOST_WORDS:
        told.append(f"{count(len(one.words))} different texts")
    else:
        told += [_short(word) for word in one.words]
    return ", ".join(told)


def _labels(found: Inspection) -> list[Any]:
    rows = [["property", "read from", "rows", "also there, not read"]]
    by_key = {one.key: one for one in found.keys}
    for name, choice in found.choices.items():
        of_rows = f"{count(by_key[choice.key].rows)} of {count(found.n_rows)}"
        rows.append([name, choice.key, of_rows, ", ".join(choice.rivals) or "–"])
    lacking = [_lacking(found, name) for name in _USUAL if name not in found.choices]
    return [*(rows if len(rows) > 1 else []), *([f"not found: {', '.join(lacking)}"] if lacking else [])]


def _lacking(found: Inspection, name: str) -> str:
    """A property that stands under none of the usual keys, with those that it might be under."""
    taken = {choice.key for choice in found.choices.values()}
    near = [one.key for one in found.keys if any(part in one.key.lower() for part in _USUAL[name])]
    near = [key for key in near if key not in taken]
    return name + (f" (is it {' or '.join(near)}? Then say {name}={near[0]})" if near else "")


def _units(found: Inspection) -> list[Any]:
    short = [[one.of, one.told, one.evidence] for one in found.guesses if len(one.told) <= _SHORT]
    return [*short, *(f"{one.of}: {one.told}; {one.evidence}" for one in found.guesses if len(one.told) > _SHORT)]


def _ranges(found: Inspection) -> list[Any]:
    measures, columns = found.measures, found.columns
    shown = [
        ("energy, eV/atom", measures.energy / measures.n_atoms),
        ("force components, eV/Å", columns.get("forces")),
        ("largest force, eV/Å", measures.max_force),
        ("stress components, eV/Å³", columns.get("stress")),
        ("nearest atoms, Å", measures.distance),
        ("volume, Å³/atom", measures.volume / measures.n_atoms),
    ]
    rows = [["", "lowest", "median", "highest"]]
    for name, values in shown:
        finite = np.zeros(0) if values is None else np.asarray(values)[np.isfinite(values)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            rows.append([name, *(number(one, high - low) for one in (low, float(np.median(finite)), high))])
    return [[row[0], *(cell.rjust(9) for cell in row[1:])] for row in rows] if len(rows) > 1 else []


def _wrong(found: Inspection) -> list[str]:
    if not found.apart:
        return []
    lines = [f"{count(len(found.apart))} rows cannot be taken as they are"]
    lines += [f"  {where}: {one_line(why)}" for where, why in found.apart[:_MOST_FINDINGS]]
    return [*lines, *(["  ..."] if len(found.apart) > _MOST_FINDINGS else [])]


def _findings(found: Inspection) -> list[str]:
    """By check, those first that keep rows out, with what follows if the configuration says nothing else."""
    from forcefoundry.contract.checks import known_checks

    by_check: dict[str, list[tuple[str, Finding]]] = {}
    for where, one in found.findings:
        by_check.setdefault(one.check, []).append((where, one))
    policies = {check: known_checks()[check].policy for check in by_check}
    lines = []
    for check in sorted(by_check, key=lambda check: (list(_FOLLOWS).index(policies[check]), -len(by_check[check]))):
        those = by_check[check]
        expected = {one.expected for _, one in those}
        same = f", expected {one_line(next(iter(expected)))}" if len(expected) == 1 else ""
        lines.append(f"{check} ({_FOLLOWS[policies[check]]}): {count(len(those))}{same}")
        for where, one in those[:_MOST_FINDINGS]:
            own = "" if same else f", expected {one_line(one.expected)}"
            lines.append(f"  {where}{where and ': '}{one.what} is {one_line(one.got)}{own}")
        lines += ["  ..."] if len(those) > _MOST_FINDINGS else []
    return lines or ["nothing"]


def _short(word: str) -> str:
    line = one_line(word)
    return line if len(line) <= 40 else f"{line[:37]}..."


def one_line(words: object) -> str:
    """Words without line breaks, and without what a terminal would take for orders."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in " ".join(str(words).split()))
