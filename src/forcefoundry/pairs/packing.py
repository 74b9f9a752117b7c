"""Packed halves out of full lists, out of any finder, and out of several batches."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from forcefoundry.pairs.contract import Bools, Finder, Floats, Ints, Pairs
from forcefoundry.pairs.half import HalfPairs

_LARGEST_J, _LARGEST_S = 2**17 - 1, 15


def half_of(finder: Finder, positions: Floats, cell: Floats, pbc: Bools, cutoff: float, offsets: Ints) -> HalfPairs:
    """The canonical half that a finder gives, packed: by its own `half` where it has one. Errors are the finder's."""
    if hasattr(finder, "half"):
        found: HalfPairs = finder.half(positions, cell, pbc, cutoff, offsets)
        return found
    return packed(finder(positions, cell, pbc, cutoff, offsets), offsets)


def packed(pairs: Pairs, offsets: Ints) -> HalfPairs:
    """The packed half of a full list whose atoms are counted through the batch. offsets: (S + 1,)."""
    i, j, S = pairs.i, pairs.j, pairs.S
    sign = np.where(S[:, 0] != 0, S[:, 0], np.where(S[:, 1] != 0, S[:, 1], S[:, 2]))
    half = (i < j) | ((i == j) & (sign > 0))
    i, j, S = i[half], j[half], S[half]
    system = np.searchsorted(offsets, i, side="right") - 1
    local = j - offsets[system]
    fits = (local <= _LARGEST_J) & (np.abs(S) <= _LARGEST_S).all(axis=1)
    shifts = np.where(fits[:, None], S, -16) + 16
    codes = (np.where(fits, local, 0) << 15) | (shifts[:, 0] << 10) | (shifts[:, 1] << 5) | shifts[:, 2]
    return HalfPairs(
        offsets=np.asarray(offsets, dtype=np.int64),
        counts=np.bincount(i, minlength=int(offsets[-1])).astype(np.int32),
        pair_ends=_ends(system, len(offsets) - 1),
        codes=np.where(fits, codes, 0).astype(np.uint32),
        wide_ends=_ends(system[~fits], len(offsets) - 1),
        wide=np.column_stack([local[~fits], S[~fits]]).astype(np.int32),
    )


def joined(parts: Sequence[HalfPairs]) -> HalfPairs:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    return HalfPairs(
        offsets=_run_on([part.offsets for part in parts]),
        counts=np.concatenate([np.zeros(0, np.int32), *(part.counts for part in parts)]),
        pair_ends=_run_on([part.pair_ends for part in parts]),
        codes=np.concatenate([np.zeros(0, np.uint32), *(part.codes for part in parts)]),
        wide_ends=_run_on([part.wide_ends for part in parts]),
        wide=np.concatenate([np.zeros((0, 4), np.int32), *(part.wide for part in parts)]),
    )


def in_words(error: ValueError, rows: Sequence[int] | Ints) -> ValueError:
    """A finder's error about a system of a batch, told of the structure of the database that it is: rows[system]."""
    told = re.sub(r"^System (\d+)", lambda found: f"Structure {rows[int(found[1])]} of the database", str(error))
    return ValueError(told)


def _ends(system: Ints, n_systems: int) -> Ints:
    ends = np.zeros(n_systems + 1, dtype=np.int64)
    np.cumsum(np.bincount(system, minlength=n_systems), out=ends[1:])
    return ends


def _run_on(parts: Sequence[Ints]) -> Ints:
    """Running totals of the whole from those of its parts, each of which starts anywhere."""
    steps = [np.diff(part) for part in parts]
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.zeros(0, np.int64), *steps]))])
