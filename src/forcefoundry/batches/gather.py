"""The rows of some structures, copied one after another by compiled code; imported when the first batch is packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from forcefoundry.pairs.native.compiling import kept
from forcefoundry.pairs.native.gather import LINE, fetch
from forcefoundry.pairs.native.lanes import put

PIECE, ROW, N_ATOMS = 0, 1, 3
"""In a row of `where`. Behind the row of a structure stands its first atom, the row of its atoms."""

AHEAD = 16
"""How many structures ahead memory is asked for."""


@intrinsic
def copy_bytes(typing: Any, target: Any, source: Any, n: Any) -> Any:
    """Copy n bytes from one address to another."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target, source = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.intp), emit


@intrinsic
def fill_nan(typing: Any, target: Any, n: Any) -> Any:
    """Write n doubles that are not a number, from an address on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        double = ir.DoubleType()
        target = builder.inttoptr(args[0], double.as_pointer())
        with cgutils.for_range(builder, args[1]) as loop:
            builder.store(ir.Constant(double, float("nan")), builder.gep(target, [loop.index]))
        return context.get_dummy_value()

    return types.void(types.uintp, types.intp), emit


def _make_n_bytes(version: int) -> Callable[..., Any]:
    def n_bytes(structures, where, pairs, of_structure, of_atom, of_pair):
        """How many bytes the structures have together; those that the database does not have are left out.

        where: (N, 4), as in `copy_rows`. pairs: (N,) ordered pairs of each structure of the database.
        """
        _ = version
        total = of_structure * len(structures)
        for k in range(len(structures)):
            s = structures[k]
            if 0 <= s < len(where):
                total += of_atom * where[s, N_ATOMS] + of_pair * pairs[s]
        return total

    return n_bytes


def _make_lay_out(version: int) -> Callable[..., Any]:
    def lay_out(structures, ends, where, aligned, first_atoms, lengths):
        """Where the rows of some batches go in blocks.

        ends: (batches,) where each batch ends among the structures (n,). where: (N, 4), as in `copy_rows`. Written are
        first_atoms (n,): where the atoms of each structure start in its batch; and lengths (2, 2 batches), for columns
        with a row a structure and for those with a row an atom: how many rows a batch has, and how many are left out
        behind it, where the next one shall begin at a multiple of `aligned`; batch by batch. Gives the place of the
        first structure that the database does not have, or -1.
        """
        _ = version
        first = 0
        for batch in range(len(ends)):
            n_atoms = 0
            for k in range(first, ends[batch]):
                s = structures[k]
                if s < 0 or s >= len(where):
                    return k
                first_atoms[k] = n_atoms
                n_atoms += where[s, N_ATOMS]
            for axis in range(2):
                n = n_atoms if axis else ends[batch] - first
                lengths[axis, 2 * batch], lengths[axis, 2 * batch + 1] = n, -n % aligned
            first = ends[batch]
        return -1

    return lay_out


def _make_copy_rows(version: int) -> Callable[..., Any]:
    def copy_rows(structures, ends, where, sources, columns, targets, lengths, systems):
        """Copy the structures' rows of some columns, and number each batch's atoms by their structures.

        ends, lengths: what `lay_out` was given and wrote. where: (N, 4) for each structure of the database, the piece
        that it lies in, its row there, its first atom there, and how many it has. sources: (pieces, columns) addresses;
        0 where a piece has no such label, which is then NaN. columns: (columns, 3) bytes of a row; 1 where there is a
        row for each atom, 0 where for each structure; 1 where batches are aligned, else 0. targets: (columns,)
        addresses. systems: the number of each atom's structure in its batch, or (0,) where nobody asks.
        """
        _ = version
        for column in range(len(targets)):
            at = targets[column]
            width, axis, aligned = columns[column, 0], columns[column, 1], columns[column, 2]
            first = 0
            for batch in range(len(ends)):
                for k in range(first, ends[batch]):
                    if k + AHEAD < len(structures):
                        # Structures are drawn at random and lie anywhere. What is too far for one line is fetched as
                        # it is read.
                        s = structures[k + AHEAD]
                        there = sources[where[s, PIECE], column] + np.uint64(width * where[s, ROW + axis])
                        fetch(there)
                        fetch(there + np.uint64(LINE))
                    s = structures[k]
                    n = width * where[s, N_ATOMS] if axis else width
                    source = sources[where[s, PIECE], column]
                    if source == 0:
                        fill_nan(at, n // 8)
                    else:
                        copy_bytes(at, source + np.uint64(width * where[s, ROW + axis]), n)
                    at += np.uint64(n)
                at += np.uint64(width * aligned * lengths[axis, 2 * batch + 1])
                first = ends[batch]
        if len(systems):
            first, atom = 0, 0
            for batch in range(len(ends)):
                for k in range(first, ends[batch]):
                    n = where[structures[k], N_ATOMS]
                    for local in range(n):
                        put(systems, atom + local, k - first)
                    atom += n
                first = ends[batch]

    return copy_rows


n_bytes = kept(_make_n_bytes)
lay_out = kept(_make_lay_out)
copy_rows = kept(_make_copy_rows)
