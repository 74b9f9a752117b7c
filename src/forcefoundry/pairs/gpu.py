"""Pairs on a CUDA device, by kernels that Triton compiles: whole batches at once, and the same pairs as on the CPU.

Atoms and the images around them are listed in the order of (j, S) and sorted into bins as wide as the cutoff; each atom
tries the bins around it, in float32 with room for its errors, and in float64, by the contract's arithmetic, where
float32 cannot decide. Each output is counted before it is written. Tensors may stay on the device: `on_device`.

In Triton's interpreter (TRITON_INTERPRET=1 before the first import of triton) the same kernels run on the CPU, some
thousand times slower: for tests.
"""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

import numpy as np
import torch

from forcefoundry.pairs.contract import Bools, Floats, Ints, Pairs, check_cutoff, check_shapes
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.half import HalfPairs

Tensor = torch.Tensor
Triple = tuple[Tensor, Tensor, Tensor]


class GpuFinder:
    """Finds the pairs of whole batches at once on a CUDA device.

    Args:
        device: "cuda", or one of several as "cuda:1". Where Triton interprets, tensors are on the CPU whatever is said.
        threads: for what is done on the CPU, that is to say nothing unless a structure is wrong. Changes no result.
    """

    def __init__(self, device: str = "cuda", threads: int = 1):
        kernels = _kernels()
        if threads < 1:
            raise ValueError(f"The finder was given {threads} threads, expected 1 or more.")
        if kernels.INTERPRETED:
            self.device = torch.device("cpu")
        else:
            self.device = torch.device(device)
            if self.device.type != "cuda":
                raise ValueError(
                    f"The finder 'gpu' was asked to work on {device!r}, expected 'cuda'. Choose pairs=cpu."
                )
            if not torch.cuda.is_available():
                raise ValueError("The finder 'gpu' needs a CUDA device, and PyTorch sees none. Choose pairs=cpu.")
        self.threads = threads

    def __call__(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> Pairs:
        """Find all pairs; see `Finder`. Coincident atoms, NaN and flat cells are ValueErrors that name them."""
        arrays = _checked(positions, cell, pbc, offsets)
        i, j, S = self._full(*self._there(*arrays), check_cutoff(cutoff))
        return Pairs(_array(i), _array(j), _array(S))

    def half(self, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> HalfPairs:
        """The canonical half of the pairs, packed as they are kept; arguments and errors are those of the call."""
        arrays = _checked(positions, cell, pbc, offsets)
        ends = arrays[3]
        these, found = self._search(*self._there(*arrays), check_cutoff(cutoff), half=True)
        if these is None:
            return _nothing(ends)
        with _current(found.rows.device):
            codes = _kernels().codes_of(these, found)
            beside = torch.nonzero(codes == 0)[:, 0]
            wide = np.zeros((0, 4), dtype=np.int32)
            if len(beside):
                _, j, S = _kernels().pairs_of(these, found)
                i = torch.searchsorted(found.row_starts, beside, right=True) - 1
                local = j[beside] - these.offsets[these.system_of_atom[i]]
                wide = _array(torch.cat([local[:, None], S[beside]], dim=1).to(torch.int32))
        row_starts = _array(found.row_starts)
        pair_ends = row_starts[ends]
        wide_ends = np.searchsorted(_array(beside), pair_ends).astype(np.int64)
        counts = np.diff(row_starts).astype(np.int32)
        return HalfPairs(ends, counts, pair_ends, _array(codes).view(np.uint32), wide_ends, wide)

    @torch.no_grad()
    def on_device(
        self, positions: Tensor, cell: Tensor, pbc: Tensor, offsets: Tensor, cutoff: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The full list as tensors that stay where they are found; arguments and errors are those of the call.

        positions: (N, 3) Å, cell: (S, 3, 3) Å, pbc: (S, 3); other precisions than float64 are widened first.
        offsets: (S + 1,), anywhere: it is looked at on the CPU. Gives i (P,) and j (P,), int64, and S (P, 3), int32.
        """
        cutoff = check_cutoff(cutoff)
        ends = np.ascontiguousarray(offsets.detach().cpu().numpy(), dtype=np.int64)
        check_shapes(positions, cell, pbc, ends)  # type: ignore[arg-type]
        device = positions.device if positions.device.type == self.device.type else self.device
        there = [positions.to(device, torch.float64), cell.to(device, torch.float64), pbc.to(device, torch.bool)]
        return self._full(there[0], there[1], there[2], ends, cutoff)

    def _there(self, positions: Floats, cell: Floats, pbc: Bools, offsets: Ints) -> tuple[Tensor, Tensor, Tensor, Ints]:
        at, vectors, periodic = (torch.from_numpy(array).to(self.device) for array in (positions, cell, pbc))
        return at, vectors, periodic, offsets

    def _full(self, positions: Tensor, cell: Tensor, pbc: Tensor, offsets: Ints, cutoff: float) -> Triple:
        these, found = self._search(positions, cell, pbc, offsets, cutoff, half=False)
        if these is None:
            none = torch.zeros(0, dtype=torch.int64, device=positions.device)
            return none, none.clone(), none.reshape(0, 3).to(torch.int32)
        with _current(positions.device):
            pairs: Triple = _kernels().pairs_of(these, found)
            return pairs

    def _search(
        self, positions: Tensor, cell: Tensor, pbc: Tensor, offsets: Ints, cutoff: float, half: bool
    ) -> tuple[Any, Any]:
        """The candidates and what was found among them; None and None where there is no atom."""
        n_systems, n_atoms = len(offsets) - 1, int(offsets[-1])
        structures = (positions[:n_atoms].contiguous(), cell[:n_systems].contiguous(), pbc[:n_systems].contiguous())
        if not n_systems:
            return None, None
        with _current(positions.device):
            these = _kernels().count_candidates(
                *structures[:2], structures[2].view(torch.uint8), torch.from_numpy(offsets).to(positions.device), cutoff
            )
            if these.flagged:
                self._refuse(these.flags, structures, offsets, cutoff, certain=3)
            if not n_atoms:
                return None, None
            if max(these.n_candidates, these.n_bins) > _kernels().AT_MOST:
                raise ValueError(
                    f"These {n_systems} structures have {these.n_candidates} images of atoms within the cutoff, "
                    f"at most {_kernels().AT_MOST} can be searched at once. Give fewer structures at a time."
                )
            found = _kernels().find_rows(these, half)
            if found.touched:
                self._refuse(found.in_one_place, structures, offsets, cutoff, certain=1)
        return these, found

    def _refuse(
        self, flags: Tensor, structures: tuple[Tensor, Tensor, Tensor], offsets: Ints, cutoff: float, certain: int
    ) -> None:
        """Raise the error of the first structure that is wrong, in the words of the CPU finder; it may be none.

        flags: (S,), not 0 for structures to be looked into; a bit of `certain` is set for one that is surely wrong.
        """
        flagged = _array(flags)
        for system in map(int, np.flatnonzero(flagged)):
            try:
                self._look_into(system, structures, offsets, cutoff)
            except ValueError:
                # A structure before this one may be wrong in another way: the first is the one to be told.
                positions, cell, pbc = structures
                self._search(positions, cell, pbc, offsets[: system + 1], cutoff, half=True)
                raise
            if flagged[system] & certain:
                raise RuntimeError(f"System {system}: the GPU finds it wrong and the CPU does not. Please report this.")

    def _look_into(self, system: int, structures: tuple[Tensor, Tensor, Tensor], offsets: Ints, cutoff: float) -> None:
        # As the last of a batch whose other structures are empty and open: so its number is the one it has.
        first, last = int(offsets[system]), int(offsets[system + 1])
        positions, cell, pbc = (_array(tensor) for tensor in structures)
        periodic = pbc[: system + 1] & (np.arange(system + 1) == system)[:, None]
        ends = np.where(np.arange(system + 2) > system, last - first, 0)
        CpuFinder(threads=self.threads).half(positions[first:last], cell[: system + 1], periodic, cutoff, ends)


def _kernels() -> ModuleType:
    try:
        from forcefoundry.pairs.kernels import search
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "triton":
            raise
        raise ValueError(
            "The finder 'gpu' needs the package triton, which PyTorch's CUDA build brings and this environment lacks. "
            "Install it: pip install 'forcefoundry[gpu]', or choose pairs=cpu."
        ) from error
    return search


def _current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Kernels are launched on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _checked(positions: Floats, cell: Floats, pbc: Bools, offsets: Ints) -> tuple[Floats, Floats, Bools, Ints]:
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    cell = np.ascontiguousarray(cell, dtype=np.float64)
    pbc = np.ascontiguousarray(pbc, dtype=np.bool_)
    offsets = np.array(offsets, dtype=np.int64)
    check_shapes(positions, cell, pbc, offsets)
    return positions, cell, pbc, offsets


def _nothing(offsets: Ints) -> HalfPairs:
    ends = np.zeros(len(offsets), dtype=np.int64)
    wide = np.zeros((0, 4), dtype=np.int32)
    return HalfPairs(offsets, np.zeros(0, np.int32), ends, np.zeros(0, np.uint32), ends.copy(), wide)


def _array(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
