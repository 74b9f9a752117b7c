"""The search on the device: kernels launched one after another, each output allocated when it has been counted.

Twice the number of what is to be written comes back from the device: candidates, then pairs. Nothing is guessed, so
nothing can overflow; totals are 64-bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
from triton.runtime import JITFunction

from forcefoundry.pairs.contract import COINCIDENT
from forcefoundry.pairs.kernels import cells, home, images, near

INTERPRETED = not isinstance(near.find_near, JITFunction)
"""Whether kernels run in Triton's interpreter, on the CPU: TRITON_INTERPRET=1 when this was imported."""

AT_MOST = 2**31 - 2**16
"""Candidates, or bins, of one call: they are numbered in 32 bits, and a program looks a little ahead."""

_PLAIN: dict[str, Any] = {"enable_fp_fusion": False}
"""No fused multiply-add: it would round once where the contract rounds twice."""

_quiet = np.errstate(all="ignore")
"""The interpreter computes with NumPy, which would warn of numbers that are none; they are flagged, and told later."""

Tensor = torch.Tensor


@dataclass(frozen=True)
class Candidates:
    """The atoms of a batch and their images, prepared for the search; see the kernels for the tensors' meaning.

    `flags` (S,) says what is wrong with a structure, `within_reach` whether there are few enough candidates to go on.
    """

    positions: Tensor
    offsets: Tensor
    system_of_atom: Tensor
    limits: Tensor
    wraps: Tensor
    home: Tensor
    ranges: Tensor
    numbers: Tensor
    shape: Tensor
    flags: Tensor
    starts: Tensor
    bins_before: Tensor
    n_candidates: int
    n_bins: int
    flagged: bool


@dataclass(frozen=True)
class Found:
    """Neighbours of each atom as numbers of candidates: rows (P,) in any order within a row, row_starts (N + 1,)."""

    row_starts: Tensor
    rows: Tensor
    atom_of: Tensor
    image_of: Tensor
    in_one_place: Tensor
    touched: bool


def square_from(length: float) -> float:
    """The least float64 whose root is not below a length: x < square_from(l) exactly where sqrt(x) < l.

    Rounded roots never fall as their argument rises, so the device need not take a root to decide as if it had.
    """
    square = length * length
    while math.sqrt(square) >= length:
        square = math.nextafter(square, 0.0)
    while math.sqrt(square) < length:
        square = math.nextafter(square, math.inf)
    return square


