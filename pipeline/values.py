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
_AT_LEAST = {
    "training.seed": 0,
    "training.max_atoms": 1,
    "training.max_pairs": 1,
    "database.split.seed": 0,
    "hardware.threads": 1,
    "hardware.processes": 1,
    "hardware.workers": 0,
}
_NOT_EMPTY = {
    "database.path": "the file or folder of the structures, for instance /data/my_dft.db",
    "tracking.experiment": "the name under which MLflow keeps the runs, for instance forcefoundry",
}

# What stands where conf/ has null or ???, to tell its kind by.
_LIKE: Mapping[str, Any] = {
    "database.path": "/data/my_dft.db",
    "database.files": {},
    "database.group": "name",
    "database.split.column": "split",
    "database.split.frozen": {},
    "database.schema.species": ["H"],
    "database.schema.ranges": {},
    "database.label": {},
    "database.label.max_molecules": 10,
    "network.species": [1, 8],
    "network.n_inner": 20,
    "training.max_atoms": 2000,
    "training.max_pairs": 100000,
    "training.gradient_clip": 10.0,
    "training.early_stopping.patience": 20,
    "training.averaging": {},
    "training.averaging.decay": 0.99,
    "tracking.run_name": "first",
    "hardware.processes": 2,
}
_NUMBERS = ("a number", "a whole number")
_KEYS = "database.keys."  # property -> its key in the rows, or null
_WORDS = (_KEYS, "database.units.", "database.signs.")  # what is a word or null, whatever its name
_ONE_EACH = {"network.n_features", "network.n_inner"}  # one number for each block, or one for all


def may_be_null(name: str) -> bool:
    """Whether null says something for this parameter (none, all, found by convention), whatever stands in conf/."""
    return name in _LIKE.keys() - {"database.path"} or name.startswith(_WORDS)


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

    Names in `added` need not be in `shape`. Null may stand where `shape` has null and where null says something
    (`may_be_null`); a list where one stands, and where a network takes one number for each of its blocks.
    """
    if given == "???":
        return given
    if given is None and (shape is None or may_be_null(name)):
        return None
    if shape is None or shape == "???":
        shape = "energy" if name.startswith(_WORDS) else _LIKE.get(name)
        if shape is None:
            return given
    if name.endswith(".cutoff") and type(shape) is int:
        shape = float(shape)  # somebody's own file says 5 and means Å
    if isinstance(shape, Mapping):
        if not isinstance(given, Mapping):
            raise ValueError(f"{name} is a section, got {_shown(given)}: give one of its keys as {name}.KEY.")
        return {key: _kept(shape, key, value, name, added, said_by) for key, value in given.items()} if shape else given
    kind = _kind(shape)
    if isinstance(given, list) and name in _ONE_EACH and given:
        return [_of_kind(shape, one, name) for one in given]
    if kind == "a word" and _kind(given) in _NUMBERS:
        return str(given)
    return _of_kind(shape, given, name)


def check(params: Mapping[str, Any]) -> None:
    """Refuse, in one line, what no part of the line could use."""
    for name, why in _ABOVE_ZERO.items():
        value = _found(params, name, 1)
        if _kind(value) not in _NUMBERS or not 0 < value < math.inf:
            raise ValueError(f"{name} is {_shown(value)}, but {why}: give a number above 0.")
    for name, least in _AT_LEAST.items():
        value = _found(params, name, least)
        if (value is not None or not may_be_null(name)) and (_kind(value) != "a whole number" or value < least):
            raise ValueError(f"{name} is {_shown(value)}, expected a whole number of {least} or more.")
    for name, what in _NOT_EMPTY.items():
        value = _found(params, name, "given")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} is {_shown(value) or 'empty'}, expected {what}: give {name}=...")
    path = _found(params, "database.path", "")
    if path.startswith("~"):
        raise ValueError(f"database.path is {path}, and nothing here knows the home folder ~: write the whole path.")
    _check_species(_found(params, "network.species", None))
    seen, found = _found(params, "network.cutoff", None), _found(params, "pairs.cutoff", None)
    if None not in (seen, found) and seen != found:
        raise ValueError(
            f"network.cutoff is {seen} Å, but pairs.cutoff is {found} Å, and the two are one: "
            f"set pairs.cutoff={seen}; the network follows it."
        )


def _check_species(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, list) or not given or any(type(one) is not int or not 1 <= one <= 118 for one in given):
        raise ValueError(
            f"network.species is {_shown(given)}, expected atomic numbers and not symbols: for H and O "
            "give network.species=[1,8], or null for those that the database holds."
        )


def common(shapes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys of several sections together, each with what stands there first, or null if null stands anywhere."""
    keys = {key: [shape[key] for shape in shapes if key in shape] for shape in shapes for key in shape}
    return {
        key: None if None in values else common(values) if isinstance(values[0], Mapping) else values[0]
        for key, values in keys.items()
    }


def missing(shapes: Sequence[Mapping[str, Any]], given: Mapping[str, Any], section: str) -> str | None:
    """The first dotted name, `section` included, that all `shapes` have and `given` lacks."""
    for key in shapes[0]:
        name = f"{section}.{key}"
        if any(key not in shape for shape in shapes) or name.startswith(_WORDS):
            continue
        if key not in given:
            return name
        inner = [shape[key] for shape in shapes]
        if all(isinstance(one, Mapping) for one in inner) and isinstance(given[key], Mapping):
            found = missing(inner, given[key], name)
            if found:
                return found
    return None


def _found(params: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    value: Any = params
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return otherwise
        value = value[key]
    return value


def _of_kind(shape: Any, given: Any, name: str) -> Any:
    # `given` if it is of the kind of `shape`; numbers as the kind that stands there
    kind = _kind(shape)
    if kind == "a number" and _kind(given) == "a whole number":
        return float(given)
    if kind == "a whole number" and isinstance(given, float) and given.is_integer():
        return int(given)
    if kind != _kind(given):
        raise ValueError(f"{name} takes {kind}, like {_shown(shape)}; got {_shown(given)}.")
    return given


def _kept(shape: Mapping[str, Any], key: str, value: Any, section: str, added: Set[str], said_by: str) -> Any:
    name = f"{section}.{key}" if section else key
    if key in shape:
        return held_to(shape[key], value, name, added, said_by)
    if any(name == one or one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in added):
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
