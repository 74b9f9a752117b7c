"""The table at the end of a run: what a reviewer needs, read from the files that the steps wrote and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from forcefoundry.files import read_json

_GAP = "   "
_MARGIN = 14  # columns before the first number, as wide as "held out" and some air
_SPLITS = {"valid": "valid", "test": "test", "held_out": "held out"}
_HEADS = {  # quantity of metrics.json -> (heading, factor from eV to the unit shown, decimals)
    "energy_per_atom": ("E meV/atom", 1000.0, 1),
    "forces": ("F meV/Å", 1000.0, 0),
    "stress": ("S meV/Å³", 1000.0, 2),
}
_ASKED = ("energy", "forces", "stress")
_APART = ("quarantined", "rejected")  # what came in and is not among the structures


def table(workspace: Path, recorded: bool = True) -> str:
    """The table of `workspace` as far as its steps have run; without the review row unless `recorded`.

    FileNotFoundError if no step has left anything to show.
    """
    artifacts = workspace / "artifacts"
    parts: list[tuple[str, Callable[[Any], list[str]]]] = [
        ("load/summary.json", _data),
        ("precompute_pairs/receipt.json", _pairs),
        ("train/receipt.json", _train),
        ("evaluate/metrics.json", _errors),
    ]
    if recorded:
        parts.append(("record/run.json", _review))
    rows: list[str] = []
    for name, shown in parts:
        if (artifacts / name).is_file():
            rows += shown(read_json(artifacts / name))
        elif rows:
            # What lies behind a step that has not run yet is of an earlier run, and says nothing of this one.
            break
    if not rows:
        raise FileNotFoundError(
            f"There is nothing to show in {artifacts.resolve()}: start a run with `python -m pipeline run`."
        )
    return "\n".join(row.rstrip() for row in rows)


def _data(summary: Mapping[str, Any]) -> list[str]:
    n_structures = summary["n_structures"]
    found = summary["properties"]
    names = [*_ASKED, *(name for name in found if name not in _ASKED)]
    told = [_property(name, found.get(name), n_structures) for name in names]
    sizes = [(summary["splits"].get(key), name) for key, name in {"train": "train", **_SPLITS}.items()]
    splits = ", ".join(f"{_count(n)} {name}" for n, name in sizes if n)
    apart = summary.get("isolated_atoms")
    splits += f"{_GAP}{_count(apart)} isolated atom{'s' if apart > 1 else ''} kept out" if apart else ""
    head = _GAP.join([f"{_count(n_structures)} structures", " ".join(summary["species"]), "  ".join(told)])
    head += "".join(f"{_GAP}{_count(summary['rows'][name])} {name}" for name in _APART if summary["rows"][name])
    return [f"data    {head}", f"        {splits}"]


def _property(name: str, found: Mapping[str, Any] | None, n_structures: int) -> str:
    if not found or not found["count"]:
        return f"{name} –"
    label = f"{name} {found['unit']}".rstrip()
    if found.get("factor", 1.0) != 1.0:  # what was converted on the way in
        label += f" from {' '.join(part for part in (found['unit_read'], found['sign']) if part)}"
    return f"{label} ✓" if found["count"] >= n_structures else f"{label} on {_count(found['count'])}"


def _pairs(receipt: Mapping[str, Any]) -> list[str]:
    work = f"{_count(receipt['kept'])} kept, {_count(receipt['computed'])} computed in {receipt['seconds']:.1f} s"
    return [f"pairs   {work}{_GAP}{receipt['bytes'] / 1e6:.1f} MB"]


def _train(receipt: Mapping[str, Any]) -> list[str]:
    epochs = f"{_count(receipt['epochs'])} epochs in {_time(receipt['seconds'])} (best {_count(receipt['best_epoch'])})"
    weights = f"{_count(receipt['n_parameters'])} weights"
    return [f"train   {epochs}{_GAP}{weights}{_GAP}on {receipt['device']}"]


def _errors(metrics: Mapping[str, Any]) -> list[str]:
    quantities = [name for name in _HEADS if any(name in metrics.get(split, {}) for split in _SPLITS)]
    columns = [f"{'MAE':<8}{'RMSE':<8}{'R²':<10}" for _ in quantities]
    lines = [
        " " * _MARGIN + "".join(f"{_HEADS[name][0]:<26}" for name in quantities),
        " " * _MARGIN + "".join(columns),
    ]
    for split, name in _SPLITS.items():
        if metrics.get(split):
            cells = [_cells(metrics[split].get(quantity), *_HEADS[quantity][1:]) for quantity in quantities]
            lines.append(f"{name:<{_MARGIN}}" + "".join(cells))
    return lines


def _cells(errors: Mapping[str, float | None] | None, factor: float, decimals: int) -> str:
    shown = [_number(errors, "mae", factor, decimals), _number(errors, "rmse", factor, decimals)]
    return f"{shown[0]:<7} {shown[1]:<7} {_number(errors, 'r2', 1.0, 4):<9} "


def _number(errors: Mapping[str, float | None] | None, key: str, factor: float, decimals: int) -> str:
    value = (errors or {}).get(key)
    return "–" if value is None else f"{value * factor:.{decimals}f}"


def _review(run: Mapping[str, Any]) -> list[str]:
    return [f"review  MLflow experiment {run['experiment']}, run {run['run_id']}{_GAP}make ui"]


def _count(number: int) -> str:
    # Thousands are set apart by a space, as the field writes them.
    return f"{number:,}".replace(",", " ")


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"
