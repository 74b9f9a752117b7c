"""Sums over the neighbours of each atom, the inner loop of a message-passing network."""

from __future__ import annotations

import math

import torch


def moments(u: torch.Tensor, l_max: int) -> torch.Tensor:
    """Unit vectors u (N, width, 3) to (N, (l_max + 1)², width): 1, 3 and 5 numbers of orders 0, 1 and 2.

    Order 0 is 1, order 1 the vector u itself. Order 2 is u uᵀ - 1/3 in an orthonormal basis of the traceless symmetric
    matrices, so that the sum of the five squares is the squared Frobenius norm, also for sums of such matrices.
    """
    x, y, z = u.unbind(dim=2)
    found = [torch.ones_like(x)]
    if l_max >= 1:
        found += [x, y, z]
    if l_max >= 2:
        double = math.sqrt(2.0)
        found += [double * x * y, double * y * z, double * z * x]
        found += [(x * x - y * y) / double, (2.0 * z * z - x * x - y * y) / math.sqrt(6.0)]
    return torch.stack(found, dim=1)


class Neighbourhood:
    """The pairs of a batch, laid out for sums over neighbours.

    Each atom gets as many slots as the atom with most neighbours has. Sums over neighbours are then batched matrix
    products, which on a CPU are several times faster than scattering (pairs x radial x features) products, in the
    forward pass and in both derivatives. An empty slot has the cutoff as its distance, where every window is exactly
    0, so what else stands in it does not matter as long as it is finite.

    Args:
        i, j: (P,) the pairs' atoms, sorted by i.
        vector: (P, 3) from i to j, Å; not looked at where l_max is 0.
        distance: (P,) its length, Å.
        n_atoms: N.
        cutoff: Å.
        l_max: the highest order of the sums; sums over scalars only where it is 0.
        dtype: of the sums.

    Attributes:
        inverse: (N, 1, width) 1/r, 1/Å.
        window: (N, 1, width) cos²(π r / 2 R) for r < R, else exactly 0.
        moments: (N, (l_max + 1)², 1, width) of the directions u = D/r; None where l_max is 0.
    """

    def __init__(
        self,
        i: torch.Tensor,
        j: torch.Tensor,
        vector: torch.Tensor,
        distance: torch.Tensor,
        n_atoms: int,
        cutoff: float,
        l_max: int = 0,
        dtype: torch.dtype | None = None,
    ):
        self.n_atoms = n_atoms
        counts = torch.bincount(i, minlength=n_atoms)
        self.width = int(counts.max()) if len(i) else 0
        first = torch.cumsum(counts, 0) - counts
        slot = i * self.width + torch.arange(len(i), device=i.device) - first[i]
        n_slots = n_atoms * self.width
        self._neighbour = i.new_zeros(n_slots).index_copy(0, slot, j)
        dtype = dtype or distance.dtype
        r = distance.new_full((n_slots,), cutoff, dtype=dtype).index_copy(0, slot, distance.to(dtype))
        r = r.view(n_atoms, 1, self.width)
        cosine = torch.cos(0.5 * math.pi / cutoff * r)
        self.window = torch.where(r < cutoff, cosine * cosine, 0.0)
        self.inverse = r.reciprocal()
        self.moments: torch.Tensor | None = None
        if l_max:
            # In the precision that positions have, and only then in that of the sums.
            u = (vector * distance.reciprocal()[:, None]).to(dtype)
            in_slots = u.new_zeros(n_slots, 3).index_copy(0, slot, u)
            self.moments = moments(in_slots.view(n_atoms, self.width, 3), l_max)[:, :, None]

    def sum(self, weights: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Σ_j m_ij ⊗ weights_ij ⊗ features_j for each atom i, m being the moments of the pair's direction.

        From (N, ν, width) and (N, F) to (N, (l_max + 1)², ν · F).
        """
        n_weights, n_features = weights.shape[1], features.shape[1]
        neighbours = features.index_select(0, self._neighbour).view(self.n_atoms, self.width, n_features)
        if self.moments is None:
            return torch.bmm(weights, neighbours).view(self.n_atoms, 1, -1)
        # One product of two factors is written out for every pair, the largest array of all: that of the smaller ones.
        n_moments = self.moments.shape[1]
        if n_features < n_weights:
            directed = (self.moments * neighbours.transpose(1, 2)[:, None]).flatten(1, 2)
            sums = torch.bmm(directed, weights.transpose(1, 2))
            return sums.view(self.n_atoms, n_moments, n_features, n_weights).transpose(2, 3).flatten(2)
        directed = (self.moments * weights[:, None]).flatten(1, 2)
        return torch.bmm(directed, neighbours).view(self.n_atoms, n_moments, -1)
