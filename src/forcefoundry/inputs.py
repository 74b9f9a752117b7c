"""The columns that say what a structure is, as input nodes, and their strained form."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import InputNode, MultiNode, Node, Output, connected_nodes


@dataclass(frozen=True)
class Inputs:
    """One node a structure column; wire a model from these.

    Positions and cells stay float64 whatever the model's dtype: differences of positions are taken in float64 and then
    cast, so a structure far from the origin loses nothing and cached pairs fit the positions to the last bit.
    """

    species: Node  # (N,)
    positions: Node  # (N, 3)
    cell: Node  # (S, 3, 3)
    pbc: Node  # (S, 3)
    n_atoms: Node  # (S,)
    system_of_atom: Node  # (N,)

    @classmethod
    def new(cls) -> Inputs:
        """Fresh input nodes."""
        return cls.around()

    @classmethod
    def around(cls, *nodes: Node) -> Inputs:
        """The inputs of the graph that the given nodes belong to; what it has none of is made.

        A node counts as an input by its `db_name`, so it may be called anything. Where the graph is strained, positions
        and cell are the strained ones.

        Raises:
            ValueError: when the graph has two inputs of one column, so that it is not clear which is meant.
        """
        names = [entry.name for entry in fields(cls)]
        connected = connected_nodes(nodes)
        found: dict[str, Node] = {}
        for node in connected:
            if not isinstance(node, InputNode) or node.db_name not in names:
                continue
            if found.setdefault(str(node.db_name), node) is not node:
                raise ValueError(
                    f"The graph has two inputs of the column {node.db_name!r}, {found[str(node.db_name)].name!r} and "
                    f"{node.name!r}: it is not clear which is meant. Build from one."
                )
        inputs = cls(**{name: found.get(name) or InputNode(name) for name in names})
        strained = [node for node in connected if isinstance(node, StrainedNode)]
        return inputs._moved(strained[0]) if strained else inputs

    def strained(self) -> Inputs:
        """The same structures under a strain that is zero and can be differentiated by, for stress."""
        return self._moved(StrainedNode(self))

    def _moved(self, strained: StrainedNode) -> Inputs:
        return replace(self, positions=strained.output("positions"), cell=strained.output("cell"))


class Strain(torch.nn.Module):
    """r -> r (1 + ε), cell -> cell (1 + ε), with row vectors and one ε a system."""

    def forward(
        self, positions: torch.Tensor, cell: torch.Tensor, strain: torch.Tensor, system_of_atom: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give strained positions (N, 3) and cells (S, 3, 3), Å, for strains (S, 3, 3)."""
        moved = torch.einsum("na,nab->nb", positions, strain[system_of_atom])
        return positions + moved, cell + cell @ strain


class StrainedNode(MultiNode):
    """Structures under strain; outputs `positions` (N, 3) and `cell` (S, 3, 3), Å."""

    def __init__(self, inputs: Inputs, name: str = "strained"):
        parents = (inputs.positions, inputs.cell, InputNode("strain"), inputs.system_of_atom)
        outputs = {
            "positions": Output(Axis.ATOM, "Å", shape=(3,)),
            "cell": Output(Axis.SYSTEM, "Å", shape=(3, 3)),
        }
        super().__init__(name, parents, Strain(), outputs)
