"""Which structures come in which batch: so many at most, and no more atoms or pairs together than a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from forcefoundry.pairs.contract import Ints

TOGETHER, MOST_TOGETHER = 2**24, 128
"""Bytes, and batches, that are packed at once: more gains nothing, and has to be waited for and held."""


@dataclass(frozen=True)
class Budget:
    """How much a batch may hold of what structures have more or less of.

    what: its name, for people. most: so much in a batch at most. sizes: (n,) how much each structure of the database
    has.
    """

    what: str
    most: int
    sizes: Ints


def in_order(structures: Ints, batch_size: int, budgets: Sequence[Budget] = ()) -> list[Ints]:
    """Batches of the structures as they stand.

    A batch is closed before the structure with which it would exceed `batch_size` structures or a budget. A structure
    that exceeds a budget alone is a batch of its own.
    """
    if batch_size < 1:
        raise ValueError(f"The batch size is {batch_size}, expected at least 1 structure.")
    running = [np.concatenate([[0], np.cumsum(budget.sizes[structures])]) for budget in budgets]
    batches = []
    start = 0
    while start < len(structures):
        stop = min(start + batch_size, len(structures))
        for budget, total in zip(budgets, running, strict=True):
            stop = min(stop, int(np.searchsorted(total, total[start] + budget.most, side="right")) - 1)
        stop = max(stop, start + 1)
        batches.append(structures[start:stop])
        start = stop
    return batches


def groups(batches: Iterable[Ints], n_bytes: Callable[[Sequence[Ints]], int], largest: int) -> Iterator[list[Ints]]:
    """The batches in their order, put together as far as it is worth packing them together.

    A group ends with the batch with which it has `TOGETHER` bytes. No batch is asked for before its group is, and an
    error of `batches` comes after the group before it.

    Args:
        batches: the structures of each.
        n_bytes: how much memory some batches take.
        largest: how much the largest structure takes: small batches need not be measured one by one.
    """
    coming = iter(batches)
    while True:
        group: list[Ints] = []
        measured, held, at_most = 0, 0, 0
        try:
            while at_most < TOGETHER and len(group) < MOST_TOGETHER:
                group.append(np.array(next(coming)))  # a copy: who names them may use the same array again
                at_most += len(group[-1]) * largest
                if at_most >= TOGETHER:
                    held += n_bytes(group[measured:])
                    measured, at_most = len(group), held
        except Exception as error:
            if group:
                yield group
            if isinstance(error, StopIteration):
                return
            raise
        yield group


class Sampler:
    """The shuffled batches of a training run, epoch by epoch.

    The order of an epoch is a function of (seed, epoch) alone, and where its batches are cut of that order, the batch
    size and the budgets. So an epoch that is gone on with at some batch has the same batches as one that was not left.

    Args:
        structures: what is trained on, as indices into the database.
        batch_size: structures in a batch at most.
        seed: of the order.
        budgets: what a batch may hold beside.
    """

    def __init__(self, structures: Ints, batch_size: int, seed: int, budgets: Sequence[Budget] = ()):
        self.structures, self.batch_size, self.seed, self.budgets = structures, batch_size, seed, tuple(budgets)

    def epoch(self, number: int, start: int = 0) -> list[Ints]:
        """The batches of an epoch, from batch `start` on."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.structures))
        batches = in_order(self.structures[order], self.batch_size, self.budgets)
        if not 0 <= start <= len(batches):
            raise ValueError(f"Epoch {number} has {len(batches)} batches, got {start} as the one to start from.")
        return batches[start:]

    def n_batches(self, epoch: int) -> int:
        """How many batches an epoch has; with budgets that may differ from epoch to epoch."""
        return len(self.epoch(epoch))
