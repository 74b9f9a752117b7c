"""The dipole moment of partial charges."""

from __future__ import annotations

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs
from forcefoundry.targets.checks import one_number
from forcefoundry.targets.sums import over_systems


class PointDipole(torch.nn.Module):
    """μ = Σ_i q_i (r_i - r̄) with r̄ the mean of the system's positions, in float64."""

    def forward(
        self,
        charges: torch.Tensor,
        positions: torch.Tensor,
        pbc: torch.Tensor,
        n_atoms: torch.Tensor,
        system_of_atom: torch.Tensor,
    ) -> torch.Tensor:
        """Dipole moments (S, 3), e·Å, from charges (N,), e, and positions (N, 3), Å; NaN where any pbc is set."""
        mean = over_systems(positions, n_atoms, system_of_atom) / n_atoms[:, None]
        moments = charges.double()[:, None] * (positions - mean[system_of_atom])  # (N, 3)
        dipole = over_systems(moments, n_atoms, system_of_atom)
        return torch.where(pbc.any(dim=1)[:, None], torch.nan, dipole)


class DipoleNode(Node):
    """The dipole moment of each system (S, 3), e·Å, of its atoms' partial charges.

    It is taken about the mean of the atoms' positions, so moving a system changes nothing. For a neutral system that
    is Σ q r, whatever the origin; for a charged one, whose dipole moment depends on the origin, labels must be about
    the same point. A system that is periodic in any direction has no dipole moment (it would depend on how its atoms
    are wrapped): its value is NaN.

    Args:
        charges: the charge of each atom, say a ChargesNode.
    """

    def __init__(self, charges: Node, name: str = "dipole", db_name: str | None = "dipole"):
        charges = one_number(charges, Axis.ATOM, "What a dipole moment is computed from", "Give a ChargesNode.")
        inputs = Inputs.around(charges)
        parents = (charges, inputs.positions, inputs.pbc, inputs.n_atoms, inputs.system_of_atom)
        super().__init__(name, parents, PointDipole(), db_name, Axis.SYSTEM, "e·Å", (3,))
