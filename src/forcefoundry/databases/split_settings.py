"""What the configuration says of splits, and what of it cannot be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

SPLITS = ("train", "valid", "test", "held_out")

_BY = ("content", "group")


@dataclass(frozen=True)
class SplitSettings:
    """The `split` part of a `database` section, checked.

    Attributes:
        seed: of the draw.
        by: what is drawn: structures by their content, or groups by their value, which are kept whole.
        column: the key of rows whose value is the official split, or None.
        shares: those of valid and test in what is drawn.
        held_out: the values of the group's key that are kept out.
        group: the group's key, or None.
        frozen: split to the sha256 over its sorted content keys.
    """

    seed: int
    by: str
    column: str | None
    shares: Mapping[str, float]
    held_out: tuple[str, ...]
    group: str | None
    frozen: Mapping[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> SplitSettings:
        """The settings of a `database` section; what cannot be is a ValueError."""
        split, group = dict(config["split"]), config.get("group")
        files = list(dict(config.get("files") or {}))
        by, column = split.get("by") or "content", split.get("column")
        if by not in _BY:
            raise ValueError(f"database.split.by is {by!r}, expected {' or '.join(_BY)}.")
        if by == "group" and group is None:
            raise ValueError("database.split.by is group, but database.group is null. Name the groups' key.")
        if column is not None and files:
            raise ValueError(
                f"database.split.column is {column!r}, but database.files names official splits too. "
                "Set one of the two to null."
            )
        return cls(
            int(split.get("seed") or 0),
            str(by),
            column,
            _shares(split, files),
            tuple(str(value) for value in split.get("held_out") or ()),
            group,
            _frozen(split.get("frozen")),
        )

    def check_column(self, official: Sequence[str]) -> None:
        """Refuse a share of a split that the column gives already; `official` are the splits that rows were given."""
        if self.column is None:
            return
        for name, share in self.shares.items():
            if name in official and share > 0:
                raise ValueError(
                    f"The column {self.column!r} of rows says which are in {name!r}, but database.split.{name} is "
                    f"{share}: nothing is drawn beside an official split. Set database.split.{name}=0."
                )


def split_name(name: str, column: str | None = None) -> str:
    """The name itself, if it is that of a split."""
    if name in SPLITS:
        return name
    source = "database.files names" if column is None else f"The column {column!r} of a row names"
    raise ValueError(f"{source} the split {name!r}, which is none. {_hint(name)}")


def check_groups(settings: SplitSettings, groups: Sequence[str | None]) -> None:
    """Refuse groups that no row has."""
    group, held_out = settings.group, settings.held_out
    known = sorted({name for name in groups if name is not None})
    if held_out and group is None:
        raise ValueError("database.split.held_out names groups, but database.group is null. Name the groups' key.")
    if group is not None and not known:
        raise ValueError(f"No row carries the key {group!r} that database.group names. Name another one, or null.")
    absent = [value for value in held_out if value not in known]
    if absent:
        raise ValueError(
            f"database.split.held_out names {absent[0]!r}, which is no {group} in the data. There are "
            f"{', '.join(known[:20])}{' and more' if len(known) > 20 else ''}."
        )


def shown(digest: str | None) -> str:
    """A split's digest, or words for its absence."""
    return digest or "none (no structure is in it)"


def _shares(split: Mapping[str, Any], files: Sequence[str]) -> dict[str, float]:
    for name in files:
        split_name(name)
    shares = {name: float(split.get(name) or 0.0) for name in ("valid", "test")}
    if any(share < 0 for share in shares.values()) or sum(shares.values()) >= 1:
        raise ValueError(f"database.split takes shares of 0 or more that leave something to train on, got {shares}.")
    for name in shares:
        if name in files and shares[name] > 0:
            raise ValueError(
                f"{name!r} has a file of its own in database.files, but database.split.{name} is {shares[name]}: "
                f"nothing is drawn beside an official split. Set database.split.{name}=0."
            )
    return shares


def _frozen(given: Mapping[str, Any] | None) -> dict[str, str]:
    found = {}
    for name, digest in dict(given or {}).items():
        if name not in SPLITS:
            raise ValueError(f"database.split.frozen names the split {name!r}, which is none. {_hint(name)}")
        if digest is None:
            continue
        if not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
            raise ValueError(
                f"database.split.frozen.{name} is {digest!r}, expected a sha256 of 64 digits as "
                "artifacts/load/summary.json tells it."
            )
        found[name] = str(digest)
    return found


def _hint(name: str) -> str:
    near = get_close_matches(name, SPLITS, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(SPLITS)}."
