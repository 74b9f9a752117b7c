"""Quantities of single atoms, partial charges among them, read out of the feature levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.targets.checks import one_number
from forcefoundry.targets.readouts import like_network, sizes_of
from forcefoundry.targets.sums import over_systems


class AtomReadout(torch.nn.Module):
    """q_i = Σ_n (w_n · z_i^n + b_n), with b_0 = 0: level 0 is the one-hot species, so w_0 holds a number for each.

    The sum over levels is taken in float64.

    Args:
        feature_sizes: width of each feature level.
        size: how many numbers each atom gets.
    """

    def __init__(self, feature_sizes: Sequence[int], size: int = 1):
        super().__init__()
        if size < 1:
            raise ValueError(f"The size of an atom's quantity is {size}, expected 1 or more numbers.")
        self.size = size
        self.readouts = torch.nn.ModuleList(
            torch.nn.Linear(width, size, bias=level > 0) for level, width in enumerate(feature_sizes)
        )

    def forward(self, *levels: torch.Tensor) -> torch.Tensor:
        """The quantity of each atom, (N,) for one number and (N, size) for several, float64."""
        terms = torch.stack([readout(z).double() for readout, z in zip(self.readouts, levels, strict=True)])
        total = terms.sum(dim=0)  # (N, size)
        return total[:, 0] if self.size == 1 else total


class AtomQuantityNode(Node):
    """A quantity of each atom, (N,) or, for a size above 1, (N, size).

    Args:
        network: the node of the network whose features it is read from.
        name: what it is called.
        db_name: the column of its true values, where there is one.
        unit: its unit.
        size: how many numbers each atom gets.
    """

    def __init__(self, network: NetworkNode, name: str, db_name: str | None = None, unit: str = "", size: int = 1):
        self.readout = AtomReadout(sizes_of(network, name), size)
        like_network(self.readout, network)
        super().__init__(name, network.levels, self.readout, db_name, Axis.ATOM, unit, () if size == 1 else (size,))


class ChargeReadout(AtomReadout):
    """Partial charges, e. With conservation q_i - (Σ_j q_j - Q) / N: the excess is taken evenly from all atoms.

    Args:
        feature_sizes: width of each feature level.
        conserve: whether the charges of a system sum to its total charge.
        total_given: whether `forward` is given the total charges; else they are 0.
    """

    def __init__(self, feature_sizes: Sequence[int], conserve: bool = True, total_given: bool = False):
        super().__init__(feature_sizes)
        self.conserve, self.total_given = conserve, total_given

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Charges (N,), e, from the feature levels.

        With conservation there come before the levels: n_atoms (S,), system_of_atom (N,) and, where given, Q (S,).
        """
        if not self.conserve:
            return super().forward(*values)
        n_atoms, system_of_atom, *rest = values
        levels = rest[1:] if self.total_given else rest
        free = super().forward(*levels)
        excess = over_systems(free, n_atoms, system_of_atom)
        if self.total_given:
            excess = excess - rest[0]
        return free - (excess / n_atoms)[system_of_atom]


class ChargesNode(Node):
    """The partial charge of each atom (N,), e.

    Args:
        network: the node of the network whose features the charges are read from.
        conserve: whether the charges of a system sum to its total charge; the excess is spread evenly over its atoms.
        total_charge: the total charge of each system (S,), e, say `InputNode("charge")`; 0 where None.
        name, db_name: what it is called, and the column of its true values.

    Raises:
        ValueError: for a total charge that is no number a system, or that nothing would be done with.
    """

    def __init__(
        self,
        network: NetworkNode,
        conserve: bool = True,
        total_charge: Node | None = None,
        name: str = "charges",
        db_name: str | None = "charges",
    ):
        self.readout = ChargeReadout(sizes_of(network, name), conserve, total_charge is not None)
        like_network(self.readout, network)
        parents = network.levels
        if conserve:
            inputs = Inputs.around(network)
            given: tuple[Node, ...] = ()
            if total_charge is not None:
                remedy = 'Give InputNode("charge"), say, or leave it out for neutral systems.'
                given = (one_number(total_charge, Axis.SYSTEM, f"The total charge of {name!r}", remedy),)
            parents = (inputs.n_atoms, inputs.system_of_atom, *given, *network.levels)
        elif total_charge is not None:
            raise ValueError(
                f"{name!r} has a total charge but conserve=False, so nothing would be done with it. Leave one out."
            )
        super().__init__(name, parents, self.readout, db_name, Axis.ATOM, "e", ())
