"""Memory that is used again: to be given new pages takes longer than to write to them."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST, SMALLEST = 5 * 2**23, 2**17
"""Bytes. What is larger is not kept when it is done with; blocks that are smaller are not worth keeping."""

_blocks: deque[NDArray[np.uint8]] = deque(maxlen=2)
_rooms: deque[Room] = deque(maxlen=4)


class Room:
    """What one thread works in: arrays that grow with the structures and are handed on from call to call."""

    def __init__(self) -> None:
        self.arrays: tuple[NDArray[Any], ...] = (
            np.empty(0, np.float64),
            np.empty(0, np.int64),
            np.empty(0, np.float32),
            np.empty(0, np.uint32),
            np.empty(1024, np.uint32),
            np.empty((16, 4), np.int32),
        )

    def n_bytes(self) -> int:
        """What it holds."""
        return sum(array.nbytes for array in self.arrays)


@contextmanager
def rooms(number: int) -> Iterator[list[Room]]:
    """That many rooms, for the caller alone as long as this lasts. After an error nobody is given them again."""
    taken = [_taken(_rooms) or Room() for _ in range(number)]
    yield taken
    # The last first: so each thread gets what is in its own core's memory at the next call.
    _rooms.extend(room for room in reversed(taken) if room.n_bytes() <= LARGEST)


def block(n: int) -> NDArray[np.int64]:
    """n numbers that hold anything. Their memory is used again when neither they nor any view of them is left."""
    if not SMALLEST <= 8 * n <= LARGEST:
        return np.empty(n, np.int64)
    memory = _block_for(8 * n)
    if memory is None:
        memory = np.empty(9 * n, np.uint8)
    # Views of views of `memory` would refer to it directly. To those of a buffer `whole` is the end of the chain: it
    # dies when the last of them does.
    whole = np.frombuffer(memoryview(memory), np.int64, n)
    weakref.finalize(whole, _blocks.append, memory).atexit = False
    return whole


def _block_for(n_bytes: int) -> Any:
    """A block that is kept and large enough, if there is one, and not too good for this.

    Small lists that are kept for long must not hold on to large blocks.
    """
    for _ in range(len(_blocks)):
        memory = _taken(_blocks)
        if memory is None:  # another thread was faster
            break
        if n_bytes <= memory.nbytes <= 2 * n_bytes:
            return memory
        _blocks.appendleft(memory)
    return None


def _taken(kept: deque[Any]) -> Any:
    try:
        return kept.pop()
    except IndexError:
        return None
