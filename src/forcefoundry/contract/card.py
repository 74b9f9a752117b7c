"""The data card: what came in, what was set apart, and how it is spread, as plain numbers and words.

What draws it is not here: `pipeline.card_page` makes a page of it, and whoever likes may read the JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.atoms_fit import above_atoms, with_energy
from forcefoundry.contract.findings import Finding, Origins
from forcefoundry.contract.histograms import histogram
from forcefoundry.contract.measures import Ints, Measures

SHOWN = 20
"""Findings of each check that stand in the card; all are in findings.jsonl."""

NOWHERE = "no split"
"""Where rows are that are kept and in no split: isolated atoms."""

NO_KIND = "(none)"
"""What rows without a config_type are counted under."""


def card(
    measures: Measures,
    findings: Iterable[Finding],
    summary: Mapping[str, Any],
    origins: Origins,
    hashes: Mapping[str, str],
) -> dict[str, Any]:
    """The card of a data set, plain JSON.

    Args:
        measures: of the rows that were kept, with `split` and `splits` where they are known.
        findings: all that was found; a finding's row is a number among all rows that came in, as in `origins`.
        summary: what `load` says. Taken from it: `rows` ({"in", "kept", "quarantined", "rejected"}) and, where they
            are there, `quarantine` (check to the number of rows set apart for it), `policies` (check to what follows
            from it) and `properties`.
        origins: of all rows that came in.
        hashes: the sha256 of each file by its name in `origins.files`.
    """
    names, split = split_codes(measures)
    return {
        "rows": dict(summary["rows"]),
        "atoms": int(measures.n_atoms.sum()),
        "properties": dict(summary.get("properties") or {}),
        "splits": {name: int((split == code).sum()) for code, name in enumerate(names)},
        "counts": _counts(measures, names, split),
        "species": _species(measures, names, split),
        "periodicity": periodicity(measures.pbc),
        "histograms": _histograms(measures, names, split),
        "findings": _findings(findings, origins, dict(summary.get("policies") or {})),
        "quarantine": dict(summary.get("quarantine") or {}),
        "files": _files(origins, hashes),
    }


def split_codes(measures: Measures) -> tuple[list[str], Ints]:
    """The names of the splits that rows are in, `NOWHERE` last, and (n,) the number of each row's among them."""
    if measures.split is None:
        return [NOWHERE], np.zeros(len(measures), dtype=np.int64)
    codes = np.where(measures.split < 0, len(measures.splits), measures.split)
    present = np.unique(codes)
    names = [*measures.splits, NOWHERE]
    return [names[code] for code in present.tolist()], np.searchsorted(present, codes).astype(np.int64)


def periodicity(pbc: NDArray[np.bool_]) -> dict[str, int]:
    """How many rows are open, periodic, or periodic in some directions alone; pbc: (n, 3)."""
    axes = pbc.sum(axis=1)
    counted = {"open": axes == 0, "periodic": axes == 3, "periodic in part": (axes > 0) & (axes < 3)}
    return {name: int(which.sum()) for name, which in counted.items() if which.any()}


def _counts(measures: Measures, names: Sequence[str], split: Ints) -> list[dict[str, Any]]:
    """Rows by config_type, the most frequent first, and by split."""
    kinds = [*measures.kinds, NO_KIND]
    counted = np.zeros((len(kinds), len(names)), dtype=np.int64)
    np.add.at(counted, (measures.kind, split), 1)  # -1 is the last
    order = np.argsort(-counted.sum(axis=1), kind="stable")
    return [
        {"config_type": kinds[at], "rows": int(counted[at].sum()), "splits": _by_name(names, counted[at])}
        for at in order.tolist()
        if counted[at].any()
    ]


def _species(measures: Measures, names: Sequence[str], split: Ints) -> list[dict[str, Any]]:
    """Each element: its atoms and the rows that have it, and by split the latter."""
    found = []
    for at, number in enumerate(measures.species):
        atoms = measures.composition[:, at]
        by_split = np.bincount(split[atoms > 0], minlength=len(names))
        if by_split.any():
            row = {"symbol": symbol(number), "atoms": int(atoms.sum()), "rows": int(by_split.sum())}
            found.append({**row, "splits": _by_name(names, by_split)})
    return found


def _histograms(measures: Measures, names: Sequence[str], split: Ints) -> dict[str, Any]:
    energy = measures.energy / measures.n_atoms
    bound = with_energy(measures)
    above = np.full(len(measures), np.nan)
    above[bound] = above_atoms(measures, bound)
    shown = {
        "energy_per_atom": (energy, "eV/atom"),
        "energy_above_atoms": (above, "eV/atom"),
        "rms_force": (measures.rms_force, "eV/Å"),
        "max_force": (measures.max_force, "eV/Å"),
        "distance": (measures.distance, "Å"),
        "n_atoms": (measures.n_atoms.astype(np.float64), "atoms"),
        "volume_per_atom": (measures.volume / measures.n_atoms, "Å³/atom"),
        "pressure": (measures.pressure, "eV/Å³"),
    }
    made = {name: histogram(values, split, names, unit) for name, (values, unit) in shown.items()}
    return {name: found for name, found in made.items() if found is not None}


def _findings(findings: Iterable[Finding], origins: Origins, policies: Mapping[str, str]) -> list[dict[str, Any]]:
    """By check, those of most findings first: how many, what follows, and the first of them."""
    found: dict[str, dict[str, Any]] = {}
    for one in findings:
        of_check = found.setdefault(one.check, {"check": one.check, "count": 0, "rows": set(), "first": []})
        of_check["count"] += 1
        of_check["rows"].add(one.row)
        if len(of_check["first"]) < SHOWN:
            told = {"what": one.what, "got": one.got, "expected": one.expected, "remedy": one.remedy}
            of_check["first"].append({"where": origins.of(one.row), **told})
    for check, of_check in found.items():
        of_check["policy"] = policies.get(check)
        of_check["rows"] = len(of_check["rows"] - {None})
    return sorted(found.values(), key=lambda of_check: -of_check["count"])


def _files(origins: Origins, hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = np.bincount(origins.file, minlength=len(origins.files))
    return [
        {"file": name, "rows": int(count), "sha256": hashes.get(name)}
        for name, count in zip(origins.files, rows, strict=True)
    ]


def _by_name(names: Sequence[str], counts: Ints) -> dict[str, int]:
    return {name: int(count) for name, count in zip(names, counts.tolist(), strict=True)}


def symbol(number: int) -> str:
    """The element of an atomic number."""
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
