"""Errors with a place: whatever a library raises becomes words that say where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told(where: str, what: str) -> Iterator[None]:
    """Make whatever is raised inside a ValueError `where: what (the reason).`

    Damaged files make libraries raise whatever they stumble over. What the system refuses (a missing file, no
    permission, a full disk) stays what it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        raise ValueError(f"{where}: {what} ({words(error)}).") from error


def words(error: BaseException) -> str:
    """An error in one line, without its closing stop; one that says nothing says what it is."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if isinstance(error, KeyError) or not text else text
