"""What a network is: features of atoms from species and pairs. A new one is one file with one such class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import MultiNode, Node, Output
from forcefoundry.inputs import Inputs
from forcefoundry.pairs import Finder, pair_vectors


class Network(torch.nn.Module, ABC):
    """Features of each atom, level by level.

    Attributes:
        species: the atomic numbers it knows, in the order of its one-hot encoding.
        cutoff: Å; pairs beyond it contribute nothing, and values and first derivatives go to zero there.
        feature_sizes: the width of each level that `forward` gives; level 0 is the one-hot species.
    """

    species: tuple[int, ...]
    cutoff: float
    feature_sizes: tuple[int, ...]

    @abstractmethod
    def forward(
        self, species: torch.Tensor, i: torch.Tensor, j: torch.Tensor, vector: torch.Tensor, distance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Compute the features.

        Args:
            species: (N,) atomic numbers.
            i, j: (P,) the pairs' atoms, sorted by i.
            vector: (P, 3) from i to j, Å, float64.
            distance: (P,) its length, Å, float64.

        Returns:
            One tensor (N, feature_sizes[level]) a level.
        """

    @abstractmethod
    def penalised(self) -> list[torch.Tensor]:
        """The weights that an L2 penalty sums over."""


class SpeciesEncoder(torch.nn.Module):
    """Atomic numbers to one-hot rows; an element that was not trained on is a ValueError that names it."""

    def __init__(self, species: Sequence[int]):
        super().__init__()
        numbers = tuple(int(number) for number in species)
        if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 1 or max(numbers) > 118:
            raise ValueError(f"A network's species are {list(species)}, expected different atomic numbers of 1 to 118.")
        self.numbers = numbers
        # Row z of the table is the one-hot row of element z; elements that are not known have none, told by `place`.
        place = torch.full((120,), -1, dtype=torch.int64)
        place[list(numbers)] = torch.arange(len(numbers))
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("rows", torch.eye(len(numbers)), persistent=False)
        self.place: torch.Tensor
        self.rows: torch.Tensor

    def forward(self, species: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """One-hot rows (N, number of species) for atomic numbers (N,)."""
        if not len(species):
            raise ValueError("The batch holds no atoms. Leave systems without atoms out.")
        # Numbers outside the periodic table fall on places 0 and 119, which no element has.
        index = self.place[species.clamp(0, 119)]
        if int(index.min()) < 0:
            unknown = sorted({int(number) for number in species[index < 0].tolist()})
            raise ValueError(
                f"The network does not know the elements with atomic numbers {unknown}; it was made for "
                f"{list(self.numbers)}. Train with structures that contain them, or leave these structures out."
            )
        return self.rows.to(dtype)[index]


class NetworkNode(MultiNode):
    """A network in a graph; outputs `level0`, `level1`, ... hold the features of each atom.

    Args:
        network: computes the features.
        inputs: what structures are. Any of the input nodes will do, say `[species, positions]`: the others are found
            in their graph, or made.
        finder: how pairs within the network's cutoff are found while the model runs, where the graph has none yet.
        name: weights are named after it.
    """

    def __init__(
        self,
        network: Network,
        inputs: Inputs | Sequence[Node] = (),
        finder: Finder | None = None,
        name: str = "network",
    ):
        if not isinstance(inputs, Inputs):
            inputs = Inputs.around(*inputs)
        vectors = pair_vectors(inputs, network.cutoff, finder)
        parents = (inputs.species, vectors.i, vectors.j, vectors.output("vector"), vectors.output("distance"))
        outputs = {
            f"level{level}": Output(Axis.ATOM, shape=(size,)) for level, size in enumerate(network.feature_sizes)
        }
        super().__init__(name, parents, network, outputs)
        self.network = network

    @property
    def levels(self) -> tuple[Node, ...]:
        """The feature nodes, level by level."""
        return tuple(self.output(key) for key in self.outputs)
