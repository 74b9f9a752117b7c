"""The energy of a system as a sum over atoms and feature levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import MultiNode, Output
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.targets.readouts import like_network, sizes_of
from forcefoundry.targets.sums import over_systems


class EnergyReadout(torch.nn.Module):
    """E = Σ_i Σ_n (w_n · z_i^n + b_n), with b_0 = 0 (Lubbers et al. 2018, equation 3).

    Level 0 is the one-hot species, so w_0 holds one energy a species: E0, kept in float64 and frozen unless asked
    otherwise. Sums over atoms are taken in float64, since totals of -10^4 eV must keep their meV.

    Args:
        feature_sizes: width of each feature level.
        train_e0: whether E0 is trained with the rest.
        first_is_interacting: start the sum at level 1, so that there is no E0.
    """

    keeps_float64 = ("e0",)

    def __init__(self, feature_sizes: Sequence[int], train_e0: bool = False, first_is_interacting: bool = False):
        super().__init__()
        self.e0: torch.nn.Parameter | None = None
        if not first_is_interacting:
            self.e0 = torch.nn.Parameter(torch.zeros(feature_sizes[0], dtype=torch.float64), requires_grad=train_e0)
        self.readouts = torch.nn.ModuleList(torch.nn.Linear(width, 1) for width in feature_sizes[1:])

    def forward(
        self, n_atoms: torch.Tensor, system_of_atom: torch.Tensor, *levels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give energy (S,), atom energies (N,) and their terms by level (N, terms), eV, float64."""
        interacting = [readout(z) for readout, z in zip(self.readouts, levels[1:], strict=True)]
        atom_terms = torch.cat(interacting, dim=1).double()
        if self.e0 is not None:
            atom_terms = torch.cat([(levels[0].double() @ self.e0)[:, None], atom_terms], dim=1)
        atom_energy = atom_terms.sum(dim=1)
        return over_systems(atom_energy, n_atoms, system_of_atom), atom_energy, atom_terms


class EnergyNode(MultiNode):
    """The energy of each system; outputs `energy` (S,), `atom_energy` (N,) and `atom_terms` (N, terms), eV."""

    def __init__(
        self,
        network: NetworkNode,
        train_e0: bool = False,
        first_is_interacting: bool = False,
        name: str = "energy",
        db_name: str | None = "energy",
    ):
        self.readout = EnergyReadout(sizes_of(network, name), train_e0, first_is_interacting)
        like_network(self.readout.readouts, network)  # E0 stays float64
        inputs = Inputs.around(network)
        n_terms = len(network.levels) - int(first_is_interacting)
        outputs = {
            "energy": Output(Axis.SYSTEM, "eV", db_name, name, ()),
            "atom_energy": Output(Axis.ATOM, "eV", None, f"atom_{name}", ()),
            "atom_terms": Output(Axis.ATOM, "eV", None, f"atom_{name}_terms", (n_terms,)),
        }
        super().__init__(
            f"{name}_readout", (inputs.n_atoms, inputs.system_of_atom, *network.levels), self.readout, outputs
        )
