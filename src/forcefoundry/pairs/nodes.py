"""Pairs in a graph: finding them while the model runs, reading them from the database, and what lies between atoms."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import InputNode, MultiNode, Node, Output, OutputNode, find_relatives
from forcefoundry.inputs import Inputs
from forcefoundry.pairs.contract import COINCIDENT, Finder, check_cutoff, coincident
from forcefoundry.pairs.finders import AUTO, make_finder

PAIR_OUTPUTS = {
    "i": Output(Axis.PAIR, "1", shape=()),
    "j": Output(Axis.PAIR, "1", shape=()),
    "S": Output(Axis.PAIR, "1", shape=(3,)),
}


@runtime_checkable
class FindsOnDevice(Protocol):
    """A finder that takes tensors on its device and leaves the pairs there."""

    device: torch.device

    def on_device(
        self, positions: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor, offsets: torch.Tensor, cutoff: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """i (P,), j (P,) and S (P, 3), sorted by (i, j, S)."""
        ...


class FindPairs(torch.nn.Module):
    """Finds the pairs of a batch within a cutoff (Å) while the model runs.

    Without a finder it takes the one that is best where the batch lies; made for the first batch, not before.
    """

    def __init__(self, cutoff: float, finder: Finder | None = None):
        super().__init__()
        self.cutoff = check_cutoff(cutoff)
        self.finder = finder

    @torch.no_grad()
    def forward(
        self, positions: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor, n_atoms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give i (P,), j (P,) and S (P, 3) for positions (N, 3) and cell (S, 3, 3) in float64."""
        offsets = np.zeros(len(n_atoms) + 1, dtype=np.int64)
        np.cumsum(n_atoms.cpu().numpy(), out=offsets[1:])
        finder = self.finder or _best_finder(str(positions.device))
        if isinstance(finder, FindsOnDevice) and finder.device.type == positions.device.type:
            return finder.on_device(positions, cell, pbc, torch.from_numpy(offsets), self.cutoff)
        pairs = finder(
            positions.detach().cpu().numpy().astype(np.float64, copy=False),
            cell.detach().cpu().numpy().astype(np.float64, copy=False),
            pbc.cpu().numpy(),
            self.cutoff,
            offsets,
        )
        i, j, S = (torch.from_numpy(array).to(positions.device) for array in (pairs.i, pairs.j, pairs.S))
        return i, j, S


@lru_cache
def _best_finder(device: str) -> Finder:
    return make_finder(AUTO, device)


class PairFinderNode(MultiNode):
    """The pairs within a cutoff, found while the model runs; outputs i, j and S."""

    def __init__(self, inputs: Inputs, cutoff: float, finder: Finder | None = None, name: str | None = None):
        parents = (inputs.positions, inputs.cell, inputs.pbc, inputs.n_atoms)
        super().__init__(name or _within("pairs", cutoff), parents, FindPairs(cutoff, finder), PAIR_OUTPUTS)
        self.cutoff = float(cutoff)


def cached_column(cutoff: float, key: str) -> str:
    """The database column in which pairs within that cutoff are found; `key` is i, j or S."""
    return f"pairs_{float(cutoff)!r}_{key}"


class CachedPairsNode(InputNode):
    """Reads cached pairs from the database in place of a finder's output `key`."""

    def __init__(self, cutoff: float, key: str):
        column = cached_column(cutoff, key)
        name = f"{_within('cached_pairs', cutoff)}_{key}"
        super().__init__(name, db_name=column, axis=Axis.PAIR, unit="1", shape=PAIR_OUTPUTS[key].shape)
        self.cutoff, self.key = cutoff, key


