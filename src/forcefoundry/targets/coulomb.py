"""The Coulomb energy of charges on the atoms: all pairs of open systems, Ewald's sum of periodic ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs
from forcefoundry.pairs import Finder, pair_vectors
from forcefoundry.pairs.contract import check_cutoff
from forcefoundry.targets.checks import one_number
from forcefoundry.targets.ewald import Splitting, background_terms, near_terms, self_terms, wave_energies
from forcefoundry.targets.sums import over_systems

COULOMB_CONSTANT = 14.3996454687
"""k_e = e²/(4π ε₀), eV·Å/e²: α ħ c of CODATA 2022 with 1/α = 137.035999177 and ħc = 1973.269804593 eV·Å."""


class CoulombEnergy(torch.nn.Module):
    """k_e Σ_{i<j} q_i q_j / r_ij over all pairs of open systems, Ewald's sum of it for periodic ones; see `ewald`.

    Args:
        cutoff: Å, within which periodic systems' pairs are given.
        accuracy: the factor by which the terms that Ewald's sum leaves out are damped.
    """

    def __init__(self, cutoff: float, accuracy: float = 1e-8):
        super().__init__()
        self.splitting = Splitting.of(check_cutoff(cutoff), accuracy)

    def forward(
        self,
        charges: torch.Tensor,
        positions: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        n_atoms: torch.Tensor,
        system_of_atom: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        distance: torch.Tensor,
    ) -> torch.Tensor:
        """Energies (S,), eV, float64.

        Args:
            charges: (N,) or (N, 1) e.
            positions: (N, 3) Å.
            cell: (S, 3, 3) Å.
            pbc: (S, 3).
            n_atoms: (S,).
            system_of_atom: (N,).
            i, j, distance: (P,) the ordered pairs within the cutoff, Å. Those of open systems are not used.
        """
        q = charge_of_each_atom(charges, len(positions))
        periodic = _all_periodic(pbc)  # (S,)
        energy = over_systems(self._open(q, positions, n_atoms, periodic), n_atoms, system_of_atom)
        if bool(periodic.any()):
            kept = periodic[system_of_atom[i]]
            near = near_terms(q, i[kept], j[kept], distance[kept], self.splitting.alpha)
            own = torch.where(periodic[system_of_atom], self_terms(q, self.splitting.alpha), 0.0)
            energy = energy + over_systems(own.index_add(0, i[kept], near), n_atoms, system_of_atom)
            systems = torch.nonzero(periodic)[:, 0]
            waves = wave_energies(q, positions, cell, n_atoms, systems, self.splitting)
            total = over_systems(q, n_atoms, system_of_atom)[systems]
            background = background_terms(total, torch.linalg.det(cell[systems]).abs(), self.splitting.alpha)
            energy = energy.index_add(0, systems, waves + background)
        return COULOMB_CONSTANT * energy

    def _open(
        self, q: torch.Tensor, positions: torch.Tensor, n_atoms: torch.Tensor, periodic: torch.Tensor
    ) -> torch.Tensor:
        """What each atom (N,) of an open system has with those after it, e²/Å; 0 for the others."""
        first, second = open_pairs(n_atoms, periodic)
        r = torch.linalg.vector_norm(positions[second] - positions[first], dim=1)
        return torch.zeros_like(q).index_add(0, first, q[first] * q[second] / r)


class CoulombNode(Node):
    """The Coulomb energy of charges on the atoms of each system (S,), eV.

    Open systems: all pairs, whatever their distance. Systems periodic in three directions: Ewald's sum, a charged cell
    within a uniform background that makes it neutral. Other systems are a ValueError when the model runs.

    Args:
        charges: (N,) e, say a ChargesNode, or `InputNode("charges")` together with `inputs`.
        cutoff: Å, to where pairs of periodic systems are counted one by one, the rest as waves. The energy does not
            depend on it, the time does: pairs grow with its cube, waves shrink with it. That of the network
            saves finding pairs twice; in cells of some hundred atoms and more a longer one is quicker.
        accuracy: the factor by which the terms that Ewald's sum leaves out are damped; the energy of a periodic system
            is then right to about accuracy · k_e Σ q² / 1 Å.
        inputs: what structures are, or any of their nodes. Needed only where the charges are an input, since the graph
            of predicted ones leads to theirs.
        finder: how pairs are found, where the graph has none within that cutoff.
        name: what the energy is called.
        db_name: the column of true values, where there is one.
    """

    def __init__(
        self,
        charges: Node,
        cutoff: float = 6.0,
        accuracy: float = 1e-8,
        inputs: Inputs | Sequence[Node] = (),
        finder: Finder | None = None,
        name: str = "coulomb_energy",
        db_name: str | None = None,
    ):
        charges, inputs = with_structure(charges, inputs)
        vectors = pair_vectors(inputs, cutoff, finder)
        structure = (inputs.positions, inputs.cell, inputs.pbc, inputs.n_atoms, inputs.system_of_atom)
        parents = (charges, *structure, vectors.i, vectors.j, vectors.output("distance"))
        super().__init__(name, parents, CoulombEnergy(cutoff, accuracy), db_name, Axis.SYSTEM, "eV", ())


def open_pairs(n_atoms: torch.Tensor, periodic: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pair of atoms of one system once, for all systems (S,) that are not periodic: two indices (P,)."""
    ends = torch.repeat_interleave(n_atoms.cumsum(0), n_atoms)  # (N,) where the atom's system ends
    atoms = torch.arange(len(ends), device=n_atoms.device)
    later = torch.where(torch.repeat_interleave(periodic, n_atoms), 0, ends - atoms - 1)  # atoms of it that follow
    first = torch.repeat_interleave(atoms, later)
    starts = later.cumsum(0) - later
    second = first + 1 + torch.arange(len(first), device=n_atoms.device) - starts[first]
    return first, second


def _all_periodic(pbc: torch.Tensor) -> torch.Tensor:
    """Which systems (S,) are periodic in all directions; a slab or a wire is a ValueError that names it."""
    directions = pbc.sum(dim=1)
    between = (directions > 0) & (directions < 3)
    if bool(between.any()):
        system = int(torch.nonzero(between)[0, 0])
        raise ValueError(
            f"System {system} is periodic in {int(directions[system])} of 3 directions ({pbc[system].tolist()}). The "
            "bare Coulomb energy is computed for open systems and for those periodic in all three directions. Set pbc "
            "to one of these (with vacuum in the cell where nothing is), or use ScreenedCoulombNode."
        )
    return directions == 3


def charge_of_each_atom(charges: torch.Tensor, n_atoms: int) -> torch.Tensor:
    """Charges (N,), float64, from (N,) or (N, 1)."""
    if charges.shape not in ((n_atoms,), (n_atoms, 1)):
        raise ValueError(f"The charges have shape {tuple(charges.shape)}, expected one for each of {n_atoms} atoms.")
    return charges.reshape(n_atoms).double()


def with_structure(charges: Node, inputs: Inputs | Sequence[Node]) -> tuple[Node, Inputs]:
    """The node of the charges, which must be one number an atom, and the inputs that go with it."""
    charges = one_number(charges, Axis.ATOM, "The charges of a Coulomb energy", "Give a ChargesNode.")
    return charges, inputs if isinstance(inputs, Inputs) else Inputs.around(charges, *inputs)
