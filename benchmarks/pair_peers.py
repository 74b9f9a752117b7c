"""Other codes that find pairs, each as a function of a batch that gives the number of pairs of the full list.

Each returns what it found as full integer arrays of i, j and S before they are counted; one that is not installed is
left out.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.pair_sets import Batch

Peer = Callable[[Batch], int]


SLOW = ("ase", "hippynn dynamic", "hippynn default")
"""Peers so slow that one turn must do, which nothing needs to precede, and in a quick run a part of each set."""


def peers() -> dict[str, Peer]:
    """The peers that are installed, by name."""
    makers: dict[str, Callable[[], Peer]] = {
        "vesin": _vesin,
        "matscipy": _matscipy,
        "neighborlist-rs": _neighborlist_rs,
        "nvalchemi": _nvalchemi,
        "ase": _ase,
        "hippynn dynamic": _hippynn_dynamic,
        "hippynn default": _hippynn_default,
    }
    found = {}
    for name, make in makers.items():
        with contextlib.suppress(ImportError):
            found[name] = make()
    return found


def _spans(batch: Batch) -> list[tuple[int, slice]]:
    return [(s, slice(start, stop)) for s, (start, stop) in enumerate(itertools.pairwise(batch.offsets))]


def _vesin() -> Peer:
    import vesin

    def find(batch: Batch) -> int:
        finder = vesin.NeighborList(cutoff=batch.cutoff, full_list=True)
        parts = []
        for s, atoms in _spans(batch):
            periodic = bool(batch.pbc[s].all()) or (bool(batch.pbc[s].any()) and batch.pbc[s])
            parts.append(finder.compute(batch.positions[atoms], batch.cell[s], periodic, "ijS"))
        return sum(len(part[0]) for part in parts)

    return find


def _matscipy() -> Peer:
    from matscipy.neighbours import neighbour_list

    def find(batch: Batch) -> int:
        parts = []
        for s, atoms in _spans(batch):
            # Without a cell it takes the box around the atoms; a vector that is zero it cannot take.
            place = {"cell": batch.cell[s], "pbc": batch.pbc[s]} if batch.pbc[s].any() else {}
            parts.append(neighbour_list("ijS", cutoff=batch.cutoff, positions=batch.positions[atoms], **place))
        return sum(len(part[0]) for part in parts)

    return find


def _ase() -> Peer:
    from ase.neighborlist import primitive_neighbor_list

    def find(batch: Batch) -> int:
        parts = [
            primitive_neighbor_list("ijS", batch.pbc[s], batch.cell[s], batch.positions[atoms], batch.cutoff)
            for s, atoms in _spans(batch)
        ]
        return sum(len(part[0]) for part in parts)

    return find


def _neighborlist_rs() -> Peer:
    import neighborlist_rs

    def find(batch: Batch) -> int:
        if batch.pbc.any() and not batch.pbc.all():
            raise NotImplementedError("batches of periodic and open structures are not taken")
        of_atom = np.repeat(np.arange(len(batch.cell), dtype=np.int32), np.diff(batch.offsets))
        cells = batch.cell if batch.pbc.all() else None
        half = neighborlist_rs.build_neighborlists_batch(batch.positions, of_atom, cells, batch.cutoff, False)
        (i, j), S = half["edge_index"], half["shift"]
        i, j, S = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([S, -S])
        return len(i)

    return find


def _nvalchemi() -> Peer:
    import torch
    import warp
    from nvalchemiops.neighbors.neighbor_utils import NeighborOverflowError
    from nvalchemiops.torch.neighbors import neighbor_list

    warp.config.quiet = True
    torch.set_num_threads(1)
    most: dict[str, int] = {}

    def find(batch: Batch) -> int:
        while True:
            try:
                return once(batch)
            except NeighborOverflowError:
                # Its own guess of neighbours an atom is too small: in the turns that are timed it knows a better one.
                most[batch.name] = 2 * most.get(batch.name, 192)

    def once(batch: Batch) -> int:
        of_atom = np.repeat(np.arange(len(batch.cell), dtype=np.int32), np.diff(batch.offsets))
        periodic: dict[str, Any] = {}
        if batch.pbc.any():
            periodic = {"cell": torch.from_numpy(batch.cell), "pbc": torch.from_numpy(batch.pbc)}
        pairs, *_ = neighbor_list(
            torch.from_numpy(batch.positions),
            batch.cutoff,
            batch_idx=torch.from_numpy(of_atom),
            batch_ptr=torch.from_numpy(batch.offsets.astype(np.int32)),
            max_neighbors=most.get(batch.name),
            return_neighbor_list=True,
            **periodic,
        )
        return int(pairs.shape[1])

    return find


def _padded(batch: Batch) -> tuple[Any, ...]:
    """Coordinates (S, A, 3), which atoms are none, the atoms in their order and back, and the system of each."""
    import torch

    counts = np.diff(batch.offsets)
    real = np.arange(counts.max())[None] < counts[:, None]
    coordinates = np.zeros((*real.shape, 3))
    coordinates[real] = batch.positions
    flat = np.flatnonzero(real)
    back = np.zeros(real.size, dtype=np.int64)
    back[flat] = np.arange(len(flat))
    of_atom = np.repeat(np.arange(len(counts)), counts)
    return tuple(torch.from_numpy(array) for array in (coordinates, real, flat, back, of_atom))


def _hippynn_dynamic() -> Peer:
    import torch
    from hippynn.layers.pairs.dispatch import TorchNeighbors

    def find(batch: Batch) -> int:
        if not batch.pbc.all():
            raise NotImplementedError("only periodic structures are taken")
        coordinates, real, flat, back, of_atom = _padded(batch)
        cell = torch.from_numpy(batch.cell)
        found = TorchNeighbors(batch.cutoff)(coordinates, real, flat, back, cell, of_atom, len(cell), real.shape[1])
        return len(found[0])

    return find


def _hippynn_default() -> Peer:
    import torch
    from hippynn.layers.pairs import OpenPairIndexer, PeriodicPairIndexer

    def find(batch: Batch) -> int:
        if batch.pbc.any() and not batch.pbc.all():
            raise NotImplementedError("batches of periodic and open structures are not taken")
        if np.diff(batch.offsets).max() > 300:
            raise NotImplementedError("takes more memory than machines have")
        n_pairs = 0
        # Four at a time: it holds every image of every pair.
        for first in range(0, len(batch.cell), 4):
            last = min(first + 4, len(batch.cell))
            atoms = slice(batch.offsets[first], batch.offsets[last])
            offsets = batch.offsets[first : last + 1] - batch.offsets[first]
            cell, pbc = batch.cell[first:last], batch.pbc[first:last]
            part = Batch(batch.name, batch.positions[atoms], cell, pbc, batch.cutoff, offsets)
            coordinates, real, flat, back, _ = _padded(part)
            if pbc.all():
                indexer = PeriodicPairIndexer(hard_dist_cutoff=batch.cutoff)
                found = indexer(coordinates, real, flat, back, torch.from_numpy(cell))
            else:
                found = OpenPairIndexer(hard_dist_cutoff=batch.cutoff)(coordinates, real, flat, back)
            n_pairs += len(found[0])
        return n_pairs

    return find
