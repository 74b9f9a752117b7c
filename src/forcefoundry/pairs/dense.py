"""Pairs as one dense array of yes and no, for those who want every structure to take the same place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forcefoundry.pairs.contract import Bools, Ints, Pairs
from forcefoundry.pairs.table import PairTable


@dataclass(frozen=True)
class DensePairTable:
    """Which pairs there are, structure by structure, within a fixed range of images.

    near: (structures, n, n, 2m + 1, 2m + 1, 2m + 1), whether (i, j, S) is a pair, for n atoms of the largest structure
    and shifts S from -m to m. The home cell S = 0 is an entry like any other, and an absent pair is False, so the two
    cannot be taken for each other.
    """

    cutoff: float
    near: Bools

    @property
    def n_pairs(self) -> int:
        """Number of ordered pairs of all structures."""
        return int(np.count_nonzero(self.near))

    @property
    def pairs_of_structure(self) -> Ints:
        """(n,) number of ordered pairs of each structure."""
        return np.asarray(np.count_nonzero(self.near, axis=(1, 2, 3, 4, 5)), dtype=np.int64)

    @classmethod
    def of_table(cls, table: PairTable, n_images: int) -> DensePairTable:
        """The same pairs, dense.

        A pair outside the range is a ValueError that names its structure and the n_images that suffices for all.
        """
        starts, pairs = table.all_pairs()
        reach = np.abs(pairs.S).max(axis=1, initial=0)
        structure = np.repeat(np.arange(len(table)), np.diff(starts))
        if (reach > n_images).any():
            first = int(np.argmax(reach > n_images))
            raise ValueError(
                f"Structure {structure[first]} of the database has a pair with the lattice shift "
                f"{pairs.S[first].tolist()}, outside n_images={n_images}. n_images={int(reach.max())} suffices for all "
                "structures; make_dense=False needs none."
            )
        n = int(pairs.i.max(initial=-1)) + 1
        side = 2 * n_images + 1
        near = np.zeros((len(table), n, n, side, side, side), dtype=np.bool_)
        near[(structure, pairs.i, pairs.j, *(pairs.S + n_images).T)] = True
        return cls(table.cutoff, near)

    def batch(self, structures: Ints, first_atoms: Ints) -> Pairs:
        """The pairs of a batch: those of the given structures, whose atoms start at `first_atoms` in the batch."""
        # nonzero goes through the array in order, so the list is sorted by (i, j, S) as every list of pairs is.
        which, i, j, *S = np.nonzero(self.near[structures])
        first = first_atoms[which]
        return Pairs(i + first, j + first, (np.stack(S, axis=1) - self.near.shape[-1] // 2).astype(np.int32))
