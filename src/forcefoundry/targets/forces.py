"""Forces by differentiation."""

from __future__ import annotations

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs


class NegativeGradient(torch.nn.Module):
    """F = -dE/dr. Only in training is the derivative itself made differentiable."""

    differentiates_by = (1,)

    def forward(self, energy: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Forces (N, 3), eV/Å, from energies (S,), eV, and positions (N, 3), Å."""
        # The systems of a batch do not interact, so the derivative of their sum is that of each.
        (gradient,) = torch.autograd.grad(
            energy.sum(), positions, create_graph=self.training, allow_unused=True, materialize_grads=True
        )
        return -gradient


class ForcesNode(Node):
    """The force on each atom (N, 3), eV/Å."""

    def __init__(self, inputs: Inputs, energy: Node, name: str = "forces"):
        super().__init__(name, (energy, inputs.positions), NegativeGradient(), "forces", Axis.ATOM, "eV/Å")
