"""HIP-NN, the hierarchically interacting particle network, and HIP-NN-TS, with tensor sensitivities.

Lubbers et al., J. Chem. Phys. 148, 241715 (2018); Chigaev et al., J. Chem. Phys. 158, 184108 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from forcefoundry.networks.activations import activation_of
from forcefoundry.networks.base import Network, SpeciesEncoder
from forcefoundry.networks.environment import Neighbourhood
from forcefoundry.networks.layers import AtomLayer, Form
from forcefoundry.networks.sensitivity import Sensitivity


class Interaction(torch.nn.Module):
    """a_i = Σ_ν V^ν Σ_j s_ν(r_ij) z_j + W z_i + b, and what tensor sensitivities add; then f, and the residual form.

    Chigaev et al. 2023: with unit vectors u_ij, the same V makes a vector of Σ_j s_ν(r_ij) u_ij z_j (l_max 1) and a
    traceless symmetric matrix of Σ_j s_ν(r_ij) (u_ij u_ijᵀ - 1/3) z_j (l_max 2). Their lengths √(|·|² + ε), times t_1
    and t_2, one number a feature, are added to a_i. ε, the cusp, keeps derivatives finite where a length is 0, as it is
    for an atom without neighbours.
    """

    def __init__(
        self, n_in: int, n_inner: int, n_out: int, sensitivity: Sensitivity, form: Form, l_max: int, cusp: float
    ):
        super().__init__()
        self.sensitivity = sensitivity
        self.cusp = cusp
        self.V = torch.nn.Parameter(torch.empty(len(sensitivity.mu), n_inner, n_in))
        self.self_interaction = torch.nn.Linear(n_in, n_inner)
        self.residual = form.closing(n_in, n_inner, n_out)
        torch.nn.init.xavier_normal_(self.V)
        torch.nn.init.xavier_normal_(self.self_interaction.weight)
        self.scale_names = [f"t{order}" for order in range(1, l_max + 1)]
        for name in self.scale_names:
            self.register_parameter(name, torch.nn.Parameter(torch.randn(n_inner)))

    def forward(self, z: torch.Tensor, near: Neighbourhood) -> torch.Tensor:
        """Features (N, n_out) from features (N, n_in)."""
        mixing = self.V.transpose(1, 2).flatten(0, 1)  # (ν · n_in, n_inner)
        mixed = near.sum(self.sensitivity(near), z) @ mixing  # (N, (l_max + 1)², n_inner)
        a = mixed[:, 0] + self.self_interaction(z)
        for order, name in enumerate(self.scale_names, start=1):
            part = mixed[:, order**2 : (order + 1) ** 2]
            a = a + getattr(self, name) * torch.sqrt((part * part).sum(dim=1) + self.cusp)
        result: torch.Tensor = self.residual(a, z)
        return result


class Block(torch.nn.Module):
    """One interaction layer and the atom layers after it."""

    def __init__(self, interaction: Interaction, n_features: int, n_inner: int, n_atom_layers: int, form: Form):
        super().__init__()
        self.interaction = interaction
        self.atom_layers = torch.nn.ModuleList(AtomLayer(n_features, n_inner, form) for _ in range(n_atom_layers))

    def forward(self, z: torch.Tensor, near: Neighbourhood) -> torch.Tensor:
        """The features of the next level, (N, n_features)."""
        z = self.interaction(z, near)
        for layer in self.atom_layers:
            z = layer(z)
        return z


class HIPNN(Network):
    """HIP-NN, and HIP-NN-TS where l_max is above 0.

    Args:
        species: atomic numbers, in the order of the one-hot encoding.
        n_features: width of the features after each interaction block; one number for all, or one a block.
        n_sensitivities: number of radial functions n_ν.
        soft_min, soft_max: Å, between which the radial functions start out.
        cutoff: Å, where interactions end.
        n_interactions: number of blocks; each is one interaction layer and the atom layers after it.
        n_atom_layers: number of layers on the atom in each block; 0 is allowed.
        n_inner: inner width of each block's layers; the block's features where None.
        l_max: how much atoms see of the directions of their neighbours: 0 nothing, 1 vectors, 2 quadrupoles as well.
        cusp: ε in the lengths √(|·|² + ε) of vectors and quadrupoles; above 0, and without meaning for l_max 0.
        resnet: whether layers have the residual form; without it they have no inner width.
        activation: the name of the layers' function, one of `activations.ACTIVATIONS`.

    Raises:
        ValueError: for arguments that make no network, each named with what is expected.
    """

    def __init__(
        self,
        species: Sequence[int],
        n_features: int | Sequence[int] = 20,
        n_sensitivities: int = 20,
        soft_min: float = 0.85,
        soft_max: float = 5.0,
        cutoff: float = 7.0,
        n_interactions: int = 2,
        n_atom_layers: int = 3,
        n_inner: int | Sequence[int] | None = None,
        l_max: int = 0,
        cusp: float = 1e-6,
        resnet: bool = True,
        activation: str = "softplus",
    ):
        super().__init__()
        if not 0 < soft_min < soft_max <= cutoff:
            raise ValueError(
                f"The sensitivities need 0 < soft_min < soft_max <= cutoff, got {soft_min}, {soft_max}, {cutoff} Å."
            )
        for name, number, least in (
            ("n_sensitivities", n_sensitivities, 1),
            ("n_interactions", n_interactions, 1),
            ("n_atom_layers", n_atom_layers, 0),
        ):
            if number < least:
                raise ValueError(f"{name} is {number}, expected at least {least}.")
        if l_max not in (0, 1, 2):
            raise ValueError(f"l_max is {l_max}, expected 0 (distances), 1 (and vectors) or 2 (and quadrupoles).")
        if not 0 < cusp < math.inf:
            raise ValueError(f"cusp is {cusp}, expected a small number above 0, for instance 1e-6.")
        if n_inner is not None and not resnet:
            raise ValueError(
                f"n_inner is {n_inner}, but without the residual form layers have no inner width. Leave n_inner out, "
                "or set resnet to True."
            )
        form = Form(activation_of(activation), resnet)
        self.encoder = SpeciesEncoder(species)
        self.species = self.encoder.numbers
        self.cutoff = float(cutoff)
        self.l_max = int(l_max)
        widths = _one_a_block("n_features", n_features, n_interactions)
        inner = widths if n_inner is None else _one_a_block("n_inner", n_inner, n_interactions)
        self.feature_sizes = (len(self.species), *widths)
        self.blocks = torch.nn.ModuleList()
        for n_in, n_out, n_mid in zip(self.feature_sizes, widths, inner, strict=False):
            sensitivity = Sensitivity(n_sensitivities, soft_min, soft_max)
            interaction = Interaction(n_in, n_mid, n_out, sensitivity, form, l_max, cusp)
            self.blocks.append(Block(interaction, n_out, n_mid, n_atom_layers, form))

    def forward(
        self, species: torch.Tensor, i: torch.Tensor, j: torch.Tensor, vector: torch.Tensor, distance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Features (N, width) of each level; see `Network.forward`."""
        dtype = next(self.blocks.parameters()).dtype
        z = self.encoder(species, dtype)
        near = Neighbourhood(i, j, vector, distance, len(species), self.cutoff, self.l_max, dtype)
        levels = [z]
        for block in self.blocks:
            z = block(z, near)
            levels.append(z)
        return tuple(levels)

    def penalised(self) -> list[torch.Tensor]:
        """V, W, R and A of all layers; no bias, no sensitivity parameter, no scale of a tensor, no readout."""
        return [weight for name, weight in self.named_parameters() if name.endswith((".V", ".weight"))]


def _one_a_block(name: str, value: int | Sequence[int], n_blocks: int) -> tuple[int, ...]:
    widths = (value,) * n_blocks if isinstance(value, int) else tuple(value)
    if len(widths) != n_blocks or any(width < 1 for width in widths):
        raise ValueError(f"{name} is {value}, expected one positive width or {n_blocks} of them, one a block.")
    return widths
