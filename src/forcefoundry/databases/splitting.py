"""Which structure is trained on, which steers training, which judges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.split_settings import SPLITS, SplitSettings, check_groups, shown, split_name

__all__ = ["SPLITS", "Assignment", "assign", "split_digest", "split_rows"]


@dataclass(frozen=True)
class Assignment:
    """Where each structure went.

    Attributes:
        names: the splits: train, valid, test, held_out.
        codes: (n,) the number of each structure's split among them, -1 for those that bridge two.
        bridging: the structures that are set apart (check `bridges_splits`), ascending: near duplicates of some in
            two splits, so that in either they would be known already to the other.
        report: plain JSON: `counts` by split, `groups` by group's value and split, `digests` by split (what
            database.split.frozen takes), `followed`, how many went where a near duplicate was drawn to, `bridging`.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    bridging: NDArray[np.int64]
    report: Mapping[str, Any]


def assign(
    keys: NDArray[np.uint8],
    groups: Sequence[str | None],
    given: Sequence[str | None],
    config: Mapping[str, Any],
    near: NDArray[np.int64] | None = None,
) -> Assignment:
    """Each structure's split: kept out by its group, or given by its file or column, or drawn.

    The draw depends on the structure (or its group) and the seed alone. A near duplicate of structures before it goes
    where the first of them was drawn to, so data that are added behind those there move none of them. A split that
    has a file of its own gets nothing from the draw. Groups are kept whole with `by: group`.

    Args:
        keys: (n, 32) the structures' content keys, in the order of the rows. Rows of isolated atoms are not among them.
        groups: (n,) the value of the key `database.group` of each, None for none.
        given: (n,) the official split: that of the file, or the value of `database.split.column`; None for none.
        config: the `database` section: `files`, `group` and `split`.
        near: (m, 2) pairs of near duplicates: a structure and one before it, as `near_duplicates(...).pairs`.

    Raises:
        ValueError: for a split that was asked for and came out empty, a frozen split that changed, and settings that
            do not fit each other or the data.
    """
    settings = SplitSettings.of(config)
    check_groups(settings, groups)
    codes = np.full(len(keys), -1, dtype=np.int64)
    drawn = np.zeros(len(keys), dtype=bool)
    for at, official in enumerate(given):
        name = None if official is None else split_name(official, settings.column)
        if groups[at] is not None and groups[at] in settings.held_out:
            codes[at] = SPLITS.index("held_out")
        elif name not in (None, "train"):
            codes[at] = SPLITS.index(str(name))
        else:
            drawn[at] = True
    rows = np.flatnonzero(drawn)
    codes[rows] = _draw((_drawn_by(settings, keys[at], groups[at]) for at in rows.tolist()), settings)
    settings.check_column([SPLITS[code] for code in np.unique(codes[~drawn])])
    followed, bridging = _follow(codes, drawn, near, settings.by == "group")
    codes[bridging] = -1
    _check_filled(codes, settings)
    digests = {name: split_digest(keys[codes == code]) for code, name in enumerate(SPLITS) if (codes == code).any()}
    _check_frozen(digests, codes, settings)
    report = _report(codes, groups) | {"digests": digests, "followed": followed, "bridging": len(bridging)}
    return Assignment(SPLITS, codes, bridging, report)


def split_rows(
    rows: Sequence[tuple[str | None, Mapping[str, Any]]], keys: Sequence[bytes], config: Mapping[str, Any]
) -> dict[str, NDArray[np.int64]]:
    """The splits that are not empty, as `assign` gives them without looking for near duplicates.

    Args:
        rows: for each structure the split that its file stands for, if any, and its key-value pairs.
        keys: the structures' content keys.
        config: the `database` section: `files`, `group` and `split`.
    """
    group, column = config.get("group"), dict(config["split"]).get("column")
    groups = [None if group is None or group not in info else str(info[group]) for _, info in rows]
    given = [split if column is None else _told(info.get(column)) for split, info in rows]
    found = assign(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32), groups, given, config)
    members = {name: np.flatnonzero(found.codes == code) for code, name in enumerate(found.names)}
    return {name: chosen for name, chosen in members.items() if len(chosen)}


