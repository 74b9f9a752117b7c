"""From rows to columns and splits, with what is wrong named by file and row."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import DERIVED, STRUCTURE, column
from forcefoundry.databases.database import Database
from forcefoundry.databases.formats import read_rows
from forcefoundry.databases.keys import is_flat, keys_of
from forcefoundry.databases.labels import available, choose_key, value_of
from forcefoundry.databases.splitting import split_rows

log = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Row:
    """One row as it came: where from, which official split if any, and its Atoms."""

    origin: str
    split: str | None
    atoms: Any


def load_database(config: Mapping[str, Any], progress: Progress = iter) -> tuple[Database, dict[str, Any]]:
    """Read the structures that a `database` configuration names.

    Returns:
        The database with its splits, and a summary: counts, species, which label was found under which key.

    Raises:
        FileNotFoundError, ValueError: naming the file, row or key and the remedy.
    """
    path = Path(str(config["path"]))
    rows = list(progress(_rows(config, path)))
    if not rows:
        raise ValueError(
            f"The database {path} is empty: it has no rows. Set database.path to where your structures lie."
        )
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(list(available(row.atoms)))  # keys; a mapping would be taken as counts
    columns = _structures(rows)
    properties: dict[str, Any] = {}
    for name, asked in dict(config.get("keys") or {}).items():
        if name in (*STRUCTURE, *DERIVED):
            raise ValueError(f"database.keys names {name}, which is no label but part of a structure. Leave it out.")
        key = choose_key(name, asked, counts)
        if key is None:
            raise ValueError(
                f"No row of {path} carries {name}. Rows carry {', '.join(sorted(counts)) or 'no labels'}: name the key "
                f"in database.keys.{name}, or label the rows."
            )
        columns[name] = _labels(rows, name, key)
        properties[name] = {"key": key, "unit": column(name).unit, "count": len(rows)}
    keys = keys_of(columns)
    splits = split_rows([(row.split, row.atoms.info) for row in rows], keys, config)
    _warn_of_repeats(rows, keys, splits)
    database = Database(columns, splits)
    pbc = columns["pbc"]
    summary = {
        "source": str(path),
        "n_structures": len(database),
        "n_atoms": int(database.offsets[-1]),
        "species": [_symbol(z) for z in database.species],
        "periodic": "periodic" if pbc.all() else "mixed" if pbc.any() else "open",
        "properties": properties,
        "splits": {name: len(members) for name, members in splits.items()},
        "digest": digest(database),
    }
    return database, summary


def digest(database: Database) -> str:
    """The sha256 over all columns and splits, in the order of their names."""
    total = hashlib.sha256()
    for kind, arrays in (("column", database.columns), ("split", database.splits)):
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            total.update(f"{kind} {name} {array.dtype.str} {array.shape}\n".encode())
            total.update(array.tobytes())
    return total.hexdigest()


def _rows(config: Mapping[str, Any], path: Path) -> Iterable[Row]:
    files: dict[str | None, Path] = {None: path}
    if config.get("files"):
        files = {str(split): path / str(name) for split, name in dict(config["files"]).items()}
    for split, file in files.items():
        for where, atoms in read_rows(str(config["format"]), file):
            yield Row(f"{file}, {where}", split, atoms)


def _structures(rows: list[Row]) -> dict[str, NDArray[Any]]:
    for row in rows:
        if len(row.atoms) == 0:
            raise ValueError(f"{row.origin}: the structure has no atoms. Remove the row.")
        for name, values in (("position", row.atoms.positions), ("cell", np.asarray(row.atoms.cell))):
            if not np.isfinite(values).all():
                at = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                what = f"the position of atom {at}" if name == "position" else f"lattice vector {at}"
                raise ValueError(
                    f"{row.origin}: {what} is {values[at].tolist()}, expected finite numbers in Å. "
                    "Repair or remove the row."
                )
        if is_flat(np.asarray(row.atoms.cell), row.atoms.pbc):
            vectors = np.asarray(row.atoms.cell)[row.atoms.pbc]
            raise ValueError(
                f"{row.origin}: it is periodic, but its periodic lattice vectors {vectors.tolist()} are zero or lie in "
                "one plane. Give it a cell, or set pbc to False for that direction."
            )
        if row.atoms.numbers.min() < 1:
            raise ValueError(
                f"{row.origin}: atomic number {row.atoms.numbers.min()} is not an element. Repair the row."
            )
    return {
        "n_atoms": np.array([len(row.atoms) for row in rows], dtype=np.int64),
        "species": np.concatenate([row.atoms.numbers for row in rows]).astype(np.int64),
        "positions": np.concatenate([row.atoms.positions for row in rows]),
        "cell": np.stack([np.asarray(row.atoms.cell) for row in rows]),
        "pbc": np.stack([row.atoms.pbc for row in rows]),
    }


def _labels(rows: list[Row], name: str, key: str) -> NDArray[np.float64]:
    found, lacking = [], []
    for row in rows:
        try:
            value = value_of(row.atoms, name, key)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{row.origin}: {error} Repair or remove the row.") from None
        if value is None:
            lacking.append(row.origin)
        elif not np.isfinite(value).all():
            raise ValueError(f"{row.origin}: {name} (key {key!r}) is not finite. Repair or remove the row.")
        else:
            found.append(value)
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(rows)} rows lack {name} (key {key!r}), the first is {lacking[0]}. Label or remove "
            "them."
        )
    return np.concatenate(found) if column(name).axis.value == "atom" else np.stack(found)


def _warn_of_repeats(rows: list[Row], keys: list[bytes], splits: Mapping[str, Any]) -> None:
    """Say it when official splits share structures, atom for atom: their errors are then those of training."""
    side: dict[bytes, tuple[str, int]] = {}
    repeated = []
    for name, members in splits.items():
        for at in members:
            other, first = side.setdefault(keys[at], (name, int(at)))
            if other != name:
                repeated.append(f"{rows[at].origin} ({name}) is {rows[first].origin} ({other})")
    if repeated:
        log.warning("%d structures stand in two splits: %s", len(repeated), "; ".join(repeated[:5]))


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
