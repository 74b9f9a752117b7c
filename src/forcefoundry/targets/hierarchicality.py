"""How far the terms of an energy are from falling off with their level, and the terms themselves, system by system."""

from __future__ import annotations

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import MultiNode, Node, Output, OutputNode
from forcefoundry.inputs import Inputs
from forcefoundry.targets.energy import EnergyNode
from forcefoundry.targets.sums import over_systems

NOTHING = 1e-30
"""eV²; where both squares of a share together are no more, it counts as 0/0: terms of 1e-15 eV are rounding."""


def share(upper: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """upper / both, and 0 with all derivatives 0 where `both` is nothing; NaN stays NaN."""
    nothing = both <= NOTHING
    return torch.where(nothing, 0.0, upper / torch.where(nothing, 1.0, both))


class Hierarchicality(torch.nn.Module):
    """R_i = Σ_n (E_i^n)² / ((E_i^n)² + (E_i^{n-1})²), from the second term on (Lubbers et al. 2018).

    The other forms take the sums over atoms before the quotient, so that atoms with small terms weigh little.
    """

    def forward(
        self, atom_terms: torch.Tensor, n_atoms: torch.Tensor, system_of_atom: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give the sum over atoms (S,), R_i (N,), and the quotients of sums by system (S,) and by batch ()."""
        squares = atom_terms * atom_terms  # (N, terms)
        upper = squares[:, 1:]
        both = upper + squares[:, :-1]
        atom = share(upper, both).sum(dim=1)
        system = over_systems(atom, n_atoms, system_of_atom)
        molecule = share(over_systems(upper, n_atoms, system_of_atom), over_systems(both, n_atoms, system_of_atom)).sum(
            dim=1
        )
        batch = share(upper.sum(dim=0), both.sum(dim=0)).sum()
        return system, atom, molecule, batch


class HierarchicalityNode(MultiNode):
    """How far the terms of an energy are from falling off with their level: 0 where each is nothing beside the last.

    Outputs, without unit: `system` (S,), the sum over the system's atoms; `atom` (N,), R_i; `molecule` (S,), with both
    squares summed over the system's atoms before they are divided; `batch` (), with both summed over all atoms of the
    batch, so it depends on how batches are cut. The first is the one to train with.

    Args:
        energy: an EnergyNode or one of its outputs; it needs two terms or more.
    """

    def __init__(self, energy: Node, name: str = "hierarchicality"):
        readout = _energy_node(energy, "Hierarchicality is")
        terms = readout.output("atom_terms")
        if terms.shape is not None and terms.shape[0] < 2:
            raise ValueError(
                f"Hierarchicality compares each term of an energy with the one before, and {readout.name!r} has one "
                "term. Use a network of more levels, or leave first_is_interacting out."
            )
        inputs = Inputs.around(readout)
        outputs = {
            "system": Output(Axis.SYSTEM, "1", None, name, ()),
            "atom": Output(Axis.ATOM, "1", None, f"atom_{name}", ()),
            "molecule": Output(Axis.SYSTEM, "1", None, f"molecule_{name}", ()),
            "batch": Output(None, "1", None, f"batch_{name}", ()),
        }
        super().__init__(f"{name}_forms", (terms, inputs.n_atoms, inputs.system_of_atom), Hierarchicality(), outputs)


class SystemTerms(torch.nn.Module):
    """Each term of the energy summed over the atoms of a system, and the running sum over the terms."""

    def forward(
        self, atom_terms: torch.Tensor, n_atoms: torch.Tensor, system_of_atom: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give both, (S, terms) each, eV."""
        terms = over_systems(atom_terms, n_atoms, system_of_atom)
        return terms, torch.cumsum(terms, dim=1)


class EnergyTermsNode(MultiNode):
    """The energy of each system level by level, eV.

    Outputs: `system_terms` (S, terms), what each level adds; `cumulative` (S, terms), the energy up to each level, of
    which the last is the energy itself.

    Args:
        energy: an EnergyNode or one of its outputs.
    """

    def __init__(self, energy: Node, name: str = "energy_terms"):
        terms = _energy_node(energy, "Energy terms are").output("atom_terms")
        inputs = Inputs.around(terms)
        outputs = {
            "system_terms": Output(Axis.SYSTEM, "eV", None, name, terms.shape),
            "cumulative": Output(Axis.SYSTEM, "eV", None, f"cumulative_{name}", terms.shape),
        }
        super().__init__(f"{name}_sums", (terms, inputs.n_atoms, inputs.system_of_atom), SystemTerms(), outputs)


def _energy_node(energy: Node, what: str) -> EnergyNode:
    node = energy.parents[0] if isinstance(energy, OutputNode) else energy
    if not isinstance(node, EnergyNode):
        raise ValueError(f"{what} computed from the terms of an EnergyNode, got {energy!r}. Give the EnergyNode.")
    return node
