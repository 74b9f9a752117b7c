"""From rows to columns and splits, with what is wrong named by file and row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import column
from forcefoundry.databases.database import Database
from forcefoundry.databases.formats import read_rows
from forcefoundry.databases.keys import structure_key
from forcefoundry.databases.labels import available, choose_key, value_of

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
        counts.update(available(row.atoms))
    columns = _structures(rows)
    properties: dict[str, Any] = {}
    for name, asked in dict(config.get("keys") or {}).items():
        key = choose_key(name, asked, counts)
        if key is None:
            raise ValueError(
                f"No row of {path} carries {name}. Rows carry {', '.join(sorted(counts)) or 'no labels'}: name the key "
                f"in database.keys.{name}, or leave {name} out of database.keys."
            )
        columns[name] = _labels(rows, name, key)
        properties[name] = {"key": key, "unit": column(name).unit, "count": len(rows)}
    splits = _splits(rows, columns, config)
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
            f"them, or leave {name} out of database.keys."
        )
    return np.concatenate(found) if column(name).axis.value == "atom" else np.stack(found)


def _splits(
    rows: list[Row], columns: Mapping[str, NDArray[Any]], config: Mapping[str, Any]
) -> dict[str, NDArray[np.int64]]:
    """Each structure's split: kept out by its group, or given by its file, or drawn by its content.

    The draw depends on the structure and the seed alone, so data that are added move nothing, and a structure that is
    there twice is never on both sides.
    """
    split = dict(config["split"])
    group, held_out = config.get("group"), [str(value) for value in split.get("held_out") or ()]
    if held_out and group is None:
        raise ValueError(
            "database.split.held_out names groups, but database.group is null. Name the key of the groups."
        )
    shares = {name: float(split.get(name) or 0.0) for name in ("valid", "test")}
    if any(share < 0 for share in shares.values()) or sum(shares.values()) >= 1:
        raise ValueError(f"database.split takes shares of 0 or more that leave something to train on, got {shares}.")
    members: dict[str, list[int]] = {"train": [], "valid": [], "test": [], "held_out": []}
    seen_groups = set()
    offsets = np.concatenate([[0], np.cumsum(columns["n_atoms"])])
    for at, row in enumerate(rows):
        of_group = str(row.atoms.info.get(group)) if group is not None else None
        seen_groups.add(of_group)
        if of_group in held_out:
            members["held_out"].append(at)
        elif row.split not in (None, "train"):
            members.setdefault(str(row.split), []).append(at)
        else:
            drawn = _draw(columns, slice(offsets[at], offsets[at + 1]), at, int(split.get("seed") or 0))
            name = "test" if drawn < shares["test"] else "valid" if drawn < sum(shares.values()) else "train"
            members[name].append(at)
    absent = [value for value in held_out if value not in seen_groups]
    if absent:
        known = ", ".join(sorted(str(value) for value in seen_groups if value is not None)[:20])
        raise ValueError(
            f"database.split.held_out names {absent[0]!r}, which is no {group} in the data. There are {known}."
        )
    for name, purpose in (("train", "train"), ("valid", "validate")):
        if not members[name]:
            raise ValueError(
                f"The split leaves nothing to {purpose} on: 0 of {len(rows)} structures are in {name!r}. Change "
                f"database.split.{'valid' if name == 'valid' else 'valid or .test'} (now {shares}), or add structures."
            )
    return {name: np.array(chosen, dtype=np.int64) for name, chosen in members.items() if chosen}


def _draw(columns: Mapping[str, NDArray[Any]], atoms: slice, at: int, seed: int) -> float:
    key = structure_key(columns["species"][atoms], columns["positions"][atoms], columns["cell"][at], columns["pbc"][at])
    hashed = hashlib.sha256(f"split {seed}\n".encode() + key).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
