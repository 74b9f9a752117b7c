"""Which structures come in which batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from forcefoundry.pairs.contract import Ints


def in_order(structures: Ints, batch_size: int) -> Iterator[Ints]:
    """Batches of the structures as they stand; the last may be smaller."""
    for start in range(0, len(structures), batch_size):
        yield structures[start : start + batch_size]


def shuffled(structures: Ints, batch_size: int, seed: int, epoch: int) -> Iterator[Ints]:
    """Batches in an order that is a function of (seed, epoch) alone, so that a resumed run meets the same ones."""
    order = np.random.default_rng([seed, epoch]).permutation(len(structures))
    yield from in_order(structures[order], batch_size)
