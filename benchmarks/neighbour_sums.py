"""Neighbour sums as batched matrix products against scattering, in a whole training step; interleaved, as a ratio.

    python -m benchmarks.neighbour_sums [--rounds 15]

Both compute energy, forces and the gradient of a loss of both for the same HIP-NN on the same made-up neighbourhoods,
one thread. Figures are milliseconds of wall time, medians; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import torch

from forcefoundry.networks.environment import Neighbourhood
from forcefoundry.networks.hipnn import HIPNN

SETS = {
    "8 molecules": (72, 8, 2),
    "16 molecules": (144, 8, 2),
    "4 cells of 32 atoms": (128, 40, 1),
    "4 cells of 64 atoms": (256, 28, 2),
}
"""Name to number of atoms, neighbours an atom, interaction blocks."""


class Scattered(Neighbourhood):
    """The same sums by scattering the product of each pair onto its atom."""

    def sum(self, weights: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Σ_j m_ij ⊗ weights_ij ⊗ features_j for each atom i, (N, (l_max + 1)², ν · F)."""
        if self.moments is not None:
            weights = (self.moments * weights[:, None]).flatten(1, 2)
        n_moments = 1 if self.moments is None else self.moments.shape[1]
        atom = torch.arange(self.n_atoms).repeat_interleave(self.width)
        pairs = weights.transpose(1, 2).flatten(0, 1)  # (N · width, (l_max + 1)² · ν)
        products = pairs[:, :, None] * features[self._neighbour][:, None, :]
        sums = weights.new_zeros(self.n_atoms, *products.shape[1:]).index_add(0, atom, products)
        return sums.view(self.n_atoms, n_moments, -1)


def milliseconds(kind: type[Neighbourhood], network: HIPNN, i: torch.Tensor, j: torch.Tensor) -> float:
    """One step: features, energy, forces, and the gradient of a loss of both."""
    generator = torch.Generator().manual_seed(0)
    away = torch.randn(len(i), 3, generator=generator)
    away *= (torch.rand(len(i), 1, generator=generator) * 3.5 + 1.0) / away.norm(dim=1, keepdim=True)
    started = time.perf_counter()
    positions = torch.zeros(int(i.max()) + 1, 3, requires_grad=True)
    vector = away + positions[j] - positions[i]
    distance = torch.linalg.vector_norm(vector, dim=1)
    near = kind(i, j, vector, distance, len(positions), network.cutoff, network.l_max)
    z = network.encoder(torch.full((near.n_atoms,), 6), distance.dtype)
    for block in network.blocks:
        z = block(z, near)
    energy = z.sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    (energy**2 + (gradient**2).sum()).backward()
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'set':<22}{'l_max':>6}{'products':>10}{'scattered':>11}{'ratio':>8}")
    for (name, (n_atoms, width, n_blocks)), l_max in itertools.product(SETS.items(), (0, 1, 2)):
        network = HIPNN([6], 20, 16, 0.75, 4.0, 5.0, n_blocks, 2, l_max=l_max)
        i = torch.arange(n_atoms).repeat_interleave(width)
        j = torch.randint(0, n_atoms, (len(i),), generator=torch.Generator().manual_seed(1))
        times: dict[type[Neighbourhood], list[float]] = {Neighbourhood: [], Scattered: []}
        for number in range(rounds + 2):
            for kind, found in times.items():
                taken = milliseconds(kind, network, i, j)
                if number >= 2:
                    found.append(taken)
        products, scattered = times[Neighbourhood], times[Scattered]
        ratio = statistics.median(b / a for a, b in zip(products, scattered, strict=True))
        medians = f"{statistics.median(products):>10.1f}{statistics.median(scattered):>11.1f}"
        print(f"{name:<22}{l_max:>6}{medians}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
