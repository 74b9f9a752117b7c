"""What parameters may be called and hold, and how a person is told: plain dictionaries, no tool's types."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

_CUTOFF = "a cutoff is the distance in Å within which atoms see each other"
_ABOVE_ZERO = {
    "pairs.cutoff": _CUTOFF,
    "network.cutoff": _CUTOFF,
    "training.batch_size": "a batch holds at least one structure",
    "training.learning_rate": "a learning rate is the length of a step",
}


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that somebody who typed `word` most likely meant; None if none is near."""
    whole = list(words)
    tails = {one.rpartition(".")[2]: one for one in reversed(whole)}
    close = difflib.get_close_matches(word, whole, n=1, cutoff=0.6)
    tail = difflib.get_close_matches(word.rpartition(".")[2], tails, n=1, cutoff=0.75)
    return close[0] if close else tails[tail[0]] if tail else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The closing sentence of a complaint about an unknown word: the nearest known one, or all of them."""
    whole = list(words)
    near = nearest(word, whole)
    return f"Did you mean {near}?" if near else f"Known are {', '.join(whole)}."


def names(params: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted name in nested dictionaries, sections before what they hold."""
    found = []
    for key, value in params.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += names(value, f"{prefix}{key}.")
    return found


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested parameters as dotted names and texts: plots.0.node, network.cutoff; null, true and lists as JSON."""
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value:
        return {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{name}.{key}" if name else str(key))
    return found


def unknown(name: str, known: Sequence[str], said_by: str = "") -> str:
    """The complaint about a parameter that does not exist; `said_by` tells which file sets it."""
    section = name.rpartition(".")[0]
    near = nearest(name, [one for one in known if one != section])
    if near:
        rest = f"Did you mean {near}?"
    elif section in known:
        inside = [one.removeprefix(f"{section}.") for one in known if one.startswith(f"{section}.")]
        rest = f"{section} has {', '.join(inside)}." if inside else f"{section} is a single value."
    else:
        rest = f"The groups are {', '.join(one for one in known if '.' not in one)}."
    return f"{name} is not a parameter{said_by}. {rest}"


def held_to(shape: Any, given: Any, name: str, added: Set[str], said_by: str) -> Any:
    """`given`, if it has the names and kinds of values of `shape`; whole numbers become floats where floats stand.

    Where `shape` has null, an empty section or a name in `added`, anything may stand; null may stand anywhere, and a
    list of numbers where one number stands.
    """
    if name in added or shape is None or given is None or shape == {} or shape == "???":
        return given
    if isinstance(shape, Mapping):
        if not isinstance(given, Mapping):
            raise ValueError(f"{name} is a section, got {_shown(given)}: give one of its keys as {name}.KEY.")
        return {key: _kept(shape, key, value, name, added, said_by) for key, value in given.items()}
    kind = _kind(shape)
    if isinstance(given, list) and kind in ("a number", "a whole number"):
        return [
            held_to(shape, one, name, added, said_by) for one in given
        ]  # one each, for instance n_features: [40, 20]
    if kind == "a number" and _kind(given) == "a whole number":
        return float(given)
    if kind == "a whole number" and isinstance(given, float) and given.is_integer():
        return int(given)
    if kind == "a word" and _kind(given) in ("a number", "a whole number"):
        return str(given)
    if kind != _kind(given):
        raise ValueError(f"{name} takes {kind}, like {_shown(shape)}; got {_shown(given)}.")
    return given


def check(params: Mapping[str, Any]) -> None:
    """Refuse, in one line, numbers that no part of the line could use."""
    for name, why in _ABOVE_ZERO.items():
        section, key = name.split(".")
        value = (params.get(section) or {}).get(key, 1)
        if _kind(value) not in ("a number", "a whole number") or not 0 < value < math.inf:
            raise ValueError(f"{name} is {_shown(value)}, but {why}: give a number above 0.")
    found_within = (params.get("pairs") or {}).get("cutoff", math.inf)
    seen_within = (params.get("network") or {}).get("cutoff", 0)
    if seen_within > found_within:
        raise ValueError(
            f"network.cutoff is {seen_within} Å, but pairs are found within pairs.cutoff = {found_within} Å only: "
            f"give pairs.cutoff={seen_within}; the network follows it."
        )


def _kept(shape: Mapping[str, Any], key: str, value: Any, section: str, added: Set[str], said_by: str) -> Any:
    name = f"{section}.{key}" if section else key
    if key in shape:
        return held_to(shape[key], value, name, added, said_by)
    if name in added or any(one.startswith(f"{name}.") for one in added):
        return value
    raise ValueError(unknown(name, names(shape, f"{section}." if section else ""), said_by))


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list"}
    return kinds.get(type(value), "a section")


def _shown(value: Any) -> str:
    # As one would type it: null, true, [a, b].
    if isinstance(value, list):
        return "[" + ", ".join(_shown(one) for one in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
