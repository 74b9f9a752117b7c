"""Neighbour sums as batched matrix products against scattering, in a whole training step; interleaved, as a ratio.

    python -m benchmarks.neighbour_sums [--rounds 15]

Both compute energy, forces and the gradient of a loss of both for the same HIP-NN on the same made-up neighbourhoods,
one thread. Figures are milliseconds of wall time, medians; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
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
        """Σ_j weights_ij ⊗ features_j for each atom i, (N, ν, F)."""
        atom = torch.arange(self.n_atoms).repeat_interleave(self.width)
        products = weights[:, :, None] * features[self._neighbour][:, None, :]
        return weights.new_zeros(self.n_atoms, *products.shape[1:]).index_add(0, atom, products)


def milliseconds(kind: type[Neighbourhood], network: HIPNN, i: torch.Tensor, j: torch.Tensor) -> float:
    """One step: features, energy, forces, and the gradient of a loss of both."""
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    distance = (torch.rand(len(i), generator=generator) * 3.5 + 1.0).requires_grad_()
    near = kind(i, j, distance, int(i.max()) + 1, network.cutoff)
    z = network.encoder(torch.full((near.n_atoms,), 6), distance.dtype)
    for block in network.blocks:
        z = block(z, near)
    energy = z.sum()
    (forces,) = torch.autograd.grad(energy, distance, create_graph=True)
    (energy**2 + (forces**2).sum()).backward()
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'set':<22}{'products':>10}{'scattered':>11}{'ratio':>8}")
    for name, (n_atoms, width, n_blocks) in SETS.items():
        network = HIPNN([6], 20, 16, 0.75, 4.0, 5.0, n_blocks, 2)
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
        print(f"{name:<22}{statistics.median(products):>10.1f}{statistics.median(scattered):>11.1f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
