"""Which structure is trained on, which steers training, which judges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test", "held_out")


def split_rows(
    rows: Sequence[tuple[str | None, Mapping[str, Any]]], keys: Sequence[bytes], config: Mapping[str, Any]
) -> dict[str, NDArray[np.int64]]:
    """Each structure's split: kept out by its group, or given by its file, or drawn by its content.

    The draw depends on the structure and the seed alone, so data that are added move nothing, and a structure that is
    there twice is drawn to one side. A split that has a file of its own gets nothing from the draw.

    Args:
        rows: for each structure the split that its file stands for, if any, and its key-value pairs.
        keys: the structures' content keys.
        config: the `database` section: `files`, `group` and `split`.

    Returns:
        The splits that are not empty; one that was asked for and came out empty is a ValueError.
    """
    split, group = dict(config["split"]), config.get("group")
    held_out = [str(value) for value in split.get("held_out") or ()]
    shares = _shares(split, list(dict(config.get("files") or {})))
    groups = [None if group is None or group not in info else str(info[group]) for _, info in rows]
    _check_groups(group, groups, held_out)
    members: dict[str, list[int]] = {name: [] for name in SPLITS}
    for at, (given, _) in enumerate(rows):
        if groups[at] in held_out:
            members["held_out"].append(at)
        elif given not in (None, "train"):
            members[str(given)].append(at)
        else:
            drawn = _draw(keys[at], int(split.get("seed") or 0))
            name = "test" if drawn < shares["test"] else "valid" if drawn < sum(shares.values()) else "train"
            members[name].append(at)
    purposes = {"train": "train", "valid": "validate"} | ({"test": "test"} if shares["test"] > 0 else {})
    for name, purpose in purposes.items():
        if not members[name]:
            key = "valid or .test" if name == "train" else name
            raise ValueError(
                f"The split leaves nothing to {purpose} on: 0 of {len(rows)} structures are in {name!r}. Change "
                f"database.split.{key} or .seed (shares are now {shares}), or add structures."
            )
    return {name: np.array(chosen, dtype=np.int64) for name, chosen in members.items() if chosen}


def _shares(split: Mapping[str, Any], files: Sequence[str]) -> dict[str, float]:
    for name in files:
        if name not in SPLITS:
            near = get_close_matches(name, SPLITS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(SPLITS)}."
            raise ValueError(f"database.files names the split {name!r}, which is none. {hint}")
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


def _check_groups(group: str | None, groups: Sequence[str | None], held_out: Sequence[str]) -> None:
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


def _draw(key: bytes, seed: int) -> float:
    hashed = hashlib.sha256(f"split {seed}\n".encode() + key).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64
