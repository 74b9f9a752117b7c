"""Which key each property is read under, decided over all rows, and what is to be said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forcefoundry.columns import Axis, column
from forcefoundry.databases.blocks import Asked, Candidate
from forcefoundry.databases.labels import Carried, Choice, choose_key
from forcefoundry.databases.units import Conversion


@dataclass(frozen=True)
class Property:
    """A label that was read.

    Attributes:
        name: of the column.
        key: under which rows carry it.
        where: results, info or arrays, or several of them.
        read: what was done to the numbers of the file.
        count: how many rows have it.
    """

    name: str
    key: str
    where: str
    read: Conversion
    count: int

    def told(self) -> dict[str, Any]:
        """What the summary keeps of it; `unit` is that of the column, `unit_read` that of the file."""
        return {
            "key": self.key,
            "where": self.where,
            "count": self.count,
            "unit": column(self.name).unit,
            "unit_read": self.read.unit,
            "factor": self.read.factor,
            "sign": self.read.sign,
        }


class Both(NamedTuple):
    """Some rows under the key that is read and under a rival: n_atoms (n,), values, and (n,) which rows have each."""

    n_atoms: NDArray[np.int64]
    mine: NDArray[np.float64] | None
    has_mine: NDArray[np.bool_]
    other: NDArray[np.float64]
    has_other: NDArray[np.bool_]


def added(parts: Iterable[Carried]) -> dict[str, Counter[str]]:
    """How many rows of all parts carry each key, and where."""
    found: dict[str, Counter[str]] = {}
    for part in parts:
        for key, places in part.items():
            found.setdefault(key, Counter()).update(places)
    return found


def choices(asked: Asked, carried: Carried) -> dict[str, Choice]:
    """The key of each property that is asked for, with its rivals; ValueError for one that no row carries."""
    return {name: choose_key(name, key, carried) for name, key in asked.keys.items()}


def read_as(asked: Asked, choice: Choice, name: str, carried: Carried, count: int) -> Property:
    """What is told of a property that `count` rows have."""
    where = ", ".join(sorted(carried[choice.key]))
    return Property(name, choice.key, where, asked.units.of(name, choice.key), count)


def compared(chosen: Candidate, rival: str, parts: Iterable[Both]) -> str | None:
    """What to say of another key that stands for the same property; None if it says the same of the same rows."""
    only, both, differing, largest = 0, 0, 0, 0.0
    for part in parts:
        only += int((part.has_other & ~part.has_mine).sum())
        shared = part.has_other & part.has_mine
        both += int(shared.sum())
        if part.mine is None or not shared.any():
            continue
        apart = np.abs(part.mine - part.other)
        # Beyond how texts are rounded, and arithmetic.
        wrong = apart > 1e-7 + 1e-9 * np.abs(part.other)
        of_rows = _any_of_rows(chosen.name, wrong, part.n_atoms) & shared
        if of_rows.any():
            differing += int(of_rows.sum())
            chosen_rows = np.repeat(of_rows, part.n_atoms) if column(chosen.name).axis is Axis.ATOM else of_rows
            largest = max(largest, float(apart[chosen_rows].max()))
    if not only and not differing:
        return None
    name, unit = chosen.name, column(chosen.name).unit
    parts_told = [f"{name} stands under two keys, and {chosen.key!r} is read, not {rival!r}"]
    if differing:
        parts_told.append(f"{differing} of {both} rows that have both differ, by up to {largest:.6g} {unit}")
    if only:
        parts_told.append(f"{only} rows have {rival!r} alone and count as unlabelled")
    return "; ".join(parts_told) + f". If another is meant, name it in database.keys.{name}"


def lacking_told(name: str, key: str, lacking: int, n_rows: int, first: str) -> str:
    """What to say of rows without a label; ValueError where none may lack it."""
    if name.endswith("weight"):
        raise ValueError(
            f"{lacking} of {n_rows} rows lack {name} (key {key!r}), the first is {first}. A weight is no label that "
            "may be absent: give every row one."
        )
    return (
        f"{lacking} of {n_rows} rows carry no {name} (key {key!r}) and count as unlabelled, never as zero; the first "
        f"is {first}"
    )


def check_trained(
    properties: Mapping[str, Property], labelled: Mapping[str, NDArray[np.bool_]], splits: Mapping[str, NDArray[Any]]
) -> list[str]:
    """Refuse a label that no structure of `train` has; what to say of `valid`, since training is steered by that.

    Args:
        labelled: (n,) by name, which structures have it.
        splits: the structures of each.
    """
    told = []
    for name, found in properties.items():
        has = labelled[name]
        where = ", ".join(f"{has[rows].sum()} of {len(rows)} in {split}" for split, rows in splits.items())
        if not has[splits["train"]].any():
            raise ValueError(
                f"No structure of the split 'train' has {name} (key {found.key!r}; {where}), so it cannot be trained "
                f"on. Label some, change database.split, or take {name} out of database.keys."
            )
        if not has[splits["valid"]].any():
            told.append(
                f"no structure of the split 'valid' has {name} ({where}): training.best_by must be of another property"
            )
    return told


def _any_of_rows(name: str, wrong: NDArray[np.bool_], n_atoms: NDArray[np.int64]) -> NDArray[np.bool_]:
    flat: NDArray[np.bool_] = np.asarray(wrong.reshape(len(wrong), -1).any(axis=1))
    if column(name).axis is not Axis.ATOM:
        return flat
    of_rows: NDArray[np.bool_] = np.logical_or.reduceat(flat, np.cumsum(n_atoms) - n_atoms)
    return of_rows
