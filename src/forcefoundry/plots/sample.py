"""A bounded, even sample of a stream of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class EvenSample:
    """Keeps every k-th row of a stream; k doubles whenever more than `most` rows would be held.

    So memory is bounded, the sample is spread over the whole stream, and it is the same in every run.
    """

    def __init__(self, width: int, most: int = 20_000):
        self._most = most
        self._width = width
        self._stride = 1
        self._seen = 0
        self._rows: NDArray[np.float64] = np.zeros((0, width))

    def add(self, rows: NDArray[np.float64]) -> None:
        """Offer rows (n, width)."""
        first = -self._seen % self._stride
        self._rows = np.concatenate([self._rows, rows[first :: self._stride]])
        self._seen += len(rows)
        while len(self._rows) > self._most:
            self._rows = self._rows[::2]
            self._stride *= 2

    @property
    def rows(self) -> NDArray[np.float64]:
        """What was kept, (m, width)."""
        return self._rows
