"""The Coulomb energy of pairs within a cutoff, with forms that replace 1/r and are zero there in value and slope.

A new form is a class here, and a line in `SCREENINGS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from difflib import get_close_matches

import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs
from forcefoundry.pairs import Finder, pair_vectors
from forcefoundry.targets.coulomb import COULOMB_CONSTANT, charge_of_each_atom, with_structure
from forcefoundry.targets.sums import over_systems


class Screening(torch.nn.Module, ABC):
    """A function of the distance that stands in for 1/r up to a cutoff (Å)."""

    def __init__(self, cutoff: float):
        super().__init__()
        self.cutoff = cutoff

    @abstractmethod
    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Values (P,), 1/Å, at distances (P,), Å, all below the cutoff."""


class DampedShiftedForce(Screening):
    """v(r) - v(R) - v'(R) (r - R) with v(r) = erfc(α r)/r and the cutoff R.

    Fennell and Gezelter, J. Chem. Phys. 124, 234104, 2006 (doi:10.1063/1.2206581): Wolf's sum (J. Chem.
    Phys. 110, 8254, 1999) made such that the force, too, is continuous at the cutoff. The terms of each charge with
    itself, a multiple of q², are not in it: the energy is one of pairs.

    Args:
        cutoff: R, Å.
        alpha: α, 1/Å; larger ones forget more of what is far away. The paper advises 0.2 for cutoffs of 12 Å and more.
    """

    def __init__(self, cutoff: float, alpha: float = 0.2):
        super().__init__(cutoff)
        if not (math.isfinite(alpha) and alpha >= 0.0):
            raise ValueError(f"The damping alpha is {alpha} 1/Å, expected a number of at least 0, say 0.2.")
        self.alpha = alpha
        self.value = math.erfc(alpha * cutoff) / cutoff
        gaussian = 2.0 * alpha / math.sqrt(math.pi) * math.exp(-((alpha * cutoff) ** 2))
        self.slope = -(self.value + gaussian) / cutoff

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Values (P,), 1/Å, at distances (P,), Å."""
        return torch.erfc(self.alpha * distance) / distance - self.value - self.slope * (distance - self.cutoff)


class ShiftedForce(DampedShiftedForce):
    """1/r - 1/R + (r - R)/R²: the damped shifted force without damping (Fennell and Gezelter 2006, α = 0)."""

    def __init__(self, cutoff: float):
        super().__init__(cutoff, alpha=0.0)


class CosineWindow(Screening):
    """cos²(π r / 2R) / r: 1/r in the window of HIP-NN's sensitivities (Lubbers et al. 2018)."""

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Values (P,), 1/Å, at distances (P,), Å."""
        return torch.cos((0.5 * math.pi / self.cutoff) * distance).square() / distance


SCREENINGS: dict[str, type[Screening]] = {
    "damped_shifted_force": DampedShiftedForce,
    "shifted_force": ShiftedForce,
    "cosine": CosineWindow,
}
"""Every form by its name."""


def make_screening(name: str, cutoff: float) -> Screening:
    """The screening of that name at its defaults; an unknown name is a ValueError that says the nearest."""
    if name not in SCREENINGS:
        near = get_close_matches(name, SCREENINGS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(SCREENINGS)}."
        raise ValueError(f"The screening is {name!r}, which is not known. {hint}")
    return SCREENINGS[name](cutoff)


class LocalDamping(torch.nn.Module):
    """1 - cos²(π r / 2R) below the radius R (Å), 1 beyond, with a continuous slope.

    Takes the Coulomb energy away where atoms are so near that charges on points are no picture of them, and leaves
    that range to the network.
    """

    def __init__(self, radius: float):
        super().__init__()
        self.radius = radius

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Factors (P,) at distances (P,), Å."""
        # 1 - cos² = sin², which is 1 with slope 0 at R: clamped there, it stays so.
        return torch.sin((0.5 * math.pi / self.radius) * distance.clamp(max=self.radius)).square()


class ScreenedCoulomb(torch.nn.Module):
    """k_e Σ_{i<j} q_i q_j s(r_ij) over pairs within a cutoff, with a screened form s in place of 1/r.

    Args:
        screening: s.
        local_radius: Å; where given, s is damped away at distances below it, as in `LocalDamping`.
    """

    def __init__(self, screening: Screening, local_radius: float | None = None):
        super().__init__()
        self.screening = screening
        self.local = LocalDamping(local_radius) if local_radius is not None else None

    def forward(
        self,
        charges: torch.Tensor,
        n_atoms: torch.Tensor,
        system_of_atom: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        distance: torch.Tensor,
    ) -> torch.Tensor:
        """Energies (S,), eV, float64, of charges (N,) or (N, 1), e, and ordered pairs at distances (P,), Å."""
        q = charge_of_each_atom(charges, len(system_of_atom))
        terms = 0.5 * q[i] * q[j] * self.screening(distance)  # each pair stands there in both directions
        if self.local is not None:
            terms = terms * self.local(distance)
        return COULOMB_CONSTANT * over_systems(terms, n_atoms, system_of_atom[i])


class ScreenedCoulombNode(Node):
    """The energy of charges whose interaction is screened to end at a cutoff (S,), eV; any boundaries.

    Value and force are continuous at the cutoff. Energies of pairs only: a charge has none with itself.

    Args:
        charges: (N,) e, as for `CoulombNode`.
        cutoff: Å. That of the network saves finding pairs twice.
        screening: the form that replaces 1/r: a name out of `SCREENINGS`, or a module made with that cutoff.
        local_radius: Å; where given, the interaction is damped away at distances below it and left to the network.
        inputs, finder, name, db_name: as for `CoulombNode`.
    """

    def __init__(
        self,
        charges: Node,
        cutoff: float,
        screening: str | Screening = "damped_shifted_force",
        local_radius: float | None = None,
        inputs: Inputs | Sequence[Node] = (),
        finder: Finder | None = None,
        name: str = "screened_coulomb_energy",
        db_name: str | None = None,
    ):
        charges, inputs = with_structure(charges, inputs)
        vectors = pair_vectors(inputs, cutoff, finder)
        form = make_screening(screening, cutoff) if isinstance(screening, str) else screening
        if form.cutoff != cutoff:
            raise ValueError(f"The screening ends at {form.cutoff} Å and the pairs at {cutoff} Å. Make both the same.")
        if local_radius is not None and not 0.0 < local_radius <= cutoff:
            raise ValueError(
                f"The local radius is {local_radius} Å, expected above 0 and within the cutoff, {cutoff} Å."
            )
        parents = (charges, inputs.n_atoms, inputs.system_of_atom, vectors.i, vectors.j, vectors.output("distance"))
        super().__init__(name, parents, ScreenedCoulomb(form, local_radius), db_name, Axis.SYSTEM, "eV", ())
