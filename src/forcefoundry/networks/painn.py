"""PaiNN, the polarizable atom interaction network (Schütt, Unke and Gastegger, ICML 2021, arXiv:2102.03150)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import silu

from forcefoundry.networks.base import Network, SpeciesEncoder

SOFTENING = 1e-2
"""ε in ‖v‖ = √(v·v + ε): symmetry makes v zero, in a crystal for one, and energies have to be smooth there as well."""


class Surroundings:
    """What messages need to know of the pairs.

    Sums over neighbours are scattered. Slots as in `Neighbourhood` were at most a sixth faster in a whole training
    step here, where filters are made for each pair and not for each atom, and slower where sizes are mixed.

    Args:
        i, j: (P,) the pairs' atoms.
        vector: (P, 3) from i to j, Å.
        distance: (P,) its length, Å.
        n_atoms: N.
        n_radial: number of radial functions.
        cutoff: R, Å.

    Attributes:
        j: (P,) the neighbours.
        direction: (P, 3, 1) the vectors divided by their lengths.
        radial: (P, n_radial) sin(n π r / R) / r · (cos(π r / R) + 1) / 2, 1/Å, n from 1; 0 from R on.
    """

    def __init__(
        self,
        i: torch.Tensor,
        j: torch.Tensor,
        vector: torch.Tensor,
        distance: torch.Tensor,
        n_atoms: int,
        n_radial: int,
        cutoff: float,
    ):
        self._i, self.j, self._n_atoms = i, j, n_atoms
        r = distance[:, None]
        self.direction = (vector / r)[:, :, None]
        # (cos(π r / R) + 1) / 2 written as a square, which keeps its digits near R.
        half = torch.cos(0.5 * math.pi / cutoff * r)
        window = torch.where(r < cutoff, half * half, 0.0)
        n = torch.arange(1, n_radial + 1, device=r.device, dtype=r.dtype)
        self.radial = torch.sin(math.pi / cutoff * n * r) * (window / r)

    def of_neighbours(self, features: torch.Tensor) -> torch.Tensor:
        """The features of each pair's neighbour, (P, ...), from those of atoms, (N, ...)."""
        return features.index_select(0, self.j)

    def sum(self, messages: torch.Tensor) -> torch.Tensor:
        """Σ_j for each atom i: (P, ...) to (N, ...)."""
        return messages.new_zeros(self._n_atoms, *messages.shape[1:]).index_add(0, self._i, messages)


class Message(torch.nn.Module):
    """What atoms hear from their neighbours, added to what they have: the message block of the paper.

    Δs_i = Σ_j φ_s(s_j) ∘ W_s(r_ij),
    Δv_i = Σ_j φ_vs(s_j) ∘ W_vs(r_ij) r_ij / |r_ij| + Σ_j v_j ∘ φ_vv(s_j) ∘ W_vv(r_ij).

    Filters W are linear in the radial functions, without a constant term. The radial functions fall off as (R - r)³,
    which leaves energies two continuous derivatives at the cutoff; a constant times the window would leave them one.

    Args:
        n_features: F, the number of scalars and of vectors.
        n_radial: number of radial functions.
        first: whether vectors are zero so far, so that the last sum has nothing to add.
    """

    def __init__(self, n_features: int, n_radial: int, first: bool):
        super().__init__()
        n_parts = 2 if first else 3
        self.hidden = torch.nn.Linear(n_features, n_features)
        self.output = torch.nn.Linear(n_features, n_parts * n_features)
        self.filters = torch.nn.ModuleList(torch.nn.Linear(n_radial, n_features, bias=False) for _ in range(n_parts))

    def forward(self, s: torch.Tensor, v: torch.Tensor | None, near: Surroundings) -> tuple[torch.Tensor, torch.Tensor]:
        """Scalars (N, F) and vectors (N, 3, F) from the same; vectors None are zeros."""
        phi = self.output(silu(self.hidden(s))).chunk(len(self.filters), dim=1)  # each (N, F)
        W = [linear(near.radial) for linear in self.filters]  # each (P, F)
        heard = near.sum(near.of_neighbours(phi[0]) * W[0])  # (N, F)
        pointing = near.direction * (near.of_neighbours(phi[1]) * W[1])[:, None]  # (P, 3, F)
        if v is None:
            return s + heard, near.sum(pointing)
        carried = near.of_neighbours(v * phi[2][:, None]) * W[2][:, None]  # (P, 3, F)
        return s + heard, v + near.sum(pointing + carried)


