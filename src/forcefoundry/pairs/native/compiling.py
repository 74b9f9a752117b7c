"""How the compiled part is compiled, and kept from one process to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

compiled: Any = numba.njit(nogil=True)
"""For functions that compiled functions call. No fast arithmetic: no operation is fused, left out or reordered."""

inlined: Any = numba.njit(nogil=True, forceinline=True)
"""The same for what is called for every structure or atom: handing over some arrays costs as much as a row of pairs."""


def sources() -> int:
    """A number that changes with every character of this folder's files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "little")


def kept(make: Callable[[int], Callable[..., Any]]) -> Any:
    """Compile what `make` gives, and keep the machine code on disk where a folder can be written.

    numba knows machine code again by the function's own file and the values that it closes over, not by the files of
    what it calls. So `make` takes the number of all sources, and its function closes over it.
    """
    function = make(sources())
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache folder can be written
        return numba.njit(nogil=True)(function)
