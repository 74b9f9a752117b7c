"""The door: rows of any files in, columns, splits, findings and a quarantine out. Nothing is dropped in silence.

    files -> units of rows, read once (intake) -> measured (gathered) -> judged (verdicts) -> split (placing) -> written

What was done once is not done again: files are known by the sha256 of their bytes. If none of them has changed, and
neither have the configuration, the reviews or this code, the results of that time are handed out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forcefoundry.contract.intake import Files, code_digest, grouped, unit_key, unit_of
from forcefoundry.contract.making import (
    CARD,
    COLUMNS,
    FINDINGS,
    QUARANTINE,
    SUMMARY,
    Rules,
    make,
    write_findings,
)
from forcefoundry.contract.reviews import Reviews
from forcefoundry.contract.settings import settings_of
from forcefoundry.contract.verdicts import ContractError
from forcefoundry.databases.blocks import Asked
from forcefoundry.databases.formats import place
from forcefoundry.databases.isolated import check_choice
from forcefoundry.databases.rows import sources_of
from forcefoundry.databases.split_settings import SplitSettings
from forcefoundry.files import read_json, written_whole

__all__ = ["CARD", "COLUMNS", "FINDINGS", "QUARANTINE", "SUMMARY", "ContractError", "bring_in"]

Progress = Callable[[Iterable[Any]], Iterable[Any]]

_KEPT_DAYS = 14
"""After so many days without use what was kept is removed."""


def bring_in(
    config: Mapping[str, Any],
    contract: Mapping[str, Any] | None,
    folder: Path | str,
    reviews: Reviews | None = None,
    scratch: Path | str | None = None,
    progress: Progress = iter,
) -> dict[str, Any]:
    """Bring the rows that a configuration names into a folder: columns, quarantine, findings, card and summary.

    Args:
        config: the `database` section.
        contract: check to its policy and thresholds, as in conf/contract; None for the defaults.
        folder: gets COLUMNS (which `Database.load` opens), QUARANTINE, FINDINGS, CARD and SUMMARY.
        reviews: what people decided about rows.
        scratch: where to keep what was read, so that it need not be read again; None keeps nothing.
        progress: wraps the rows as they are read.

    Returns:
        The summary. Of its `rows`, in = kept + quarantined + rejected.

    Raises:
        FileNotFoundError, ValueError: for what cannot be read at all, settings that cannot be, and (ContractError)
            findings of checks whose policy is `error`; FINDINGS are in the folder then, too.
    """
    folder = Path(folder)
    rules = Rules(
        config,
        Asked.of(config),
        settings_of(contract, config.get("schema")),
        Reviews() if reviews is None else reviews,
    )
    check_choice(config)
    SplitSettings.of(config)
    files = grouped(sources_of(config, place(str(config["path"]))))
    with _room(scratch, folder) as kept:
        name = _result_name(files, rules)
        result = kept / "results" / (name or "of an address")
        if name is None or not (result / SUMMARY).is_file():
            units = [unit_of(one, rules.asked, kept, progress) for one in files]
            try:
                with written_whole(result) as draft:
                    draft.mkdir()
                    make(rules, units, draft)
            except ContractError as error:
                write_findings(folder / FINDINGS, error.findings, error.origins, rules.settings)
                raise
        os.utime(result)
        _hand_out(result, folder)
        _clean(kept)
    summary: dict[str, Any] = read_json(folder / SUMMARY)
    return summary


@contextmanager
def _room(scratch: Path | str | None, folder: Path) -> Iterator[Path]:
    """Where to keep what was read."""
    if scratch is not None:
        Path(scratch).mkdir(parents=True, exist_ok=True)
        yield Path(scratch)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.door.", dir=folder.parent) as made:
        yield Path(made)


def _result_name(files: Sequence[Files], rules: Rules) -> str | None:
    """A name for the results: of all that they depend on; None where files are none that have bytes."""
    keys = [unit_key(one, rules.asked) for one in files]
    if None in keys:
        return None
    names = [[one.split, *(source.name for source in one.sources)] for one in files]
    settings = {name: asdict(setting) for name, setting in rules.settings.items()}
    reviews = [asdict(entry) for entry in rules.reviews]
    told = [keys, names, dict(rules.config), settings, reviews, code_digest()]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _hand_out(result: Path, folder: Path) -> None:
    """Put results where they are wanted: shards are linked, so that they are on the disk once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (COLUMNS, QUARANTINE, FINDINGS, CARD, SUMMARY):
        for draft in folder.glob(f".{name}.*"):  # of a run that was killed
            shutil.rmtree(draft, ignore_errors=True)
        with written_whole(folder / name) as draft:
            if not (result / name).is_dir():
                shutil.copyfile(result / name, draft)
                continue
            draft.mkdir()
            for path in (result / name).iterdir():
                _link(path, draft / path.name)


def _link(path: Path, place: Path) -> None:
    if path.suffix == ".arrow":
        try:
            os.link(path, place)
            return
        except OSError:  # another file system, or one that knows no links
            pass
    shutil.copyfile(path, place)


def _clean(kept: Path) -> None:
    """Remove what nobody has used for some time."""
    oldest = time.time() - _KEPT_DAYS * 86400
    for path in [*kept.glob("units/*"), *kept.glob("results/*")]:
        if path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)
