"""From rows to columns and splits, in memory, with what is wrong named by file and row."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import Axis, column
from forcefoundry.databases.blocks import Asked, Block, Candidate, blocks
from forcefoundry.databases.database import Database
from forcefoundry.databases.formats import place
from forcefoundry.databases.isolated import check_choice, isolated_rows
from forcefoundry.databases.keys import keys_of
from forcefoundry.databases.labels import Choice
from forcefoundry.databases.mapped import pieces
from forcefoundry.databases.properties import (
    Both,
    Property,
    added,
    check_trained,
    choices,
    compared,
    lacking_told,
    read_as,
)
from forcefoundry.databases.rows import Row, rows_of
from forcefoundry.databases.splitting import split_rows

_ATOMS_AT_ONCE = 500_000

log = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def load_database(config: Mapping[str, Any], progress: Progress = iter) -> tuple[Database, dict[str, Any]]:
    """Read the structures that a `database` configuration names, into canonical units.

    A row without a label has NaN in that column. Rows of isolated atoms are kept, in no split unless they are to be
    trained on. Everything is held in memory, and a row that is wrong ends the reading; `contract.door.bring_in` sets
    such rows apart.

    Returns:
        The database with its splits, and a summary: counts, species, and for each label the key, place, unit, factor
        and number of rows.

    Raises:
        FileNotFoundError, ValueError: naming the file, row or key and the remedy.
    """
    path = place(str(config["path"]))
    asked = Asked.of(config)
    check_choice(config)  # before a large file is read
    given: list[str | None] = []
    parts = [_sound(block) for block in blocks(_noted(progress(rows_of(config, path)), given), asked)]
    if not parts:
        raise ValueError(empty_told(str(path)))
    origins = [where for part in parts for where in part.where]
    carried = added(part.carried for part in parts)
    found = choices(asked, carried)
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    labelled: dict[str, NDArray[np.bool_]] = {}
    properties: dict[str, Property] = {}
    for name, choice in found.items():
        columns[name], labelled[name] = _label(parts, Candidate(name, choice.key))
        properties[name] = read_as(asked, choice, name, carried, int(labelled[name].sum()))
        _tell_label(parts, name, choice, labelled[name], origins)
    keys = [key.tobytes() for key in keys_of(columns)]
    isolated = isolated_rows(
        np.concatenate([part.isolated for part in parts]), [one for part in parts for one in part.groups], config
    )
    splits = _splits(parts, given, keys, isolated, config)
    _warn_of_repeats(origins, keys, splits)
    for told in check_trained(properties, labelled, splits):
        log.warning("%s", told)
    database = Database(columns, splits, [name for name, has in labelled.items() if not has.all()])
    summary = described(str(path), asked, properties, columns, splits, len(isolated)) | {"digest": digest(database)}
    return database, summary


def described(
    source: str,
    asked: Asked,
    properties: Mapping[str, Property],
    columns: Mapping[str, NDArray[Any]],
    splits: Mapping[str, NDArray[Any]],
    n_isolated: int,
) -> dict[str, Any]:
    """What a summary says of the structures that came in.

    Args:
        columns: n_atoms and pbc of all structures, and `species`, in which every element occurs that they have.
    """
    pbc, n_atoms, length = columns["pbc"], columns["n_atoms"], asked.units.of("positions")
    return {
        "source": source,
        "n_structures": len(n_atoms),
        "n_atoms": int(n_atoms.sum()),
        "species": [_symbol(int(z)) for z in np.unique(columns["species"])],
        "periodic": "periodic" if pbc.all() else "mixed" if pbc.any() else "open",
        "length": {"unit": length.unit, "factor": length.factor},
        "properties": {name: found.told() for name, found in properties.items()},
        "isolated_atoms": n_isolated,
        "splits": {name: len(members) for name, members in splits.items()},
    }


def digest(database: Database) -> str:
    """The sha256 over all columns and splits, in the order of their names; columns are passed over in pieces."""
    total = hashlib.sha256()
    every = np.arange(len(database))
    for name in sorted(database.columns):
        known = column(name)
        rows = int(database.offsets[-1]) if known.axis is Axis.ATOM else len(database)
        total.update(_head("column", name, np.dtype(known.dtype), (rows, *known.shape)))
        for part in pieces(every, database.n_atoms, _ATOMS_AT_ONCE):
            total.update(np.ascontiguousarray(database.columns.take(name, part)).tobytes())
    for name in sorted(database.splits):
        members = np.ascontiguousarray(database.splits[name])
        total.update(_head("split", name, members.dtype, members.shape))
        total.update(members.tobytes())
    return total.hexdigest()


def _head(kind: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"{kind} {name} {dtype.str} {shape}\n".encode()


def empty_told(path: str) -> str:
    """What to say of files without rows."""
    return f"The database {path} is empty: it has no rows. Set database.path to where your structures lie."


def _noted(rows: Iterable[Row], given: list[str | None]) -> Iterable[tuple[str, Any]]:
    for row in rows:
        given.append(row.split)
        yield row.origin, row.atoms


def _sound(block: Block) -> Block:
    for fault in block.faults:
        if fault.candidate is None:
            raise ValueError(f"{block.where[fault.row - _first(block)]}: {fault.said}")
    return block


def _first(block: Block) -> int:
    # All rows of a block that is sound up to a fault are numbered in their order; the last one tells the rest.
    rows = [fault.row for fault in block.faults if fault.candidate is None]
    known = {*block.numbers.tolist(), *rows}
    return int(min(known))


def _label(parts: Sequence[Block], chosen: Candidate) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A label of all rows, NaN where one has none, and which have it."""
    for part in parts:
        for fault in part.faults:
            if fault.candidate == chosen:
                raise ValueError(f"{part.where[fault.row - _first(part)]}: {fault.said}")
    known = column(chosen.name)
    values, has = [], []
    for part in parts:
        n = int(part.columns["n_atoms"].sum()) if known.axis is Axis.ATOM else len(part.numbers)
        values.append(part.labels[chosen] if chosen in part.labels else np.full((n, *known.shape), np.nan))
        has.append(part.has.get(chosen, np.zeros(len(part.numbers), dtype=bool)))
    return np.concatenate(values), np.concatenate(has)


