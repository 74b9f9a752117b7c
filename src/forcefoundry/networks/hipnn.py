"""HIP-NN, the hierarchically interacting particle network (Lubbers et al., J. Chem. Phys. 148, 241715, 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import softplus

from forcefoundry.networks.base import Network, SpeciesEncoder
from forcefoundry.networks.environment import Neighbourhood


class Sensitivity(torch.nn.Module):
    """Radial functions s_ν(r) = exp(-σ_ν² (1/r - 1/μ_ν)² / 2) · cos²(π r / 2 R) for r ≤ R, else 0.

    Lubbers et al. 2018, equations 5 to 7. μ (Å) and σ (Å) are trained; at the start 1/μ is evenly spaced between
    1/soft_max and 1/soft_min and σ = 2 · n · soft_min.
    """

    def __init__(self, n_sensitivities: int, soft_min: float, soft_max: float):
        super().__init__()
        inverse = torch.linspace(1.0 / soft_max, 1.0 / soft_min, n_sensitivities, dtype=torch.float64)
        self.mu = torch.nn.Parameter((1.0 / inverse).to(torch.get_default_dtype()))
        self.sigma = torch.nn.Parameter(torch.full((n_sensitivities,), 2.0 * n_sensitivities * soft_min))

    def forward(self, near: Neighbourhood) -> torch.Tensor:
        """Values (N · width, ν) at the distances of the neighbourhood."""
        # (N · width, 1) - (ν,) -> (N · width, ν)
        deviation = self.sigma * (near.inverse - self.mu.reciprocal())
        return torch.exp(-0.5 * (deviation * deviation)) * near.window


class Residual(torch.nn.Module):
    """out = R · softplus(a) + c + skip(z), the residual form of one layer; the skip is A z where the widths differ."""

    def __init__(self, n_in: int, n_inner: int, n_out: int):
        super().__init__()
        self.output = torch.nn.Linear(n_inner, n_out)
        self.skip = torch.nn.Identity() if n_in == n_out else torch.nn.Linear(n_in, n_out, bias=False)

    def forward(self, activation: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Combine the pre-activation a (N, n_inner) with the layer's input z (N, n_in) to (N, n_out)."""
        result: torch.Tensor = self.output(softplus(activation)) + self.skip(z)
        return result


class Interaction(torch.nn.Module):
    """a_i = Σ_ν V^ν Σ_j s_ν(r_ij) z_j + W z_i + b, then the residual form."""

    def __init__(self, n_in: int, n_inner: int, n_out: int, sensitivity: Sensitivity):
        super().__init__()
        self.sensitivity = sensitivity
        n_sensitivities = len(sensitivity.mu)
        self.V = torch.nn.Parameter(torch.empty(n_sensitivities, n_inner, n_in))
        self.self_interaction = torch.nn.Linear(n_in, n_inner)
        self.residual = Residual(n_in, n_inner, n_out)
        torch.nn.init.xavier_normal_(self.V)
        torch.nn.init.xavier_normal_(self.self_interaction.weight)

    def forward(self, z: torch.Tensor, near: Neighbourhood) -> torch.Tensor:
        """Features (N, n_out) from features (N, n_in)."""
        environment = near.sum(self.sensitivity(near), z)  # (N, ν, n_in)
        mixing = self.V.transpose(1, 2).flatten(0, 1)  # (ν · n_in, n_inner)
        activation = environment.flatten(1) @ mixing + self.self_interaction(z)
        result: torch.Tensor = self.residual(activation, z)
        return result


class AtomLayer(torch.nn.Module):
    """A layer on each atom alone, in the residual form."""

    def __init__(self, n_features: int, n_inner: int):
        super().__init__()
        self.linear = torch.nn.Linear(n_features, n_inner)
        self.residual = Residual(n_features, n_inner, n_features)
        torch.nn.init.xavier_normal_(self.linear.weight)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Features (N, n_features) from features (N, n_features)."""
        result: torch.Tensor = self.residual(self.linear(z), z)
        return result


class Block(torch.nn.Module):
    """One interaction layer and the atom layers after it."""

    def __init__(self, interaction: Interaction, n_features: int, n_inner: int, n_atom_layers: int):
        super().__init__()
        self.interaction = interaction
        self.atom_layers = torch.nn.ModuleList(AtomLayer(n_features, n_inner) for _ in range(n_atom_layers))

    def forward(self, z: torch.Tensor, near: Neighbourhood) -> torch.Tensor:
        """The features of the next level, (N, n_features)."""
        z = self.interaction(z, near)
        for layer in self.atom_layers:
            z = layer(z)
        return z


class HIPNN(Network):
    """HIP-NN with scalar sensitivities, ResNet form.

    Args:
        species: atomic numbers, in the order of the one-hot encoding.
        n_features: width of the features after each interaction block; one number for all, or one a block.
        n_sensitivities: number of radial functions n_ν.
        soft_min, soft_max: Å, between which the radial functions start out.
        cutoff: Å, where interactions end.
        n_interactions: number of blocks; each is one interaction layer and the atom layers after it.
        n_atom_layers: number of layers on the atom in each block; 0 is allowed.
        n_inner: inner width of each block's layers; the block's features where None.
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
        self.encoder = SpeciesEncoder(species)
        self.species = self.encoder.numbers
        self.cutoff = float(cutoff)
        widths = _one_a_block("n_features", n_features, n_interactions)
        inner = widths if n_inner is None else _one_a_block("n_inner", n_inner, n_interactions)
        self.feature_sizes = (len(self.species), *widths)
        self.blocks = torch.nn.ModuleList()
        for n_in, n_out, n_mid in zip(self.feature_sizes, widths, inner, strict=False):
            sensitivity = Sensitivity(n_sensitivities, soft_min, soft_max)
            self.blocks.append(Block(Interaction(n_in, n_mid, n_out, sensitivity), n_out, n_mid, n_atom_layers))

    def forward(
        self, species: torch.Tensor, i: torch.Tensor, j: torch.Tensor, vector: torch.Tensor, distance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Features (N, width) of each level; see `Network.forward`."""
        dtype = next(self.blocks.parameters()).dtype
        z = self.encoder(species, dtype)
        near = Neighbourhood(i, j, distance.to(dtype), len(species), self.cutoff)
        levels = [z]
        for block in self.blocks:
            z = block(z, near)
            levels.append(z)
        return tuple(levels)

    def penalised(self) -> list[torch.Tensor]:
        """V, W, R and A of all layers; no bias, no sensitivity parameter, no readout."""
        return [weight for name, weight in self.named_parameters() if name.endswith((".V", ".weight"))]


def _one_a_block(name: str, value: int | Sequence[int], n_blocks: int) -> tuple[int, ...]:
    widths = (value,) * n_blocks if isinstance(value, int) else tuple(value)
    if len(widths) != n_blocks or any(width < 1 for width in widths):
        raise ValueError(f"{name} is {value}, expected one positive width or {n_blocks} of them, one a block.")
    return widths
