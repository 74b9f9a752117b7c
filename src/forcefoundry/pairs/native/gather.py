"""Taking the packed pairs of chosen structures out of several mapped files, as they are or mirrored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from forcefoundry.pairs.native.compiling import compiled, kept
from forcefoundry.pairs.native.lanes import LANES, put
from forcefoundry.pairs.native.mirror import mirror_structure, scratch

AHEAD, FETCHED, LINE = 4, 1024, 64
"""How many structures ahead memory is asked for, how many bytes of codes at most, and how many come together."""


def _at_address(kind: Any) -> Any:
    """A function that makes a pointer to numbers of one kind out of an address."""

    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

        return types.CPointer(kind)(address), emit

    return pointer


_u8, _u16, _u32, _i32 = (_at_address(kind) for kind in (types.uint8, types.uint16, types.uint32, types.int32))


@intrinsic
def fetch(typing: Any, address: Any) -> Any:
    """Ask for the memory at an address ahead of time; nothing waits for it."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        of = ir.FunctionType(ir.VoidType(), [place, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, of, "llvm.prefetch.p0i8")
        read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(ask, [builder.inttoptr(args[0], place), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uint64), emit


@compiled
def fetch_structure(addresses, widths, spans, s):
    """Ask for the numbers of the structure of spans[s], or for the first of them: it lies anywhere in the files."""
    part = spans[s, 0]
    fetch(addresses[part, 0] + np.uint64(spans[s, 1] * widths[part]))
    first, last = 4 * spans[s, 3], min(4 * spans[s, 4], 4 * spans[s, 3] + FETCHED)
    for at in range(first, last, LINE):
        fetch(addresses[part, 1] + np.uint64(at))


@compiled
def copy_counts(address, width, first, n, out, at):
    """Copy n counts of 1, 2 or 4 bytes from number `first` of an array on; gives their sum."""
    total = np.int64(0)
    if width == 1:
        bytes_ = _u8(address)
        for k in range(n):
            put(out, at + k, bytes_[first + k])
            total += np.int64(bytes_[first + k])
    elif width == 2:
        shorts = _u16(address)
        for k in range(n):
            put(out, at + k, shorts[first + k])
            total += np.int64(shorts[first + k])
    else:
        words = _u32(address)
        for k in range(n):
            put(out, at + k, words[first + k])
            total += np.int64(words[first + k])
    return total


@compiled
def copy_codes(address, first, n, out, at):
    """Copy n codes from number `first` of an array on; gives the greatest, how many are 0, and how many cannot be.

    Those have a shift of -16, whose mirror image has no code: taken for one, it would lead to another atom.
    """
    codes = _u32(address)
    most, zeros, unlikely = np.uint32(0), np.int64(0), np.int64(0)
    for k in range(n):
        code = codes[first + k]
        put(out, at + k, code)
        most = max(most, code)
        zeros += np.int64(code == np.uint32(0))
        # The lowest and the highest bits of the three fields: one that is 0 borrows from its highest.
        unlikely += np.int64(
            ((code & np.uint32(0x7FFF)) - np.uint32(0x0421)) & ~code & np.uint32(0x4210) != np.uint32(0)
        )
    return most, zeros, unlikely - zeros


@compiled
def copy_wide(address, first, n, atoms, out, at):
    """Copy n numbers of wide pairs to `out` (w, 4) from row `at` on; whether all their atoms are below `atoms`."""
    wide = _i32(address)
    fine = n % 4 == 0
    for k in range(n):
        out[at + k // 4, k % 4] = wide[first + k]
        if k % 4 == 0:
            fine &= 0 <= wide[first + k] < atoms
    return fine


@compiled
def copy_structure(addresses, widths, spans, s, counts, at_count, codes, at_code, wide, at_wide):
    """Copy the structure of spans[s] (7: part, and first and end of counts, codes and wide numbers).

    Whether its numbers can be pairs of it: compiled code that mirrors them writes where they say, so they are looked
    at on the way.
    """
    part, c0, c1 = spans[s, 0], spans[s, 1], spans[s, 2]
    p0, p1, w0, w1 = spans[s, 3], spans[s, 4], spans[s, 5], spans[s, 6]
    atoms = c1 - c0
    total = copy_counts(addresses[part, 0], widths[part], c0, atoms, counts, at_count)
    most, zeros, impossible = copy_codes(addresses[part, 1], p0, p1 - p0, codes, at_code)
    fine = copy_wide(addresses[part, 2], w0, w1 - w0, atoms, wide, at_wide)
    inside = p1 == p0 or np.int64(most >> np.uint32(15)) < atoms
    return fine and inside and impossible == 0 and total == p1 - p0 and 4 * zeros == w1 - w0


@compiled
def gather_all(addresses, widths, spans, counts, codes, wide):
    """What `gather` does."""
    at_count, at_code, at_wide = 0, 0, 0
    for s in range(len(spans)):
        if not copy_structure(addresses, widths, spans, s, counts, at_count, codes, at_code, wide, at_wide):
            return s
        at_count += spans[s, 2] - spans[s, 1]
        at_code += spans[s, 4] - spans[s, 3]
        at_wide += (spans[s, 6] - spans[s, 5]) // 4
    return -1


def _make_gather(version: int) -> Callable[..., Any]:
    def gather(addresses, widths, spans, counts, codes, wide):
        """Copy the structures of `spans` (m, 7) together; gives -1, or the first whose numbers cannot be its pairs."""
        _ = version
        return gather_all(addresses, widths, spans, counts, codes, wide)

    return gather


@compiled
def assemble_all(addresses, widths, spans, first_atoms, counts, codes, wide, full, starts, filled, i_out, j_out, S_out):
    """What `assemble` does. counts ... filled are room for the largest structure."""
    at = 0
    for s in range(len(spans)):
        if s + AHEAD < len(spans):
            fetch_structure(addresses, widths, spans, s + AHEAD)
        if not copy_structure(addresses, widths, spans, s, counts, 0, codes, LANES, wide, 0):
            return s
        n, m, n_wide = spans[s, 2] - spans[s, 1], spans[s, 4] - spans[s, 3], (spans[s, 6] - spans[s, 5]) // 4
        if not mirror_structure(
            n, at, first_atoms[s], counts, 0, codes, LANES, m, wide, 0, n_wide, starts, filled, full,
            i_out, j_out, S_out,
        ):  # fmt: skip
            return s
        at += 2 * m
    return -1


def _make_assemble(version: int) -> Callable[..., Any]:
    def assemble(addresses, widths, spans, first_atoms, i_out, j_out, S_out):
        """Write the full lists of the structures of `spans` (m, 7), whose atoms start at `first_atoms` (m,).

        Each is copied to where the processor is fast and mirrored from there. S_out is flat. Gives -1, or the first
        structure whose numbers cannot be its pairs; its pairs and those behind it are then not written.
        """
        _ = version
        n_atoms, n_codes, n_wide = 0, 0, 0
        for s in range(len(spans)):
            n_atoms = max(n_atoms, spans[s, 2] - spans[s, 1])
            n_codes = max(n_codes, spans[s, 4] - spans[s, 3])
            n_wide = max(n_wide, spans[s, 6] - spans[s, 5])
        counts, codes = np.empty(n_atoms, np.int32), np.empty(n_codes + 2 * LANES, np.uint32)
        wide = np.empty((n_wide // 4 + 1, 4), np.int32)
        starts, filled, full = scratch(n_atoms, n_codes)
        return assemble_all(
            addresses, widths, spans, first_atoms, counts, codes, wide, full, starts, filled, i_out, j_out, S_out
        )

    return assemble


gather = kept(_make_gather)
assemble = kept(_make_assemble)