@_quiet
def count_candidates(positions: Tensor, cell: Tensor, pbc: Tensor, offsets: Tensor, cutoff: float) -> Candidates:
    """Measure the structures and count their candidates.

    positions: (N, 3) float64, cell: (S, 3, 3) float64, pbc: (S, 3) uint8, offsets: (S + 1,) int64, all contiguous on
    one device, S and N above 0.
    """
    n_atoms, n_systems, device = len(positions), len(cell), positions.device
    limits = [cutoff, square_from(cutoff), square_from(COINCIDENT)]

    def new(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.empty(size, dtype=dtype, device=device)

    limits_there = torch.tensor(limits, dtype=torch.float64, device=device)
    wraps, ranges = new(n_atoms, 3, dtype=torch.int32), new(n_atoms, 6, dtype=torch.int32)
    at_home, numbers = new(n_atoms, 3), new(n_systems, home.NUMBERS)
    shape, flags = new(n_systems, home.SHAPE, dtype=torch.int64), new(n_systems, dtype=torch.int32)
    duals = new(n_systems, 10)
    cells.lattices[(triton.cdiv(n_systems, 128),)](
        cell, pbc, n_systems, numbers, duals, STRIDE=home.NUMBERS, LANES=128, **_PLAIN
    )
    home.measure[(n_systems,)](
        positions, pbc, offsets, limits_there, duals, numbers, wraps, at_home, ranges, shape, flags,
        NUMBERS=home.NUMBERS, SHAPE=home.SHAPE, LANES=128, **_PLAIN,
    )  # fmt: skip
    system_of_atom = torch.repeat_interleave(
        torch.arange(n_systems, device=device), offsets.diff(), output_size=n_atoms
    )
    counts = new(n_atoms, dtype=torch.int64)
    _list_images(
        at_home,
        ranges,
        numbers,
        shape,
        flags,
        system_of_atom,
        n_atoms,
        counts,
        counts,
        counts,
        *[counts] * 8,
        write=False,
    )
    starts, bins_before = before(counts), before(shape[:, 3])
    n_candidates, n_bins, worst = torch.stack([starts[-1], bins_before[-1], flags.max().long()]).tolist()
    return Candidates(
        positions, offsets, system_of_atom, limits_there, wraps, at_home, ranges, numbers, shape, flags, starts,
        bins_before, n_candidates, n_bins, bool(worst),
    )  # fmt: skip


@_quiet
def find_rows(these: Candidates, half: bool) -> Found:
    """List the candidates, and find which are whose neighbours: of the canonical half, or all."""
    n_atoms, device = len(these.positions), these.positions.device

    def new(size: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(size, dtype=dtype, device=device)

    n = these.n_candidates
    x, y, z = new(n, torch.float32), new(n, torch.float32), new(n, torch.float32)
    atom_of, image_of, bin_of, at_home = new(n), new(n), new(n), new(n_atoms)
    bin_counts = torch.zeros(these.n_bins, dtype=torch.int32, device=device)
    _list_images(
        these.home, these.ranges, these.numbers, these.shape, these.flags, these.system_of_atom, n_atoms,
        these.starts, these.bins_before, at_home, x, y, z, atom_of, image_of, at_home, bin_of, bin_counts, write=True,
    )  # fmt: skip
    bin_starts = before(bin_counts).to(torch.int32)
    x_in, y_in, z_in, k_in = new(n, torch.float32), new(n, torch.float32), new(n, torch.float32), new(n)
    wide = 4096 if INTERPRETED else 256
    images.fill_bins[(triton.cdiv(n, wide),)](
        bin_of, bin_starts.clone(), x, y, z, n, x_in, y_in, z_in, k_in, WIDE=wide, **_PLAIN
    )
    counts = new(n_atoms, torch.int64)
    in_one_place = torch.zeros(len(these.flags), dtype=torch.int32, device=device)
    atoms, wide = (256, 64) if INTERPRETED else (1, 32)

    def near_of(row_starts: Tensor, rows: Tensor, write: bool) -> None:
        near.find_near[(triton.cdiv(n_atoms, atoms),)](
            these.positions, these.wraps, these.numbers, these.shape, these.limits, these.system_of_atom, n_atoms,
            these.bins_before, bin_starts, x_in, y_in, z_in, k_in, x, y, z, atom_of, image_of, at_home, bin_of,
            row_starts, counts, rows, in_one_place,
            HALF=half, WRITE=write, NUMBERS=home.NUMBERS, SHAPE=home.SHAPE, ATOMS=atoms, WIDE=wide,
            num_warps=1, **_PLAIN,
        )  # fmt: skip

    near_of(counts, counts, write=False)
    row_starts = before(counts)
    n_pairs, touched = torch.stack([row_starts[-1], in_one_place.max().long()]).tolist()
    rows = new(n_pairs)
    if n_pairs and not touched:
        near_of(row_starts, rows, write=True)
    return Found(row_starts, rows, atom_of, image_of, in_one_place, bool(touched))


def pairs_of(these: Candidates, found: Found) -> tuple[Tensor, Tensor, Tensor]:
    """i (P,) and j (P,), int64, and S (P, 3), int32, sorted by (i, j, S)."""
    n, device = len(found.rows), found.rows.device
    i = torch.empty(n, dtype=torch.int64, device=device)
    j, S = torch.empty_like(i), torch.empty((n, 3), dtype=torch.int32, device=device)
    _write_pairs(these, found, i, j, S, i, packed=False)
    return i, j, S


def codes_of(these: Candidates, found: Found) -> Tensor:
    """The codes of a half list as the bits of int32 (P,), sorted by (i, j, S); 0 for a pair that fits no code."""
    codes = torch.empty_like(found.rows)
    _write_pairs(these, found, codes, codes, codes, codes, packed=True)
    return codes


def before(counts: Tensor) -> Tensor:
    """(n + 1,) int64 running totals of counts (n,), from 0 on."""
    totals = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, dtype=torch.int64, out=totals[1:])
    return totals


def _list_images(*arguments: Any, write: bool) -> None:
    n_atoms = arguments[6]
    atoms, wide = (256, 64) if INTERPRETED else (4, 32)
    images.list_images[(triton.cdiv(n_atoms, atoms),)](
        *arguments, WRITE=write, NUMBERS=home.NUMBERS, SHAPE=home.SHAPE, ATOMS=atoms, WIDE=wide, **_PLAIN
    )


def _write_pairs(these: Candidates, found: Found, i: Tensor, j: Tensor, S: Tensor, codes: Tensor, packed: bool) -> None:
    if not len(found.rows):
        return
    n_atoms = len(these.positions)
    atoms, wide = (64, 32) if INTERPRETED else (1, 32)
    near.write_pairs[(triton.cdiv(n_atoms, atoms),)](
        found.row_starts, found.rows, n_atoms, these.system_of_atom, these.offsets, found.atom_of, found.image_of,
        these.wraps, i, j, S, codes, PACKED=packed, ATOMS=atoms, WIDE=wide, num_warps=1, **_PLAIN,
    )  # fmt: skip
