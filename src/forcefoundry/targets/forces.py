"""Forces by differentiation."""

from __future__ import annotations

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import Node, input_named
from forcefoundry.targets.checks import one_number


class NegativeGradient(torch.nn.Module):
    """F = -dE/dr. Only in training is the derivative itself made differentiable."""

    differentiates_by = (1,)

    def forward(self, energy: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Forces (N, 3), eV/Å, from energies (S,), eV, and positions (N, 3), Å."""
        # The systems of a batch do not interact, so the derivative of their sum is that of each. The graph is kept:
        # other derivatives, of this energy or of one that shares its pairs, may be taken after this one.
        (gradient,) = torch.autograd.grad(
            energy.sum(),
            positions,
            create_graph=self.training,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return -gradient


class ForcesNode(Node):
    """The force on each atom (N, 3), eV/Å, of an energy."""

    def __init__(self, energy: Node, name: str = "forces"):
        energy = one_number(energy, Axis.SYSTEM, "What forces are computed from", "Give the energy of each system.")
        positions = input_named([energy], "positions")
        super().__init__(name, (energy, positions), NegativeGradient(), "forces", Axis.ATOM, "eV/Å", (3,))
