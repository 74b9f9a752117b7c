"""Sums of 1/r over a periodic lattice by Ewald's method, in units of e²/Å: without the constant that makes eV of them.

With a Gaussian of width 1/α around every charge, the sum over pairs becomes one over near pairs of erfc(α r)/r and one
over waves of the smooth rest (Ewald, Ann. Phys. 369, 253, 1921; Frenkel and Smit, Understanding Molecular Simulation,
2nd edition, chapter 12.1):

    E = 1/2 Σ_pairs q_i q_j erfc(α r)/r                                                near pairs, both directions
      + 2π/V Σ_{k≠0} exp(-k²/4α²)/k² |Σ_i q_i exp(i k·r_i)|²                           waves
      - α/√π Σ_i q_i²                                                                  each Gaussian with itself
      - π/(2 α² V) (Σ_i q_i)²                                                          neutralising background

Leaving the wave k = 0 out means a conducting surrounding ("tin foil"), and for a charged cell a uniform background that
makes it neutral; the last term takes away what the Gaussians have with it, so that the energy does not depend on α
(Bogusz, Cheatham and Brooks, J. Chem. Phys. 108, 7070, 1998). The energy of a charged cell is that of the charges in
their background, which thins out as the cell grows: that, too, is in its stress.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

_PRODUCTS_AT_ONCE = 2_000_000
"""Small systems are filled up to one size and computed together, until this costs more than computing them apart."""


@dataclass(frozen=True)
class Splitting:
    """How the sum is shared between near pairs and waves.

    alpha: 1/Å, the inverse width of the Gaussians. k_cutoff: 1/Å; all waves up to this length are taken.
    """

    alpha: float
    k_cutoff: float

    @classmethod
    def of(cls, cutoff: float, accuracy: float) -> Splitting:
        """The splitting in which terms at either end are damped by the factor `accuracy`.

        At the pairs' cutoff (Å) exp(-α² cutoff²) = accuracy, at the waves' exp(-k²/4α²) = accuracy. It depends on
        nothing else, least of all on the cell: strained or not, the sum is split in one way.
        """
        if not 0.0 < accuracy < 1.0:
            raise ValueError(
                f"The accuracy of the Ewald sum is {accuracy}, expected a number between 0 and 1, say 1e-8."
            )
        steps = math.sqrt(-math.log(accuracy))
        alpha = steps / cutoff
        return cls(alpha, 2.0 * alpha * steps)


def near_terms(charges: torch.Tensor, i: torch.Tensor, j: torch.Tensor, r: torch.Tensor, alpha: float) -> torch.Tensor:
    """What each of the ordered pairs i, j at distances r (P,), Å, adds to the energy, (P,) e²/Å."""
    return 0.5 * charges[i] * charges[j] * torch.erfc(alpha * r) / r


def self_terms(charges: torch.Tensor, alpha: float) -> torch.Tensor:
    """What each atom has with its own Gaussian, (N,) e²/Å."""
    return -alpha / math.sqrt(math.pi) * charges * charges


def background_terms(total_charge: torch.Tensor, volume: torch.Tensor, alpha: float) -> torch.Tensor:
    """What systems of some total charge (S,), e, and volume (S,), Å³, have with their background, (S,) e²/Å."""
    return -math.pi / (2.0 * alpha**2) * total_charge * total_charge / volume


def wave_energies(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cell: torch.Tensor,
    n_atoms: torch.Tensor,
    systems: torch.Tensor,
    splitting: Splitting,
) -> torch.Tensor:
    """The sums over waves of some systems of a batch, in their order, e²/Å.

    Args:
        charges: (N,) e.
        positions: (N, 3) Å, in the cell or not.
        cell: (S, 3, 3) Å; those of the given systems have volume.
        n_atoms: (S,).
        systems: indices of the systems.
        splitting: α and the waves' reach.
    """
    starts, counts, cells = (n_atoms.cumsum(0) - n_atoms)[systems], n_atoms[systems], cell[systems]
    # A wave has k · a = 2π h for each lattice vector a, so |k| ≤ k_cutoff asks for |h| ≤ k_cutoff |a| / 2π.
    most = (torch.linalg.vector_norm(cells.detach(), dim=2) * (splitting.k_cutoff / (2.0 * math.pi))).long()
    groups = _groups([(count, *waves) for count, waves in zip(counts.tolist(), most.tolist(), strict=True)])
    parts = []
    for group in groups:
        rows = torch.tensor(group, device=cell.device)
        place = torch.arange(int(counts[rows].max()), device=cell.device)
        real = place < counts[rows, None]  # (G, n)
        atoms = starts[rows, None] + torch.where(real, place, 0)
        q = torch.where(real, charges[atoms], 0.0)
        parts.append(_wave_energies(q, positions[atoms], cells[rows], most[rows], splitting))
    order = torch.tensor([at for group in groups for at in group], device=cell.device)
    return torch.cat(parts)[torch.argsort(order)]


def _wave_energies(
    charges: torch.Tensor, positions: torch.Tensor, cell: torch.Tensor, most: torch.Tensor, splitting: Splitting
) -> torch.Tensor:
    """The sums over waves (G,) of charges (G, n), positions (G, n, 3) and cells (G, 3, 3), waves up to most (G, 3).

    Waves are k = h · B with whole numbers h and reciprocal lattice vectors B. exp(i k·r) is a product of three factors,
    one a lattice direction, so that a box of waves costs one matrix product and few exponentials. All of the box around
    the sphere of radius k_cutoff is taken, as its corners cost nothing; of k and -k one is taken, twice.
    """
    inverse = torch.linalg.inv(cell)
    ranges = [torch.arange(-n, n + 1, device=cell.device) for n in most.amax(0).tolist()]
    ranges[2] = ranges[2][ranges[2] >= 0]
    fractional = positions @ inverse  # (G, n, 3)
    # Whole cells change no phase; without them far-off atoms lose no digits in sine and cosine.
    fractional = fractional - fractional.detach().floor()
    a, b, c = (_phases(fractional[..., axis], h) for axis, h in enumerate(ranges))  # (G, n, A), (G, n, B), (G, n, C)
    ab = ((charges[..., None] * a)[..., None] * b[..., None, :]).flatten(2)  # (G, n, A · B)
    structure = (ab.transpose(1, 2) @ c).flatten(1)  # Σ_i q_i exp(i k·r_i), (G, A · B · C)
    intensity = structure.real * structure.real + structure.imag * structure.imag

    h = torch.cartesian_prod(*ranges)  # (A · B · C, 3)
    k = h.to(cell.dtype) @ (2.0 * math.pi * inverse.transpose(1, 2))  # (G, A · B · C, 3)
    square = (k * k).sum(-1)
    # A cell's own box, whatever the others in the group need, so that it has the same energy in any company.
    taken = (h.abs() <= most[:, None, :]).all(-1) & h.any(-1)
    square = torch.where(taken, square, 1.0)
    times = torch.where(h[:, 2] > 0, 2.0, 1.0) * taken
    weight = times * torch.exp(square / (-4.0 * splitting.alpha**2)) / square
    energies: torch.Tensor = 2.0 * math.pi / torch.linalg.det(cell).abs() * (weight * intensity).sum(-1)
    return energies


def _phases(fractional: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """exp(2πi f h) for coordinates f (G, n) and whole numbers h (H,): (G, n, H)."""
    angle = 2.0 * math.pi * fractional[..., None] * h
    return torch.complex(torch.cos(angle), torch.sin(angle))


def _groups(sizes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Systems that are computed together, as indices: small ones many at a time, filled up to the largest of them.

    A size is a number of atoms and the most waves in each of three directions.
    """
    groups: list[list[int]] = []
    largest: tuple[int, ...] = ()
    for at in sorted(range(len(sizes)), key=lambda at: _products(sizes[at])):
        joined = tuple(map(max, largest, sizes[at]))
        if groups and (len(groups[-1]) + 1) * _products(joined) <= _PRODUCTS_AT_ONCE:
            groups[-1].append(at)
            largest = joined
        else:
            groups.append([at])
            largest = sizes[at]
    return groups


def _products(size: tuple[int, ...]) -> int:
    """The products of an atom and a wave that a system of that size costs."""
    atoms, first, second, third = size
    return atoms * (2 * first + 1) * (2 * second + 1) * (third + 1)
