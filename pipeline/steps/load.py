"""load: through the door: a database's rows become packed columns and splits, and what is wrong is set apart."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from forcefoundry.files import read_json
from pipeline.step import Step
from pipeline.steps.workspace import DATA_CODE, LOAD, QUARANTINE, REVIEWS, SCRATCH, progress_bar

logger = logging.getLogger(__name__)

_PLACES = {"results": "calculator", "info": "info", "arrays": "arrays"}


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/load/: columns, quarantine.sqlite, findings.jsonl, card.json and summary.json.

    ValueError, naming file and row, for what cannot be read at all and for findings whose policy is `error`.
    """
    from forcefoundry.contract.door import CARD, bring_in
    from forcefoundry.contract.quarantine import accounting
    from forcefoundry.contract.reviews import Reviews
    from forcefoundry.databases.splitting import SPLITS

    summary = bring_in(
        params["database"],
        params["contract"],
        LOAD,
        Reviews.read(REVIEWS),
        SCRATCH / "door",
        lambda rows: progress_bar(rows, "load", "rows"),
    )
    for line in chosen(summary):
        logger.info("%s", line)
    for line in summary["warnings"]:
        logger.warning("%s", line)
    for line in found(read_json(LOAD / CARD)):
        logger.info("%s", line)
    if summary["isolated_atoms"]:
        logger.info("isolated atoms, which are kept out of all splits: %d", summary["isolated_atoms"])
    sizes = summary["splits"]
    logger.info("splits: %s", ", ".join(f"{name} {sizes[name]}" for name in SPLITS if name in sizes))
    rows = summary["rows"]
    logger.info("%s", accounting(rows["kept"], rows["quarantined"], rows["rejected"]))
    if rows["quarantined"]:
        logger.warning("%d rows are set apart: `python -m pipeline quarantine list` shows them", rows["quarantined"])


def found(card: Mapping[str, Any]) -> Iterator[str]:
    """What the checks found: a line a check, with the first of it."""
    for check in card["findings"]:
        first = check["first"][0]
        rows = f"{check['rows']} row{'s' if check['rows'] != 1 else ''}" if check["rows"] else "the set"
        where = f"{first['where']}: " if first["where"] else ""
        told = f"{where}{first['what']} is {first['got']}, expected {first['expected']}"
        yield f"{check['check']} ({check['policy']}), {rows}{', the first' if check['rows'] > 1 else ''}: {told}"


def chosen(summary: Mapping[str, Any]) -> list[str]:
    """The table of what was read: property, where it was found, in how many rows, its unit and the factor."""
    n_rows, length = summary["n_structures"], summary["length"]
    rows = [("property", "found as", "rows", "read as", "factor")]
    if length["factor"] != 1.0:
        rows.append(("positions", "positions, cell", f"{n_rows} of {n_rows}", length["unit"], _factor(length, "Å")))
    for name, found in summary["properties"].items():
        place = "/".join(_PLACES[place] for place in found["where"].split(", "))
        unit = " ".join(part for part in (found["unit_read"], found["sign"]) if part)
        count = f"{found['count']} of {n_rows}"
        rows.append((name, f"{found['key']} ({place})", count, unit, _factor(found, found["unit"])))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _factor(found: Mapping[str, Any], unit: str) -> str:
    """What the numbers of the file are multiplied by; a virial is multiplied by −1/V besides."""
    virial = found.get("sign") == "virial"
    factor = -found["factor"] if virial else found["factor"]
    if factor == 1.0:
        return f"as it is, {unit}"
    number = f"{factor:.10g}".replace("-", "−")
    return f"× {number}{' / V' if virial else ''} = {unit}"


STEP = Step(
    "load",
    run,
    deps=(
        "pipeline/steps/load.py",
        *DATA_CODE,
        "src/forcefoundry/contract",
        str(REVIEWS),
        "${database.path}",
    ),
    params=(
        *(f"database.{name}" for name in ("path", "format", "files", "keys", "units", "signs", "group")),
        *(f"database.{name}" for name in ("isolated_atoms", "split", "schema")),
        "contract",
    ),
    outs=(
        str(LOAD / "columns"),
        str(QUARANTINE),
        *(str(LOAD / name) for name in ("findings.jsonl", "card.json", "summary.json")),
    ),
)
