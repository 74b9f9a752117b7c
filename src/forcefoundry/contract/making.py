"""From rows that were read to what a run leaves: checked, set apart, split, and written with what was found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.card import card
from forcefoundry.contract.findings import Finding, Origins, Setting
from forcefoundry.contract.gathered import Gathered
from forcefoundry.contract.intake import Unit
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.near import near_duplicates
from forcefoundry.contract.placing import Placed, place_rows
from forcefoundry.contract.quarantine import Quarantine
from forcefoundry.contract.reviews import Reviews
from forcefoundry.contract.verdicts import Verdicts, judged
from forcefoundry.databases.blocks import Asked, Candidate
from forcefoundry.databases.database import Database
from forcefoundry.databases.folder import write_folder
from forcefoundry.databases.formats import place
from forcefoundry.databases.labels import Choice
from forcefoundry.databases.loading import described, digest, empty_told
from forcefoundry.databases.mapped import structures_of
from forcefoundry.databases.properties import Both, added, check_trained, choices, compared, read_as
from forcefoundry.databases.shards import label_name
from forcefoundry.files import write_json, written_whole

COLUMNS, QUARANTINE, FINDINGS, CARD, SUMMARY = (
    *("columns", "quarantine.sqlite", "findings.jsonl"),
    *("card.json", "summary.json"),
)
"""What a run leaves in its folder."""

_JUDGED = (
    *("fingerprint", "closest", "max_force_atom", "polarity", "stress_asymmetry", "net_force", "nearness"),
    *("step_energy", "step_work", "gap"),
)
"""What no check looks at any more once rows are judged, and no card shows: half of what is measured."""

_MOST_GROUPS = 200  # in the report of splits, the largest first

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """What is asked of rows, and what follows from what is found of them: the sections of a configuration, read."""

    config: Mapping[str, Any]
    asked: Asked
    settings: Mapping[str, Setting]
    reviews: Reviews


def make(rules: Rules, units: Sequence[Unit], folder: Path) -> None:
    """Write what the rows of all units come to into a folder.

    Raises:
        ContractError: for findings whose policy is `error`.
        ValueError: no row is a structure, no row carries a key that is asked for, or a split cannot be made.
    """
    source = str(place(str(rules.config["path"])))  # an address without its password
    gathered, carried = _gathered(rules.asked, units, source)
    verdicts = Verdicts(gathered, rules.settings, rules.reviews)
    verdicts.add_faults()
    if not len(gathered.number):
        verdicts.check()
        verdicts.refuse(f"None of the {gathered.n_rows} rows of {source} is a structure that can be read.")
    measures = gathered.measures()
    near = near_duplicates(measures, partial(structures_of, gathered.columns))
    measures = replace(measures, twin=near.twin)
    warned = [] if rules.settings["rival_keys"].policy == "off" else _rivals(gathered)
    found = [*warned, *_unweighted(gathered, measures), *_ungrouped(gathered, rules.asked.group)]
    verdicts.add((one for one in found if rules.settings[one.check].policy != "off"), measures.keys)
    verdicts.add(judged(measures, rules.settings, gathered.number, after=False), measures.keys)
    verdicts.reject(measures.keys)
    verdicts.check()
    verdicts.check_share()
    measures = measures.without(_JUDGED)
    placed = place_rows(gathered, measures, near.pairs, verdicts, rules.config)
    verdicts.check()
    mine = measures.take(placed.kept)
    del measures, near  # a third of a kilobyte a row
    _write(rules, verdicts, mine, placed, carried, folder, [found.got for found in warned])


def write_findings(path: Path, findings: Iterable[Finding], origins: Origins, settings: Mapping[str, Setting]) -> None:
    """One JSON object a line: check, policy, file, where, row, what, got, expected, remedy."""
    with written_whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for one in findings:
            told = {name: value for name, value in asdict(one).items() if name != "other"}
            place: dict[str, str | None] = {"file": None, "where": None}
            if one.row is not None:
                place = {"file": origins.files[origins.file[one.row]], "where": origins.where[one.row]}
            line = {"check": one.check, "policy": settings[one.check].policy, **place, **told}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _gathered(asked: Asked, units: Sequence[Unit], source: str) -> tuple[Gathered, Mapping[str, Counter[str]]]:
    carried = added(unit.carried for unit in units)
    if not sum(int(unit.n_rows.sum()) for unit in units):
        raise ValueError(empty_told(source))
    readable = any(unit.shards for unit in units)
    return Gathered(units, choices(asked, carried) if readable else {}), carried


def _rivals(gathered: Gathered) -> list[Finding]:
    """What is to be said of properties that stand under two keys."""
    found = []
    for name, choice in gathered.choices.items():
        for rival in choice.rivals:
            told = compared(Candidate(name, choice.key), rival, _both(gathered, name, choice, rival))
            if told:
                remedy = f"If another is meant, name it in database.keys.{name}."
                got = told.removesuffix(f". If another is meant, name it in database.keys.{name}")
                found.append(Finding("rival_keys", None, name, got, "one key for each property", remedy))
    return found


def _both(gathered: Gathered, name: str, choice: Choice, rival: str) -> Iterator[Both]:
    for shard in gathered.shards:
        mine, other = (shard.columns.get(label_name(name, key)) for key in (choice.key, rival))
        if other is None:
            continue
        n_atoms = np.diff(shard.atoms)
        has_other = _has(other, n_atoms)
        has_mine = np.zeros(len(n_atoms), dtype=bool) if mine is None else _has(mine, n_atoms)
        yield Both(n_atoms, mine, has_mine, other, has_other)


def _has(values: NDArray[Any], n_atoms: Ints) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = ~np.isnan(values).reshape(len(values), -1).any(axis=1)
    if len(values) == len(n_atoms):
        return there
    found: NDArray[np.bool_] = np.logical_and.reduceat(there, np.cumsum(n_atoms) - n_atoms)
    return found


def _unweighted(gathered: Gathered, measures: Measures) -> Iterator[Finding]:
    for name in [name for name in gathered.choices if name.endswith("weight")]:
        has = measures.labelled[name]
        for at in np.flatnonzero(~has).tolist():
            yield Finding(
                "missing_weight",
                int(gathered.number[at]),
                name,
                "absent",
                f"a number, as {int(has.sum())} of {len(has)} rows have one under {gathered.choices[name].key!r}",
                "A weight is no label that may be absent: give the row one.",
            )


def _ungrouped(gathered: Gathered, key: str | None) -> Iterator[Finding]:
    """Rows without the group that others have. Isolated atoms, which no split gets, need none."""
    lacks = np.array([group is None for group in gathered.texts("group")], dtype=bool) & ~gathered.isolated()
    if key is None or lacks.all():
        return
    expected = f"a group, as {int((~lacks).sum())} of {len(lacks)} rows have one"
    remedy = "A row without a group is drawn by itself: if it belongs to one, other rows may know it from there."
    if lacks.sum() * 2 > len(lacks):
        yield Finding("missing_group", None, key, f"absent from {lacks.sum()} rows", expected, remedy)
        return
    for number in gathered.number[lacks].tolist():
        yield Finding("missing_group", number, key, "absent", expected, remedy)


def _write(
    rules: Rules,
    verdicts: Verdicts,
    mine: Measures,
    placed: Placed,
    carried: Mapping[str, Counter[str]],
    folder: Path,
    told: Sequence[str],
) -> None:
    gathered, kept = verdicts.gathered, placed.kept
    labelled = {name: mine.labelled[name] for name in gathered.choices}
    properties = {
        name: read_as(rules.asked, choice, name, carried, int(labelled[name].sum()))
        for name, choice in gathered.choices.items()
    }
    warned = [*told, *check_trained(properties, labelled, placed.splits)]
    present = [number for at, number in enumerate(mine.species) if (mine.composition[:, at] > 0).any()]
    write_folder(
        folder / COLUMNS,
        [shard.path for shard in gathered.shards],
        gathered.names,
        (gathered.piece[kept], gathered.row[kept]),
        mine.n_atoms,
        mine.keys,
        placed.splits,
        [name for name, has in labelled.items() if not has.all()],
        present,
    )
    apart = verdicts.apart()
    summary = described(
        str(place(str(rules.config["path"]))),
        rules.asked,
        properties,
        {"n_atoms": mine.n_atoms, "pbc": mine.pbc, "species": np.array(present)},
        placed.splits,
        placed.n_isolated,
    )
    rows = {"in": gathered.n_rows, "kept": len(kept), "quarantined": len(apart), "rejected": len(verdicts.rejected)}
    assert rows["in"] == rows["kept"] + rows["quarantined"] + rows["rejected"]
    summary |= {
        "digest": digest(Database.load(folder / COLUMNS)),
        "rows": rows,
        "quarantine": dict(Counter(check for found in apart.values() for check in {one.check for one in found})),
        "findings": dict(Counter(one.check for one in verdicts.findings)),
        "policies": {name: setting.policy for name, setting in rules.settings.items()},
        "split_report": _shortened(placed.report),
        "warnings": warned,
    }
    with Quarantine.create(folder / QUARANTINE) as writer:
        verdicts.write(writer)
    write_findings(folder / FINDINGS, verdicts.findings, gathered.origins, rules.settings)
    shown = replace(mine, splits=tuple(placed.names), split=placed.codes)
    write_json(folder / CARD, card(shown, verdicts.findings, summary, gathered.origins, gathered.hashes()))
    write_json(folder / SUMMARY, summary)


def _shortened(report: Mapping[str, Any]) -> dict[str, Any]:
    groups = sorted(report["groups"].items(), key=lambda item: -sum(item[1].values()))
    return {**report, "groups": dict(groups[:_MOST_GROUPS]), "n_groups": len(groups)}
