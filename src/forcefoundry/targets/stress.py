"""Forces and stress by one differentiation of a strained graph."""

from __future__ import annotations

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import InputNode, MultiNode, Node, Output, input_named, input_nodes, ordered_ancestors
from forcefoundry.inputs import Inputs, StrainedNode
from forcefoundry.targets.checks import one_number


class ForcesAndStress(torch.nn.Module):
    """F = -dE/dr and σ = (1/V) dE/dε at fixed fractional coordinates, V = |det cell|.

    A positive diagonal means that the energy rises on expansion: tension is positive. All nine components of ε are
    independent, and nothing is made symmetric afterwards: the stress of an energy that does not change under rotation
    is symmetric up to rounding, and one that is not shows a model that is no potential.
    """

    differentiates_by = (1, 2)

    def forward(
        self,
        energy: torch.Tensor,
        positions: torch.Tensor,
        strain: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forces (N, 3), eV/Å, and stress (S, 3, 3), eV/Å³, from energies (S,), eV, and what they depend on.

        A system that is not periodic in all three directions has no volume, so its stress is NaN.
        """
        # The systems of a batch do not interact, so the derivative of their sum is that of each. The graph is kept:
        # other derivatives, of this energy or of one that shares its pairs, may be taken after this one.
        by_positions, by_strain = torch.autograd.grad(
            energy.sum(),
            (positions, strain),
            create_graph=self.training,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        periodic = pbc.all(dim=1)
        # Where there is no volume 1 stands in: 1 / 0 would reach the gradients of the other systems as NaN.
        volume = torch.where(periodic, torch.linalg.det(cell).abs(), 1.0)
        stress = torch.where(periodic[:, None, None], by_strain / volume[:, None, None], torch.nan)
        return -by_positions, stress


class ForcesAndStressNode(MultiNode):
    """Forces and stress of an energy; outputs `forces` (N, 3), eV/Å, and `stress` (S, 3, 3), eV/Å³, tension positive.

    Both come from one differentiation. A system that is not periodic in three directions has the stress NaN.

    Args:
        energy: the energy of each system, in a graph that was built from `Inputs.new().strained()`.
        name: the nodes are called `forces` and `stress`, or NAME_forces and NAME_stress where another name is given.

    Raises:
        ValueError: for an energy that does not depend on a strain, or is no number a system.
    """

    def __init__(self, energy: Node, name: str = "forces_and_stress"):
        energy = one_number(energy, Axis.SYSTEM, "What stress is computed from", "Give the energy of each system.")
        if not any(node.db_name == "strain" for node in input_nodes([energy])):
            raise ValueError(
                f"{energy.name!r} does not depend on a strain, so it has no stress. Build the network from "
                "Inputs.new().strained(), or use ForcesNode for forces alone."
            )
        _check_all_strained(energy)
        positions, strain, cell = (input_named([energy], column) for column in ("positions", "strain", "cell"))
        parents = (energy, positions, strain, cell, Inputs.around(energy).pbc)
        prefix = "" if name == "forces_and_stress" else f"{name}_"
        outputs = {
            "forces": Output(Axis.ATOM, "eV/Å", "forces", f"{prefix}forces", (3,)),
            "stress": Output(Axis.SYSTEM, "eV/Å³", "stress", f"{prefix}stress", (3, 3)),
        }
        super().__init__(name, parents, ForcesAndStress(), outputs)


def _check_all_strained(energy: Node) -> None:
    """Refuse an energy of which a part sees positions or cells that the strain does not reach."""
    for node in ordered_ancestors([energy]):
        if isinstance(node, StrainedNode):
            continue
        raw = [one for one in node.parents if isinstance(one, InputNode) and one.db_name in ("positions", "cell")]
        if raw:
            raise ValueError(
                f"{node.name!r} is computed from {raw[0].name!r} as it is, past the strain, so the stress of "
                f"{energy.name!r} would lack its part. Build everything from one Inputs.new().strained()."
            )
