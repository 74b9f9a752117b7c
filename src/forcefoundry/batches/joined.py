"""Several batches in one block of memory a column: to make a tensor takes as long as to write some hundred pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

Batch = dict[str, torch.Tensor]

ALIGNED = 8
"""Rows. Where a batch begins at a multiple of it, that of a column of float64 lies at a multiple of 64 bytes, as if it
were alone: libraries may round otherwise elsewhere, and no bit may depend on what is packed together."""


@dataclass(frozen=True)
class Joined:
    """The columns of some batches, the rows of one behind those of the other.

    columns: the blocks. lengths: for each, the rows of every batch; or these and, between them, the rows that are left
    out. number: how many batches.
    """

    columns: dict[str, torch.Tensor]
    lengths: dict[str, list[int]]
    number: int

    def pinned(self) -> Joined:
        """The same in memory that a device can read by itself."""
        return replace(self, columns={name: block.pin_memory() for name, block in self.columns.items()})

    def on(self, device: torch.device) -> Joined:
        """The same on a device; asynchronously, where the memory here is pinned."""
        columns = {name: block.to(device, non_blocking=True) for name, block in self.columns.items()}
        return replace(self, columns=columns)

    def batches(self) -> list[Batch]:
        """Each by itself, without copying: a block's memory is given back when no batch that lies in it is left.

        A tensor may be written to, or asked for its gradient, as if it were alone.
        """
        if self.number == 1:
            return [self.columns]
        cut = []
        for name, block in self.columns.items():
            lengths = self.lengths[name]
            # The "unsafe" one: else autograd takes a change of one for a change of all. No two share a row.
            cut.append(torch.unsafe_split_with_sizes(block, lengths)[:: 1 if len(lengths) == self.number else 2])
        return [dict(zip(self.columns, tensors, strict=False)) for tensors in zip(*cut, strict=True)]
