"""The comment of an extended XYZ frame: a parser of the plain writing, ASE's own, and what atoms with places need."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import numpy as np

from forcefoundry.databases.formats._build import is_skew

_ITEM = re.compile(r"""([\w.:+-]+)(?:=(?:"([^"\\]+)"|([^\s"'{}\[\]=\\]+)))?(?!\S)|(\S)""")
"""A key, its value with quotes or without, or a sign of something else."""

_NUMERIC = re.compile(r"[-+\d.eE\s]+$")
_WORD = re.compile(r"(?!nan|inf)[a-z]|.*[^-+\d.e_naityf]", re.IGNORECASE)
"""The beginning of what is no number in any writing that Python knows."""

_BOOLS = {"T": True, "true": True, "True": True, "TRUE": True, "F": False, "false": False, "False": False}
_BOOLS["FALSE"] = False
_MATRICES = ("Lattice", "virial", "stress")

_PROPERTIES = re.compile(r"(?:^|\s)Properties=([\w:.-]+)(?=\s|$)", re.ASCII)


class UnsureError(Exception):
    """Not written in the plain way: for ASE's reader."""


def plain_info(line: str) -> dict[str, Any]:
    """What ASE's parser makes of a comment of keys, numbers, words and quoted lists of them, several times faster.

    Raises:
        Exception: UnsureError, or another, where ASE's own parser must look.
    """
    info: dict[str, Any] = {}
    if not line.isascii():  # which the patterns of the plain writing rely on
        raise UnsureError
    for key, quoted, bare, other in _ITEM.findall(line):
        if other or key.lower() == "uid":
            raise UnsureError
        info[key] = _value(quoted or bare or "T", key in _MATRICES)
    return info


def _value(text: str, matrix: bool) -> Any:
    plain = text.replace(",", " ")
    value: Any = text
    parts = plain.split()
    if _NUMERIC.match(plain):
        value = _numbers(parts, "." in plain)
    elif not any(map(_WORD.match, parts)):
        raise UnsureError  # nan, perhaps
    if matrix:
        return value.reshape((3, 3), order="F")
    if value is not text:
        return value[0] if len(parts) == 1 else value
    if text.startswith("_JSON "):
        held = json.loads(text.replace("_JSON ", "", 1))
        value = np.array(held)
        return value if value.dtype.kind in "ifb" else held
    if all(part in _BOOLS for part in parts):
        return _BOOLS[parts[0]] if len(parts) == 1 else [_BOOLS[part] for part in parts]
    return text


def _numbers(parts: list[str], floats: bool) -> np.ndarray:
    if not parts:
        raise UnsureError
    if not floats:
        try:
            return np.array(list(map(int, parts)), dtype=int)
        except (ValueError, OverflowError):
            pass
    return np.array(list(map(float, parts)), dtype=float)


class Comment:
    """Parses a comment as ASE does, and keeps how many columns `Properties` names (None: it is not there)."""

    columns: int | None = None

    def __call__(self, line: str) -> dict[str, Any]:
        from ase.io.extxyz import key_val_str_to_dict

        # ASE's parser takes one sign after another; what is the same in all frames is half of the comment.
        found = _PROPERTIES.search(line)
        if found and _is_plain(line, found.start()):
            rest = line[: found.start()] + line[found.end() :]
            info: dict[str, Any] = key_val_str_to_dict(rest) if rest.strip() else {}
            info["Properties"] = found[1]
        else:
            info = key_val_str_to_dict(line)
        if "Properties" in info:
            self.columns = columns_of(str(info["Properties"]))
        stress = info.get("stress")
        if isinstance(stress, np.ndarray) and stress.shape == (3, 3) and is_skew(stress):
            info["stress"] = stress.reshape(9)  # which ASE's reader leaves as it is
        return info


def _is_plain(line: str, at: int) -> bool:
    # Not within a quoted text, and the only one.
    return (
        not any(sign in line for sign in "\\'{[") and line.count('"', 0, at) % 2 == 0 and line.count("Properties") == 1
    )


@lru_cache(maxsize=64)
def columns_of(properties: str) -> int:
    """How many columns `Properties` names. ASE would put all atoms at 0 where there are no positions."""
    fields = properties.split(":")
    named = dict(zip(fields[::3], zip(fields[1::3], fields[2::3], strict=False), strict=False))
    if len(fields) % 3 or len(named) != len(fields) // 3:
        raise ValueError(f"Properties={properties} is no list of name:type:columns, each named once")
    numbers, texts = (("R", "1"), ("I", "1")), (("S", "1"),)
    places = any(named.get(name) in (("R", "3"), ("I", "3")) for name in ("pos", "positions"))
    species = any(named.get(name) in texts for name in ("species", "symbols"))
    species = species or any(named.get(name) in numbers for name in ("Z", "numbers"))
    if not (places and species):
        raise ValueError(f"Properties={properties} names no species:S:1 and pos:R:3")
    return sum(int(columns) for _, columns in named.values())
