"""Plain configuration -> a checked dataclass: unknown, missing and impossible values are each one clear line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def at_least(least: float) -> Any:
    """A dataclass field for a number that must not be smaller than `least`."""
    return field(metadata={"least": least})


def filled(cls: type[T], config: Mapping[str, Any], section: str) -> T:
    """Build the dataclass `cls` from `config`, which stands at `section` of the parameters.

    ValueError for a key that is unknown or missing, or a value of the wrong kind or too small.
    """
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]  # mypy knows T as any class
    for key in config:
        if key not in known:
            raise ValueError(f"{section} has no key {key!r}{nearest(key, known)} Its keys are {', '.join(known)}.")
    missing = [key for key in known if key not in config]
    if missing:
        raise ValueError(f"{section} lacks {', '.join(missing)}. conf/database/ shows the usual values.")
    kinds = get_type_hints(cls)
    values = {key: _checked(f"{section}.{key}", config[key], kinds[key], known[key].metadata["least"]) for key in known}
    return cls(**values)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: ". Did you mean 'x'?" if one is near, else "."."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else "."


def _checked(key: str, value: Any, kind: Any, least: float) -> float | int | None:
    optional, whole = kind == int | None, kind in (int, int | None)
    if optional and value is None:
        return None
    wanted = f"{'a whole number' if whole else 'a number'} of at least {least:g}{', or null' if optional else ''}"
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or value < least:
        raise ValueError(f"{key} is {value!r}, expected {wanted}. Change it in the configuration.")
    return int(value) if whole else float(value)
