"""How the compiled part is compiled, and kept from one process to the next."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.caching import NullCache

logger = logging.getLogger(__name__)

compiled: Any = numba.njit(nogil=True, _nrt=False)
"""For functions that compiled functions call. No fast arithmetic: no operation is fused, left out or reordered.

They make no arrays and give none back, and so need not count who refers to those they are given: counting, which
threads may do at the same time, took most of the time of small structures.
"""

inlined: Any = numba.njit(nogil=True, forceinline=True, _nrt=False)
"""The same for what is called for every structure or atom: handing over some arrays costs as much as a row of pairs."""

making: Any = numba.njit(nogil=True)
"""For functions that make arrays, and are called where counting references costs nothing."""


def sources() -> int:
    """A number that changes with every character of this folder's files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "little")


class _Teller(event.Listener):  # type: ignore[misc]  # numba has no types
    """Tells, once, when what takes long to compile has to be compiled, so that nobody thinks its work did."""

    def __init__(self) -> None:
        self.told: dict[Any, str] = {}

    def on_start(self, event: Any) -> None:
        """A function is compiled: it was not found among those that are kept."""
        what = self.told.pop(event.data["dispatcher"], None)
        if what is not None:
            logger.info("compiling %s", what)

    def on_end(self, event: Any) -> None:
        """It is compiled."""


_teller = _Teller()
event.register("numba:compile", _teller)


def kept(make: Callable[[int], Callable[..., Any]], slow: str = "") -> Any:
    """Compile what `make` gives, and keep the machine code on disk where a folder can be written.

    slow: a name for what takes so long to compile that people should be told.

    numba knows machine code again by the function's own file and the values that it closes over, not by the files of
    what it calls. So `make` takes the number of all sources, and its function closes over it.
    """
    function = make(sources())
    try:
        dispatcher, often = numba.njit(nogil=True, cache=True)(function), "once, for it is kept"
    except RuntimeError:  # neither beside this file nor in the user's cache folder can be written
        dispatcher, often = numba.njit(nogil=True)(function), "in every process, for no folder takes it"
    if slow:
        _teller.told[dispatcher] = f"{slow} for this processor: half a minute, {often}"
    return stoppable(dispatcher)


def stoppable(dispatcher: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose caller is told by a KeyboardInterrupt when Ctrl-C is pressed while it runs.

    Python handles the signal while numba boxes the results, and numba makes a SystemError of any exception then. That
    machine code can no longer be kept, on a disk that is full or in another user's folder, is no reason not to run it.
    """

    def call(*arguments: Any) -> Any:
        try:
            try:
                return dispatcher(*arguments)
            except OSError as error:
                logger.info("machine code is not kept for the next process: %s", error)
                dispatcher._cache = NullCache()  # type: ignore[attr-defined]
                return dispatcher(*arguments)
        except SystemError as error:
            reason = _not_an_error(error)
            if reason is None:
                raise
        raise reason  # here, where it is not raised while another is handled: they would refer to each other

    call.__wrapped__ = dispatcher  # type: ignore[attr-defined]
    return call


def _not_an_error(error: BaseException) -> BaseException | None:
    """What asks to stop, a KeyboardInterrupt or SystemExit, among the reasons of an error."""
    reason: BaseException | None = error
    while isinstance(reason, Exception):
        reason = reason.__cause__ or reason.__context__
    return reason
