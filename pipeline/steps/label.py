"""label: the demonstration's own data, made with real physics; where the data are yours, it makes none."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefoundry.files import write_json, written_whole
from pipeline.step import Step

if TYPE_CHECKING:
    from pipeline.steps.labelling.rows import Labelled, LeftOut

FOLDER = Path("artifacts/label")
DATABASE = FOLDER / "structures.db"

# Modules with `Settings` and `label(settings, processes)`; imported when used, since ase and tblite are slow to import.
KINDS = {
    "molecules_xtb": "pipeline.steps.labelling.molecules",
    "crystals_emt": "pipeline.steps.labelling.crystals",
}

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/label/: structures.db and its receipt label.json, or the receipt alone where the data are yours.

    ValueError for a configuration that does not fit, DiskFullError where there is no room.
    """
    database = params["database"]
    config = database["label"]
    _check_path(Path(database["path"]), labelled_here=config is not None)
    if config is None:
        _write_receipt_alone(database["path"])
        return
    rows, left_out = _labelled(config, (params.get("hardware") or {}).get("processes"))
    _write(rows, _receipt(config, rows, left_out))
    logger.info("Labelled %d structures of %d groups into %s.", len(rows), len({row.name for row in rows}), DATABASE)


def _check_path(path: Path, labelled_here: bool) -> None:
    if (path.resolve() == DATABASE.resolve()) == labelled_here:
        return
    if labelled_here:
        raise ValueError(
            f"database.path is {path}, but database.label makes {DATABASE}. "
            "Set database.label=null where the data are yours, or leave database.path as it was."
        )
    raise ValueError(
        f"database.path is {DATABASE}, which only database.label makes, and that is null. "
        "Point database.path at your own data, or give database.label."
    )


def _labelled(config: Mapping[str, Any], processes: int | None) -> tuple[list[Labelled], list[LeftOut]]:
    from pipeline.steps.labelling.rows import Labelled

    rows: list[Labelled] = []
    left_out: list[LeftOut] = []
    for row in _labels(config, processes):
        if isinstance(row, Labelled):
            rows.append(row)
        else:
            left_out.append(row)
    if left_out:
        first = left_out[0]
        logger.warning(
            "%d of %d structures were left out, the first of them %s frame %d: %s. All stand in %s.",
            *(len(left_out), len(rows) + len(left_out), first.name, first.frame, first.reason, FOLDER / "label.json"),
        )
    if not rows:
        raise ValueError(
            f"Not one of {len(left_out)} structures could be labelled; the first: {left_out[0].reason}. "
            "Lower database.label's temperature, strain or rattle, or raise its max_force."
        )
    return rows, left_out


def _labels(config: Mapping[str, Any], processes: int | None) -> Iterator[Labelled | LeftOut]:
    from pipeline.steps.labelling.settings import filled, nearest
    from pipeline.steps.labelling.workers import usual_processes

    kind = config.get("kind")
    if kind not in KINDS:
        raise ValueError(
            f"database.label.kind is {kind!r}{nearest(str(kind), KINDS)} The kinds are {', '.join(KINDS)}; "
            "set database.label=null where the data are yours."
        )
    if processes is not None and (type(processes) is not int or processes < 1):
        raise ValueError(f"hardware.processes is {processes!r}, expected a whole number of at least 1, or null.")
    module = import_module(KINDS[kind])
    settings = filled(module.Settings, {key: config[key] for key in config if key != "kind"}, "database.label")
    labels: Iterator[Labelled | LeftOut] = module.label(settings, processes or usual_processes())
    return labels


def _receipt(config: Mapping[str, Any], rows: list[Labelled], left_out: list[LeftOut]) -> dict[str, Any]:
    return {
        "kind": config["kind"],
        "settings": dict(config),
        "rows": len(rows),
        "groups": Counter(row.name for row in rows),
        "left_out": [vars(each) for each in left_out],
        "units": {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "charges": "e", "dipole": "e·Å"},
        "versions": {name: metadata.version(name) for name in ("ase", "numpy", "tblite")},
    }


def _write(rows: list[Labelled], receipt: Mapping[str, Any]) -> None:
    from pipeline.steps.labelling.ase_database import write_database

    with written_whole(FOLDER) as draft:
        draft.mkdir()
        write_database(draft / DATABASE.name, rows)
        write_json(draft / "label.json", receipt)


def _write_receipt_alone(path: str) -> None:
    receipt = {"kind": None, "says": f"The data are the user's own ({path}); none were made."}
    with written_whole(FOLDER) as draft:
        draft.mkdir()
        write_json(draft / "label.json", receipt)
    logger.info("The data are your own (%s): nothing to label.", path)


STEP = Step(
    name="label",
    run=run,
    deps=("pipeline/steps/label.py", "pipeline/steps/labelling"),
    params=("database.label", "database.path"),
    outs=(str(FOLDER),),
)