def _tell_label(
    parts: Sequence[Block], name: str, choice: Choice, labelled: NDArray[np.bool_], origins: Sequence[str]
) -> None:
    chosen = Candidate(name, choice.key)
    for rival in choice.rivals:
        told = compared(chosen, rival, _both(parts, chosen, Candidate(name, rival)))
        if told:
            log.warning("%s", told)
    lacking = np.flatnonzero(~labelled)
    if len(lacking):
        log.info("%s", lacking_told(name, choice.key, len(lacking), len(labelled), origins[lacking[0]]))


def _both(parts: Sequence[Block], chosen: Candidate, rival: Candidate) -> Iterable[Both]:
    for part in parts:
        if rival in part.labels:
            nothing = np.zeros(len(part.numbers), dtype=bool)
            mine = part.labels.get(chosen)
            yield Both(
                part.columns["n_atoms"], mine, part.has.get(chosen, nothing), part.labels[rival], part.has[rival]
            )


def _splits(
    parts: Sequence[Block],
    given: Sequence[str | None],
    keys: Sequence[bytes],
    isolated: NDArray[np.int64],
    config: Mapping[str, Any],
) -> dict[str, NDArray[np.int64]]:
    """The splits of all rows but those of isolated atoms, which are in none."""
    group, official = config.get("group"), dict(config["split"]).get("column")
    infos: list[dict[str, str]] = []
    for part in parts:
        for of_group, of_column in zip(part.groups, part.official, strict=True):
            held = {str(group): of_group, str(official): of_column}
            infos.append({name: value for name, value in held.items() if value is not None})
    kept = np.setdiff1d(np.arange(len(keys)), isolated)
    rows = [(given[at], infos[at]) for at in kept.tolist()]
    return {name: kept[chosen] for name, chosen in split_rows(rows, [keys[at] for at in kept], config).items()}


def _warn_of_repeats(origins: Sequence[str], keys: Sequence[bytes], splits: Mapping[str, Any]) -> None:
    """Say it when official splits share structures, atom for atom: their errors are then those of training."""
    side: dict[bytes, tuple[str, int]] = {}
    repeated = []
    for name, members in splits.items():
        for at in members:
            other, first = side.setdefault(keys[at], (name, int(at)))
            if other != name:
                repeated.append(f"{origins[at]} ({name}) is {origins[first]} ({other})")
    if repeated:
        log.warning("%d structures stand in two splits: %s", len(repeated), "; ".join(repeated[:5]))


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
