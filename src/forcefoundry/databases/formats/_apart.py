"""Reading in a process of its own: what libraries in C do with a damaged file, crash or stand still, ends there.

A damaged HDF5 or LMDB file can make its library read outside its memory. The process that does so is ended by the
system; here it is the reader's, and the person gets an error that names the file.
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STILL = 600.0
"""Seconds without a word after which a reader counts as stuck; slow disks and networks stay far below."""

_CHILD = "import sys; from forcefoundry.databases.formats._apart import serve; serve(sys.argv[1], sys.argv[2])"
_LENGTH = 8  # bytes before each message


def read_apart(module: str, path: Path) -> Iterator[Any]:
    """What `pieces(path)` of a module yields, one after another; only the piece at hand is in memory.

    Raises:
        ValueError, OSError: what the module raised, or that its process crashed or stood still.
    """
    search = os.pathsep.join(part for part in sys.path if part)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, module, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert child.stdout is not None
    try:
        while True:
            head = _received(child.stdout.fileno(), _LENGTH, path)
            body = None if head is None else _received(child.stdout.fileno(), int.from_bytes(head, "little"), path)
            if body is None:
                raise ValueError(f"{path}: {_end(child.wait())}. The file is damaged: get it anew.")
            kind, what = pickle.loads(body)
            if kind == "end":
                return
            if kind == "error":
                told = what[1] if str(path) in what[1] else f"{path}: {what[1]}"
                raise (OSError if what[0] else ValueError)(told)
            yield what
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def serve(module: str, path: str) -> None:
    """The child's whole life: send the pieces, then that it was all, or what went wrong."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between

    def send(kind: str, what: Any) -> None:
        body = pickle.dumps((kind, what), protocol=5)
        out.write(len(body).to_bytes(_LENGTH, "little"))
        out.write(body)
        out.flush()

    try:
        for piece in importlib.import_module(module).pieces(Path(path)):
            send("piece", piece)
    except BrokenPipeError:
        return  # nobody listens any more
    except Exception as error:
        send("error", (isinstance(error, OSError), str(error)))
    else:
        send("end", None)


def _received(pipe: int, length: int, path: Path) -> bytes | None:
    # None when the sender has gone before sending it all
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    got = bytearray()
    while len(got) < length:
        if not waiting.poll(STILL * 1000):
            raise ValueError(
                f"{path}: its reader has stood still for {STILL:.0f} s. The file is damaged, or its disk does not "
                "answer."
            )
        part = os.read(pipe, min(length - len(got), 1 << 20))
        if not part:
            return None
        got += part
    return bytes(got)


def _end(code: int) -> str:
    if code >= 0:
        return f"its reader ended with exit code {code}"
    return f"its reader was ended by {signal.Signals(-code).name}" + (
        " (often: out of memory)" if code == -signal.SIGKILL else ""
    )