class PairVectors(torch.nn.Module):
    """D = r_j - r_i + S @ cell and its length, in the precision of the positions."""

    def forward(
        self,
        positions: torch.Tensor,
        cell: torch.Tensor,
        system_of_atom: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        S: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give D (P, 3) and |D| (P,), Å."""
        D = positions[j] - positions[i]
        crossing = torch.nonzero(S.any(dim=1))[:, 0]
        if len(crossing):
            # Most pairs stay in their cell (all of them in molecules): only the others need a lattice vector.
            cells = cell[system_of_atom[i[crossing]]]
            D = D.index_add(0, crossing, torch.einsum("pa,pab->pb", S[crossing].to(cell.dtype), cells))
        distance = torch.linalg.vector_norm(D, dim=1)
        if len(distance):
            nearest, total = torch.stack([distance.detach().min(), distance.detach().sum()]).tolist()
            if not (nearest >= COINCIDENT and total < float("inf")):
                raise _undefined(D.detach(), distance.detach(), system_of_atom, i, j)
        if not bool(torch.isfinite(positions.detach().sum())):
            atom = int(torch.nonzero(~torch.isfinite(positions).all(dim=1))[0, 0])
            raise ValueError(
                f"System {int(system_of_atom[atom])}: a position is {positions[atom].tolist()}, expected finite "
                "numbers in Å. Repair or remove the structure."
            )
        return D, distance


def _undefined(
    D: torch.Tensor, distance: torch.Tensor, system_of_atom: torch.Tensor, i: torch.Tensor, j: torch.Tensor
) -> ValueError:
    """The error for the first pair whose distance is zero or not finite; cached pairs of other positions may be so."""
    pair = int(torch.nonzero(~((distance >= COINCIDENT) & torch.isfinite(distance)))[0, 0])
    system, first, second = int(system_of_atom[i[pair]]), int(i[pair]), int(j[pair])
    start = int(torch.searchsorted(system_of_atom, system_of_atom[i[pair]]))
    if bool(torch.isfinite(distance[pair])):
        return coincident(system, first - start, second - start)
    return ValueError(
        f"System {system}: between atoms {first - start} and {second - start} lies {D[pair].tolist()} Å, expected "
        "finite numbers. Its positions or its cell are not finite; repair or remove the structure."
    )


class PairVectorsNode(MultiNode):
    """What lies between the atoms of each pair; outputs `vector` (P, 3) and `distance` (P,), Å."""

    def __init__(self, inputs: Inputs, i: Node, j: Node, S: Node, name: str = "pair_vectors"):
        parents = (inputs.positions, inputs.cell, inputs.system_of_atom, i, j, S)
        outputs = {"vector": Output(Axis.PAIR, "Å", shape=(3,)), "distance": Output(Axis.PAIR, "Å", shape=())}
        super().__init__(name, parents, PairVectors(), outputs)

    @property
    def i(self) -> Node:
        """The receiving atom of each pair."""
        return self.parents[3]

    @property
    def j(self) -> Node:
        """The neighbour of each pair."""
        return self.parents[4]

    @property
    def cutoff(self) -> float | None:
        """Å, within which the pairs were found; None where they come from elsewhere."""
        source = self.i.parents[0] if isinstance(self.i, OutputNode) else self.i
        return source.cutoff if isinstance(source, (PairFinderNode, CachedPairsNode)) else None


def pair_vectors(inputs: Inputs, cutoff: float, finder: Finder | None = None) -> PairVectorsNode:
    """The vectors of all pairs within a cutoff (Å): those that the graph has already, or new ones with a finder.

    Two parts of a graph that ask for one cutoff share one finder.
    """
    cutoff = check_cutoff(cutoff)
    positions, cell = inputs.positions, inputs.cell
    for node in find_relatives([positions, cell], PairVectorsNode):
        if node.cutoff == cutoff and node.parents[:2] == (positions, cell):
            return node
    pairs = PairFinderNode(inputs, cutoff, finder)
    i, j, S = (pairs.output(key) for key in PAIR_OUTPUTS)
    return PairVectorsNode(inputs, i, j, S, name=_within("pair_vectors", cutoff))


def _within(name: str, cutoff: float) -> str:
    return f"{name}_{float(cutoff)!r}".replace(".", "p")