def split_digest(keys: NDArray[np.uint8]) -> str:
    """The sha256 over the content keys (n, 32) of a split, sorted, each once: the same in any order of its rows."""
    # NumPy takes texts for equal that differ in zeros at their ends alone, which those of one length do not.
    return hashlib.sha256(np.unique(np.ascontiguousarray(keys).view("S32")).tobytes()).hexdigest()


def _drawn_by(settings: SplitSettings, key: NDArray[np.uint8], group: str | None) -> bytes:
    # A row without a group is a group by itself.
    return key.tobytes() if settings.by == "content" or group is None else b"group " + group.encode()


def _draw(what: Iterable[bytes], settings: SplitSettings) -> NDArray[np.int64]:
    head, shares = f"split {settings.seed}\n".encode(), settings.shares
    hashed = b"".join([hashlib.sha256(head + one).digest()[:8] for one in what])
    drawn = np.frombuffer(hashed, dtype=">u8").astype(np.float64) / 2**64
    names = [drawn < shares["test"], drawn < sum(shares.values())]
    return np.select(names, [SPLITS.index("test"), SPLITS.index("valid")], SPLITS.index("train")).astype(np.int64)


def _follow(
    codes: NDArray[np.int64], drawn: NDArray[np.bool_], near: NDArray[np.int64] | None, whole: bool
) -> tuple[int, NDArray[np.int64]]:
    """Put near duplicates, in place, where those before them are; the number moved, and those that bridge two splits.

    With `whole` groups nothing moves: what is nearly a structure of another group in another split bridges the two.
    Those of official splits neither move nor are followed: that they repeat each other is told by a check.
    """
    before: dict[int, list[int]] = {}
    for later, earlier in [] if near is None else np.asarray(near).tolist():
        before.setdefault(max(later, earlier), []).append(min(later, earlier))
    followed, bridging = 0, set()
    for at in sorted(before):
        known = [one for one in sorted(before[at]) if drawn[one] and one not in bridging]
        if not drawn[at] or not known:
            continue
        sides = {int(codes[one]) for one in known} | ({int(codes[at])} if whole else set())
        if len(sides) > 1:
            bridging.add(at)
        elif codes[at] != codes[known[0]]:
            codes[at], followed = codes[known[0]], followed + 1
    return followed, np.array(sorted(bridging), dtype=np.int64)


def _check_filled(codes: NDArray[np.int64], settings: SplitSettings) -> None:
    purposes = {"train": "train", "valid": "validate"} | ({"test": "test"} if settings.shares["test"] > 0 else {})
    for name, purpose in purposes.items():
        if not (codes == SPLITS.index(name)).any():
            key = "valid or .test" if name == "train" else name
            raise ValueError(
                f"The split leaves nothing to {purpose} on: 0 of {len(codes)} structures are in {name!r}. Change "
                f"database.split.{key} or .seed (shares are now {settings.shares}), or add structures."
            )


def _check_frozen(digests: Mapping[str, str], codes: NDArray[np.int64], settings: SplitSettings) -> None:
    """Refuse a frozen split that is another one now.

    The hash alone cannot tell which structures are new, so none is put elsewhere in silence.
    """
    for name, expected in settings.frozen.items():
        found = digests.get(name)
        if found != expected:
            raise ValueError(
                f"The frozen split {name!r} changed: the sha256 over its content keys is {shown(found)}, expected "
                f"{expected}; {(codes == SPLITS.index(name)).sum()} structures are in it now. Take out the structures "
                f"that were added or bring back those that are gone; to add data beside a frozen {name}, give it a "
                f"file of its own in database.files and set database.split.{name}=0; or, if it is meant to change, "
                f"set database.split.frozen.{name}={found or 'null'}: errors before and after are then of two sets."
            )


def _report(codes: NDArray[np.int64], groups: Sequence[str | None]) -> dict[str, Any]:
    by_group: dict[str, dict[str, int]] = {}
    for code, group in zip(codes.tolist(), groups, strict=True):
        if group is not None and code >= 0:
            counted = by_group.setdefault(group, {})
            counted[SPLITS[code]] = counted.get(SPLITS[code], 0) + 1
    counts = {name: int((codes == code).sum()) for code, name in enumerate(SPLITS)}
    return {"counts": {name: count for name, count in counts.items() if count}, "groups": by_group}


def _told(value: Any) -> str | None:
    return None if value is None else str(value)
