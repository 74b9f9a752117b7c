"""The pair finders that there are: one is a file of this room with a class NAMEFinder; auto is the best of them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from difflib import get_close_matches
from importlib.resources import files

import forcefoundry.pairs
from forcefoundry.pairs.contract import Finder

AUTO = "auto"
"""gpu where the work is done on CUDA and Triton is installed, else cpu."""


def known_finders() -> list[str]:
    """The names of the finders: auto, and the files of this room that define one. None of them is imported for that."""
    names = [path.name.removesuffix(".py") for path in files(forcefoundry.pairs).iterdir() if path.name.endswith(".py")]
    return [AUTO, *sorted(name for name in names if _class_in(name) is not None)]


def make_finder(name: str, device: str = "cpu", threads: int = 1) -> Finder:
    """The finder of that name.

    Args:
        name: one of `known_finders`.
        device: where the caller works, "cpu" or "cuda". A finder may work elsewhere: what it finds are numpy arrays.
        threads: how many threads it may take.

    Raises:
        ValueError: for a name that is not known, with the nearest, and for a finder that cannot work here.
    """
    if name == AUTO:
        name = "gpu" if device.startswith("cuda") and importlib.util.find_spec("triton") is not None else "cpu"
    found = _class_in(name) if name.isidentifier() else None
    if found is None:
        known = known_finders()
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
        raise ValueError(f"pairs.finder is {name!r}, which is not known. {hint}")
    try:
        module = importlib.import_module(f"{forcefoundry.pairs.__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(f"The finder {name!r} needs {error.name}, which is not installed. Set pairs=auto.") from error
    finder: Finder = getattr(module, found)(device=device, threads=threads)
    return finder


def _class_in(name: str) -> str | None:
    """The name of the class in that file of this room, by its text: some files import what takes seconds."""
    path = files(forcefoundry.pairs) / f"{name}.py"
    found = (
        re.search(r"^class (\w+Finder)\b", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    )
    return found[1] if found else None