class Update(torch.nn.Module):
    """What the scalars and vectors of an atom make of each other, added to what it has: the update block of the paper.

    Δs = a_ss + a_sv ∘ ⟨U v, V v⟩, Δv = a_vv ∘ U v, with all a from s and ‖V v‖.

    Args:
        n_features: F, the number of scalars and of vectors.
        last: whether nobody looks at the vectors afterwards, so that they are left as they are.
    """

    def __init__(self, n_features: int, last: bool):
        super().__init__()
        self.n_parts = 2 if last else 3
        self.U = torch.nn.Linear(n_features, n_features, bias=False)
        self.V = torch.nn.Linear(n_features, n_features, bias=False)
        self.hidden = torch.nn.Linear(2 * n_features, n_features)
        self.output = torch.nn.Linear(n_features, self.n_parts * n_features)

    def forward(self, s: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scalars (N, F) and vectors (N, 3, F) from the same."""
        Uv, Vv = self.U(v), self.V(v)
        norm = torch.sqrt((Vv * Vv).sum(1) + SOFTENING)  # (N, F)
        a = self.output(silu(self.hidden(torch.cat([s, norm], dim=1)))).chunk(self.n_parts, dim=1)  # each (N, F)
        s = s + a[0] + a[1] * (Uv * Vv).sum(1)
        return s, v if self.n_parts == 2 else v + a[2][:, None] * Uv


class PaiNN(Network):
    """PaiNN, with scalar features and vector features that turn with the structure.

    Level 1 is the hidden layer of the paper's atomwise readout, silu of F/2 linear combinations of the last scalars,
    which the linear readout of the energy completes. What cannot reach an energy has no weights: the first message
    carries no vectors, since there are none yet, and the last update makes none.

    Args:
        species: atomic numbers, in the order of the one-hot encoding.
        n_features: F, the number of scalars and of vectors.
        n_radial: number of radial functions.
        cutoff: R, Å, where interactions end.
        n_interactions: number of blocks; each is a message and an update.
    """

    def __init__(
        self,
        species: Sequence[int],
        n_features: int = 32,
        n_radial: int = 8,
        cutoff: float = 5.0,
        n_interactions: int = 3,
    ):
        super().__init__()
        if not cutoff > 0:
            raise ValueError(f"cutoff is {cutoff}, expected more than 0 Å.")
        for name, number, least in (
            ("n_features", n_features, 2),
            ("n_radial", n_radial, 1),
            ("n_interactions", n_interactions, 1),
        ):
            if number < least:
                raise ValueError(f"{name} is {number}, expected at least {least}.")
        self.encoder = SpeciesEncoder(species)
        self.species = self.encoder.numbers
        self.cutoff = float(cutoff)
        self.n_radial = n_radial
        self.feature_sizes = (len(self.species), n_features // 2)
        self.embedding = torch.nn.Linear(len(self.species), n_features, bias=False)
        last = n_interactions - 1
        self.messages = torch.nn.ModuleList(
            Message(n_features, n_radial, first=block == 0) for block in range(n_interactions)
        )
        self.updates = torch.nn.ModuleList(Update(n_features, last=block == last) for block in range(n_interactions))
        self.atomwise = torch.nn.Linear(n_features, n_features // 2)
        self._initialise()

    def forward(
        self, species: torch.Tensor, i: torch.Tensor, j: torch.Tensor, vector: torch.Tensor, distance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The one-hot species and level 1, (N, F/2); see `Network.forward`."""
        dtype = self.embedding.weight.dtype
        one_hot = self.encoder(species, dtype)
        near = Surroundings(i, j, vector.to(dtype), distance.to(dtype), len(species), self.n_radial, self.cutoff)
        s: torch.Tensor = self.embedding(one_hot)
        v: torch.Tensor | None = None
        for message, update in zip(self.messages, self.updates, strict=True):
            s, v = update(*message(s, v, near))
        return one_hot, silu(self.atomwise(s))

    def penalised(self) -> list[torch.Tensor]:
        """All matrices; no bias, no readout."""
        return [weight for name, weight in self.named_parameters() if name.endswith(".weight")]

    def _initialise(self) -> None:
        for part in self.modules():
            if isinstance(part, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    torch.nn.init.zeros_(part.bias)
        torch.nn.init.normal_(self.embedding.weight)
