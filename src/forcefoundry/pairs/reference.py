"""Pairs by trying every image: obviously right, on the CPU or on CUDA, for structures of up to some thousand atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forcefoundry.pairs.contract import (
    COINCIDENT,
    FARTHEST,
    Bools,
    Floats,
    Ints,
    Pairs,
    check_cutoff,
    check_structure,
    coincident,
    far_from_home,
)

_CANDIDATES_AT_ONCE = 4_000_000
_SLACK = 1e-6  # Å; candidates are picked generously on wrapped positions and decided exactly afterwards


class ReferenceFinder:
    """Tries every atom against every atom in every image that the cutoff can reach.

    Args:
        device: where the distances are computed, "cpu" or "cuda". The arithmetic is the same float64 operation by
            operation, so both give the same pairs.
        threads: taken by every finder; this one leaves threads to torch.
    """

    def __init__(self, device: str = "cpu", threads: int = 1):
        self.device = torch.device(device)

    def __call__(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> Pairs:
        """Find all pairs; see `Finder`. Coincident atoms, NaN and flat cells are ValueErrors that name them."""
        cutoff = check_cutoff(cutoff)
        found = []
        for system in range(len(offsets) - 1):
            start, stop = int(offsets[system]), int(offsets[system + 1])
            found.append(self._one_system(positions[start:stop], cell[system], pbc[system], cutoff, system, start))
        if not found:
            none = np.zeros(0, dtype=np.int64)
            return Pairs(none, none, np.zeros((0, 3), dtype=np.int32))
        i, j, S = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Pairs(i, j, S)

    def _one_system(
        self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, system: int, start: int
    ) -> tuple[Ints, Ints, NDArray[np.int32]]:
        check_structure(positions, cell, pbc, system)
        i, j, S, distance = self._half(positions, cell, pbc, cutoff, system)
        zero = distance < COINCIDENT
        if zero.any():
            first = int(np.flatnonzero(zero)[0])
            raise coincident(system, int(i[first]), int(j[first]))
        inside = distance < cutoff
        i, j, S = i[inside], j[inside], S[inside]
        i, j, S = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([S, -S])
        order = np.lexsort((S[:, 2], S[:, 1], S[:, 0], j, i))
        return i[order] + start, j[order] + start, S[order]

    def _half(
        self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, system: int
    ) -> tuple[Ints, Ints, NDArray[np.int32], Floats]:
        """The canonical half of the candidates, with distances computed from the positions as given."""
        basis = completed(cell, pbc)
        inverse = np.linalg.inv(basis)
        wraps = np.where(pbc, np.floor(positions @ inverse), 0.0)  # (N, 3) cells that each atom lies off home
        far = np.flatnonzero((np.abs(wraps) > FARTHEST).any(axis=1))
        if len(far):
            raise far_from_home(positions[far[0]], system, int(far[0]))
        heights = 1.0 / np.linalg.norm(inverse, axis=0)
        reach = np.where(pbc, np.floor(cutoff / heights + 1.0 + 1e-9), 0).astype(np.int64)
        shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(
            -1, 3
        )  # (M, 3)

        at = torch.from_numpy(np.array(positions)).to(self.device)
        vectors = torch.from_numpy(np.where(pbc[:, None], cell, 0.0)).to(self.device)
        wrap = torch.from_numpy(wraps).to(self.device)
        wrapped = at - _combine(wrap, vectors)
        images = torch.from_numpy(shifts.astype(np.float64)).to(self.device)
        moved = _combine(images, vectors)  # (M, 3)
        n_atoms = len(at)
        rows_at_once = max(1, min(n_atoms, _CANDIDATES_AT_ONCE // max(n_atoms, 1)))
        images_at_once = max(1, _CANDIDATES_AT_ONCE // max(rows_at_once * n_atoms, 1))
        near = (cutoff + _SLACK * (1.0 + cutoff)) ** 2
        parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for row in range(0, n_atoms, rows_at_once):
            between = wrapped[None, :, :] - wrapped[row : row + rows_at_once, None, :]  # (R, N, 3)
            for image in range(0, len(moved), images_at_once):
                D = between[None] + moved[image : image + images_at_once, None, None, :]  # (m, R, N, 3)
                m, i, j = torch.nonzero((D * D).sum(-1) < near, as_tuple=True)
                parts.append((images[m + image], i + row, j))
        image_of, i, j = (torch.cat(part) for part in zip(*parts, strict=True)) if parts else _nothing(self.device)
        S = image_of - wrap[j] + wrap[i]
        # Half of the pairs: the lower atom first; of an atom's own images the lexicographically positive one.
        sign = torch.where(S[:, 0] != 0, S[:, 0], torch.where(S[:, 1] != 0, S[:, 1], S[:, 2]))
        half = (i < j) | ((i == j) & (sign > 0))
        i, j, S = i[half], j[half], S[half]
        D = (at[j] - at[i]) + _combine(S, vectors)
        distance = torch.sqrt(D[:, 0] * D[:, 0] + D[:, 1] * D[:, 1] + D[:, 2] * D[:, 2])
        return tuple(_array(x) for x in (i, j, S.to(torch.int32), distance))


def completed(cell: Floats, pbc: Bools) -> Floats:
    """The cell with each non-periodic vector replaced by a unit vector at right angles to the periodic ones."""
    periodic = cell[pbc]
    if len(periodic) == 3:
        return cell
    _, _, directions = np.linalg.svd(periodic.reshape(-1, 3), full_matrices=True)
    basis = cell.copy()
    basis[~pbc] = directions[len(periodic) :]
    return basis


def _combine(counts: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    # Product by product and sum by sum: a fused multiply-add would round differently on another processor.
    return (counts[:, :1] * vectors[0] + counts[:, 1:2] * vectors[1]) + counts[:, 2:] * vectors[2]


def _nothing(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = torch.zeros(0, dtype=torch.int64, device=device)
    return torch.zeros(0, 3, dtype=torch.float64, device=device), index, index


def _array(tensor: torch.Tensor) -> Any:
    return tensor.cpu().numpy()
