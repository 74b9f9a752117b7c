"""Rows that are kept put into splits, and what is found out by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.findings import Finding
from forcefoundry.contract.gathered import Gathered
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.verdicts import Verdicts, judged
from forcefoundry.databases.isolated import isolated_rows
from forcefoundry.databases.splitting import assign

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Placed:
    """The rows that are kept, and their splits.

    Attributes:
        kept: (k,) their numbers among the structures that were measured.
        codes: (k,) the split of each by its number in `names`, -1 for isolated atoms, which are in none.
        splits: name to the members, by their numbers among the kept, ascending; those that are not empty.
        report: what `databases.splitting.assign` says.
    """

    kept: Ints
    codes: Ints
    names: Sequence[str]
    splits: Mapping[str, Ints]
    n_isolated: int
    report: Mapping[str, Any]


def place_rows(
    gathered: Gathered, measures: Measures, near: Ints, verdicts: Verdicts, config: Mapping[str, Any]
) -> Placed:
    """Split what is kept; rows that bridge splits, and what checks find of splits, go into the verdicts.

    Args:
        near: (p, 2) pairs of near duplicates, by their numbers among the measured.
    """
    n = len(measures)
    kept = np.flatnonzero(~np.isin(gathered.number, verdicts.out()))
    if not len(kept):
        verdicts.refuse(
            f"None of the {gathered.n_rows} rows is kept: {len(verdicts.apart())} are set apart and "
            f"{len(verdicts.rejected)} rejected."
        )
    groups, given = gathered.texts("group"), gathered.given()
    _check_held_out(groups, kept, verdicts, config)
    out = isolated_rows(gathered.isolated()[kept], [groups[at] for at in kept.tolist()], config)
    isolated = kept[out]
    drawn = np.delete(kept, out)
    assigned = assign(
        measures.keys[drawn],
        [groups[at] for at in drawn.tolist()],
        [given[at] for at in drawn.tolist()],
        config,
        _among(near, drawn, n),
    )
    codes = np.full(n, -1, dtype=np.int64)
    codes[drawn] = assigned.codes
    bridging = drawn[assigned.bridging]
    verdicts.add(_bridges(gathered, bridging, near), measures.keys)
    left = np.setdiff1d(kept, bridging)
    seen = replace(measures.take(left), splits=assigned.names, split=codes[left])
    verdicts.add(judged(seen, verdicts.settings, gathered.number[left], after=True), measures.keys)
    del seen
    verdicts.reject(measures.keys)
    left = left[~np.isin(gathered.number[left], verdicts.out())]
    members = {name: np.flatnonzero(codes[left] == code) for code, name in enumerate(assigned.names)}
    splits = {name: rows for name, rows in members.items() if len(rows)}
    for name in ("train", "valid"):
        if name not in splits:
            verdicts.refuse(f"Once rows were set apart, nothing is left in the split {name!r}.")
    n_isolated = int(np.isin(left, isolated).sum())
    return Placed(left, codes[left], assigned.names, splits, n_isolated, assigned.report)


def _check_held_out(groups: Sequence[str | None], kept: Ints, verdicts: Verdicts, config: Mapping[str, Any]) -> None:
    left = {groups[at] for at in kept.tolist()}
    for value in map(str, dict(config["split"]).get("held_out") or ()):
        if value in groups and value not in left:
            verdicts.refuse(
                f"database.split.held_out names {value!r}, but all {groups.count(value)} rows whose "
                f"{config.get('group')} it is are set apart or rejected."
            )


def _among(pairs: Ints, rows: Ints, n: int) -> Ints:
    """The pairs both of which are among some rows, by their numbers there."""
    at = np.full(n, -1, dtype=np.int64)
    at[rows] = np.arange(len(rows))
    found = at[pairs]
    return found[(found >= 0).all(axis=1)]


def _bridges(gathered: Gathered, bridging: Ints, near: Ints) -> list[Finding]:
    return [
        Finding(
            "bridges_splits",
            int(gathered.number[at]),
            "the structure",
            f"nearly that of {Finding.OTHER} and of others, which are in different splits",
            "one that is nearly those of one split alone",
            "In either split it would be known to the other: leave it out, or take one of the others out.",
            int(gathered.number[near[near[:, 0] == at][0, 1]]),
        )
        for at in bridging.tolist()
    ]
