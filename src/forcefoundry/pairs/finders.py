"""The pair finders that there are: a finder is a file of this room with a class NAMEFinder."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches

import forcefoundry.pairs
from forcefoundry.pairs.contract import Finder

_SUFFIX = "Finder"


def known_finders() -> list[str]:
    """The names of the finders: the modules of this room that define one."""
    modules = [info.name for info in pkgutil.iter_modules(forcefoundry.pairs.__path__)]
    return [name for name in modules if _class_in(name) is not None]


def make_finder(name: str, device: str = "cpu") -> Finder:
    """The finder of that name, working on a device; an unknown name is a ValueError that says the nearest."""
    found = _class_in(name) if name.isidentifier() else None
    if found is None:
        known = known_finders()
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
        raise ValueError(f"pairs.finder is {name!r}, which is not known. {hint}")
    finder: Finder = found(device)
    return finder


def _class_in(name: str) -> type | None:
    module_name = f"{forcefoundry.pairs.__name__}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError:
        return None
    found: list[type] = [
        value
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module_name and key.endswith(_SUFFIX) and key != _SUFFIX
    ]
    return found[0] if found else None
