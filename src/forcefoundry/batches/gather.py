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


def _make_first_atoms(version: int) -> Callable[..., Any]:
    def first_atoms(structures, offsets, out):
        """Write to `out` (n + 1,) where the atoms of each structure start in the batch, and where the last one ends.

        offsets: (N + 1,) where the atoms of each structure of the database start. Gives the place in `structures` of
        the first that the database does not have, or -1.
        """
        _ = version
        at = 0
        out[0] = 0
        for k in range(len(structures)):
            s = structures[k]
            if s < 0 or s >= len(offsets) - 1:
                return k
            at += offsets[s + 1] - offsets[s]
            out[k + 1] = at
        return -1

    return first_atoms


def _make_copy_rows(version: int) -> Callable[..., Any]:
    def copy_rows(structures, offsets, places, sources, widths, of_atoms, targets, first_atoms, systems):
        """Copy the structures' rows of some columns, and number the batch's atoms by their structures.

        places: (3, N) the piece that each structure of the database lies in, its row there, and its first atom.
        sources: (pieces, columns) addresses; 0 where a piece has no such label, which is then NaN. targets: (columns,)
        addresses. widths: (columns,) bytes of a row. of_atoms: (columns,) whether there is a row for each atom, else
        for each structure. first_atoms: (n + 1,) what the function of that name wrote, which must have found all of the
        structures. systems: (atoms,) the number of each atom's structure in the batch, or (0,) where nobody asks.
        """
        _ = version
        for column in range(len(targets)):
            at, width = targets[column], widths[column]
            kind = 2 if of_atoms[column] else 1
            for k in range(len(structures)):
                s = structures[k]
                n = width * (offsets[s + 1] - offsets[s]) if of_atoms[column] else width
                source = sources[places[0, s], column]
                if source == 0:
                    fill_nan(at, n // 8)
                else:
                    copy_bytes(at, source + np.uint64(width * places[kind, s]), n)
                at += np.uint64(n)
        if len(systems):
            for k in range(len(structures)):
                systems[first_atoms[k] : first_atoms[k + 1]] = k

    return copy_rows


first_atoms = kept(_make_first_atoms)
copy_rows = kept(_make_copy_rows)
