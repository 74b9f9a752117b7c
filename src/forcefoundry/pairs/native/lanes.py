"""Eight candidates at a time: what numba has no words for, written as vector instructions of LLVM.

LLVM turns them into whatever the processor has, AVX2 or NEON or plain instructions; no result depends on which, for
what they compute only picks candidates (`doubtful` ones are decided elsewhere, in float64).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""How many candidates are looked at together; arrays of candidates are padded by as many that lie nowhere near."""

NOWHERE = np.float32(1e18)
"""The coordinate of a padding candidate, relative Å: its square is still finite in float32."""

PLACES = np.array(
    [
        sum(lane << (8 * place) for place, lane in enumerate(lane for lane in range(8) if mask >> lane & 1))
        for mask in range(256)
    ],
    dtype=np.uint64,
)
"""For each mask of eight: the numbers of the lanes that are set, one a byte, from the lowest byte on."""

_F32 = ir.FloatType()
_I8, _I32 = ir.IntType(8), ir.IntType(32)
_F32S, _I8S, _I32S = (ir.VectorType(kind, LANES) for kind in (_F32, _I8, _I32))


def _splat(builder: Any, scalar: Any, kind: Any) -> Any:
    vector = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(_I32S, [0] * LANES))


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@intrinsic
def near(
    typing: Any, x: Any, y: Any, z: Any, k: Any, x0: Any, y0: Any, z0: Any, least: Any, sure: Any, most: Any
) -> Any:
    """Masks of the eight candidates from k on: within `most` (bits 0-7), and of these the doubtful (bits 8-15).

    x, y, z: float32 arrays; x0, y0, z0: float32; least, sure, most: float32 squares, Å². Doubtful is what lies not in
    [least, sure).
    """
    signature = types.uint32(x, y, z, k, *[types.float32] * 6)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        square = None
        for axis in range(3):
            place = _place(context, builder, sig.args[axis], args[axis], args[3], _F32S)
            D = builder.fsub(builder.load(place, align=4), _splat(builder, args[4 + axis], _F32S))
            D = builder.fmul(D, D)
            square = D if square is None else builder.fadd(square, D)
        limits = [_splat(builder, arg, _F32S) for arg in args[7:]]
        inside = builder.fcmp_ordered("<", square, limits[2])
        clear = builder.and_(
            builder.fcmp_ordered(">=", square, limits[0]), builder.fcmp_ordered("<", square, limits[1])
        )
        inside, clear = (builder.zext(builder.bitcast(mask, _I8), _I32) for mask in (inside, clear))
        doubtful = builder.and_(inside, builder.not_(clear))
        return builder.or_(inside, builder.shl(doubtful, ir.Constant(_I32, 8)))

    return signature, emit


@intrinsic
def append(typing: Any, out: Any, at: Any, k: Any, places: Any) -> Any:
    """Write k + each of eight `places` (one a byte) to the uint32 array `out` from index `at` on."""
    signature = types.void(out, at, k, places)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = builder.zext(builder.bitcast(args[3], _I8S), _I32S)
        first = builder.trunc(args[2], _I32) if args[2].type.width > 32 else args[2]
        place = _place(context, builder, sig.args[0], args[0], args[1], _I32S)
        builder.store(builder.add(lanes, _splat(builder, first, _I32S)), place, align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def ones(typing: Any, mask: Any) -> Any:
    """How many bits of an unsigned number are set."""
    return mask(mask), lambda context, builder, sig, args: builder.ctpop(args[0])


@intrinsic
def lowest(typing: Any, mask: Any) -> Any:
    """Which bit of an unsigned number, not 0, is the lowest that is set."""
    return mask(mask), lambda context, builder, sig, args: builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))


@intrinsic
def put(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value for an index that is not negative: without asking whether it is."""
    signature = types.void(array, types.uintp, array.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def get(typing: Any, array: Any, index: Any) -> Any:
    """array[index] for an index that is not negative: without asking whether it is."""
    signature = array.dtype(array, types.uintp)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return signature, emit


@intrinsic
def put_shift(typing: Any, S: Any, at: Any, code: Any) -> Any:
    """Write the shifts of a packed pair to S[at : at + 3], int64, and something or other to S[at + 3]."""
    signature = types.void(S, types.uintp, types.uint32)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        four, fours = ir.VectorType(_I32, 4), ir.VectorType(ir.IntType(64), 4)
        vector = builder.insert_element(ir.Constant(four, ir.Undefined), args[2], ir.Constant(_I32, 0))
        vector = builder.shuffle_vector(vector, vector, ir.Constant(four, [0] * 4))
        vector = builder.lshr(vector, ir.Constant(four, [10, 5, 0, 0]))
        vector = builder.sub(builder.and_(vector, ir.Constant(four, [31] * 4)), ir.Constant(four, [16] * 4))
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), fours.as_pointer())
        builder.store(builder.sext(vector, fours), place, align=8)
        return context.get_dummy_value()

    return signature, emit
