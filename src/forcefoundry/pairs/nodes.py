"""Pairs in a graph: finding them while the model runs, reading them from the database, and what lies between atoms."""

from __future__ import annotations

import numpy as np
import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import InputNode, MultiNode, Node, Output
from forcefoundry.inputs import Inputs
from forcefoundry.pairs.brute import BruteFinder
from forcefoundry.pairs.contract import Finder, check_cutoff

PAIR_OUTPUTS = {"i": Output(Axis.PAIR, "1"), "j": Output(Axis.PAIR, "1"), "S": Output(Axis.PAIR, "1")}


class FindPairs(torch.nn.Module):
    """Finds the pairs of a batch within a cutoff (Å) while the model runs."""

    def __init__(self, cutoff: float, finder: Finder | None = None):
        super().__init__()
        self.cutoff = check_cutoff(cutoff)
        self.finder: Finder = finder or BruteFinder()

    @torch.no_grad()
    def forward(
        self, positions: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor, n_atoms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give i (P,), j (P,) and S (P, 3) for positions (N, 3) and cell (S, 3, 3) in float64."""
        offsets = np.zeros(len(n_atoms) + 1, dtype=np.int64)
        np.cumsum(n_atoms.cpu().numpy(), out=offsets[1:])
        pairs = self.finder(
            positions.detach().cpu().numpy().astype(np.float64, copy=False),
            cell.detach().cpu().numpy().astype(np.float64, copy=False),
            pbc.cpu().numpy(),
            self.cutoff,
            offsets,
        )
        i, j, S = (torch.from_numpy(array).to(positions.device) for array in (pairs.i, pairs.j, pairs.S))
        return i, j, S


class PairFinderNode(MultiNode):
    """The pairs within a cutoff, found while the model runs; outputs i, j and S."""

    def __init__(self, inputs: Inputs, cutoff: float, finder: Finder | None = None, name: str = "pairs"):
        parents = (inputs.positions, inputs.cell, inputs.pbc, inputs.n_atoms)
        super().__init__(name, parents, FindPairs(cutoff, finder), PAIR_OUTPUTS)
        self.cutoff = cutoff


def cached_column(cutoff: float, key: str) -> str:
    """The database column in which pairs within that cutoff are found; `key` is i, j or S."""
    return f"pairs_{float(cutoff)!r}_{key}"


class CachedPairsNode(InputNode):
    """Reads cached pairs from the database in place of a finder's output `key`."""

    def __init__(self, cutoff: float, key: str):
        column = cached_column(cutoff, key)
        super().__init__(column.replace(".", "p"), db_name=column, axis=Axis.PAIR, unit="1")
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
        return D, torch.linalg.vector_norm(D, dim=1)


class PairVectorsNode(MultiNode):
    """What lies between the atoms of each pair; outputs `vector` (P, 3) and `distance` (P,), Å."""

    def __init__(self, inputs: Inputs, i: Node, j: Node, S: Node, name: str = "pair_vectors"):
        parents = (inputs.positions, inputs.cell, inputs.system_of_atom, i, j, S)
        outputs = {"vector": Output(Axis.PAIR, "Å"), "distance": Output(Axis.PAIR, "Å")}
        super().__init__(name, parents, PairVectors(), outputs)
