"""The radial functions of HIP-NN."""

from __future__ import annotations

import torch

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
        """Values (N, ν, width) at the distances of the neighbourhood."""
        # (ν, 1) · ((N, 1, width) - (ν, 1)) -> (N, ν, width)
        deviation = self.sigma[:, None] * (near.inverse - self.mu.reciprocal()[:, None])
        return torch.exp(-0.5 * (deviation * deviation)) * near.window
