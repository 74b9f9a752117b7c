"""A conf/database file for what was looked at: every key that such files have, with what speaks for it beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from forcefoundry.files import written_whole

if TYPE_CHECKING:
    from forcefoundry.contract.inspection import Inspection

FOLDER = Path("conf/database")
FORM = FOLDER / "ase_db.yaml"
"""The form for one's own data: what it says of what a look at the rows cannot tell stands in the proposal too."""

_LABELS = ("energy", "forces", "stress", "charge", "charges", "dipole")  # not the weight, which every row must have


def form() -> dict[str, Any]:
    """The form that is filled in; FileNotFoundError where there is none."""
    if not FORM.is_file():
        raise FileNotFoundError(f"There is no {FORM} in {Path.cwd()}: start this from the repository's root.")
    held: dict[str, Any] = yaml.safe_load(FORM.read_text(encoding="utf-8"))
    return held


def proposal(form: Mapping[str, Any], found: Inspection, given: str) -> str:
    """The text of the file: the form, filled in; `given` is the path as it was typed."""
    filled = {
        **form,
        "path": given.replace("${", "\\${"),
        "format": found.format,
        "files": None,
        "keys": {name: found.choices[name].key for name in _LABELS if name in found.choices},
        "units": {name: _guessed(found, name, "unit") for name in form["units"]},
        "signs": {name: _guessed(found, name, "sign") for name in form["signs"]},
        "group": "config_type" if len(found.measures.kinds) > 1 else None,
        "label": None,
    }
    lines = [f"# Proposed after a look at {found.n_rows} rows of {Path(given).name}: read it before you run it."]
    for key, value in filled.items():
        lines += [f"# {one}" for one in _comments(found, key)] + [_written(key, value)]
    return "\n".join(lines) + "\n"


def place_of(name: str, force: bool) -> Path:
    """Where a proposal is saved: conf/database/NAME.yaml, or the path given.

    ValueError for a name that is none and, unless `force`, for a file that is there.
    """
    path = Path(name).expanduser() if "/" in name or name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.suffix != ".yaml" or not re.fullmatch(r"[\w-]+", path.stem):
        raise ValueError(f"--write {name}: give a name of letters, digits, _ and -, or a path that ends in .yaml.")
    if path.exists() and not force:
        raise ValueError(f"{path} is there already: give another name, or --force to write it anew.")
    return path


def write(text: str, path: Path) -> None:
    """Save a proposal."""
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _guessed(found: Inspection, name: str, what: str) -> str | None:
    return next((getattr(one, what) for one in found.guesses if one.of == name), None)


def _comments(found: Inspection, key: str) -> list[str]:
    if key in ("units", "signs"):
        what = key.removesuffix("s")
        told = [f"{one.of}: {one.told}: {one.evidence}" for one in found.guesses if getattr(one, what)]
        unsure = [
            f"{one.of}: {one.told}: {one.evidence}"
            for one in found.guesses
            if one.told.startswith(("perhaps", "unclear"))
        ]
        return [" ".join(one.split()) for one in (told + unsure if key == "units" else told)]
    if key == "keys":
        rivals = [f"{name} is also under {', '.join(one.rivals)}" for name, one in found.choices.items() if one.rivals]
        return [" ".join(one.split()) for one in rivals]
    if key == "e0" and found.isolated:
        return [f"isolated_atoms would take them from the {found.isolated} rows of isolated atoms"]
    return []


def _written(key: str, value: Any) -> str:
    """A key and its value, in one line where the value is short enough to be read so."""
    whole = isinstance(value, Mapping) and key != "split"
    inner = yaml.safe_dump(value, default_flow_style=whole or None, sort_keys=False, allow_unicode=True, width=10**9)
    inner = inner.removesuffix("...\n").rstrip("\n")
    return f"{key}:\n" + "\n".join(f"  {line}" for line in inner.split("\n")) if "\n" in inner else f"{key}: {inner}"
