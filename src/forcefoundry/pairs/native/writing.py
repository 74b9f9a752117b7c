"""Numbers of many pairs written at once, in vector instructions of LLVM: full lists are as fast as memory takes them.

None asks whether what it reads and writes is within the arrays; the functions say how far they go.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from forcefoundry.pairs.native.lanes import EIGHT, I32, I64, LANES, placed, splat

CODES = ir.VectorType(I32, LANES)


def _three(first: int, of_both: bool) -> Any:
    """Which lanes to take for numbers `first` ... of the rows (a, b, c), (a, b, c) ... that are read as one.

    First of a and b, where a number of c is due any; then of what that gave, and of c.
    """
    places = [divmod(first + lane, 3) for lane in range(LANES)]
    if of_both:
        return ir.Constant(CODES, [pair + LANES * (field == 1) for pair, field in places])
    return ir.Constant(CODES, [LANES + pair if field == 2 else lane for lane, (pair, field) in enumerate(places)])


@intrinsic
def put_shifts(typing: Any, S: Any, at: Any, codes: Any, p: Any) -> Any:
    """Write the shifts of the packed pairs codes[p : p + LANES] to S[at : at + 3 LANES], int32."""
    signature = types.void(S, types.uintp, codes, types.uintp)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def field(bits: int) -> Any:
            number = builder.and_(builder.lshr(packed, ir.Constant(CODES, [bits] * LANES)), mask)
            return builder.sub(number, ir.Constant(CODES, [16] * LANES))

        mask = ir.Constant(CODES, [31] * LANES)
        packed = builder.load(placed(context, builder, sig.args[2], args[2], args[3], CODES), align=4)
        a, b, c = field(10), field(5), field(0)
        for part in range(3):
            some = builder.shuffle_vector(a, b, _three(part * LANES, of_both=True))
            some = builder.shuffle_vector(some, c, _three(part * LANES, of_both=False))
            to = builder.add(args[1], ir.Constant(args[1].type, part * LANES))
            builder.store(some, placed(context, builder, sig.args[0], args[0], to, CODES), align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def put_lanes(typing: Any, out: Any, at: Any, codes: Any, p: Any) -> Any:
    """out[at : at + LANES] = codes[p : p + LANES]."""
    signature = types.void(out, types.uintp, codes, types.uintp)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        packed = builder.load(placed(context, builder, sig.args[2], args[2], args[3], CODES), align=4)
        builder.store(packed, placed(context, builder, sig.args[0], args[0], args[1], CODES), align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def put_mirrored(typing: Any, out: Any, at: Any, codes: Any, end: Any, mirrored: Any) -> Any:
    """out[at + k] = mirrored - the shifts of codes[end - 1 - k], for k below LANES."""
    signature = types.void(out, types.uintp, codes, types.uintp, types.uint32)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.sub(args[3], ir.Constant(args[3].type, LANES))
        packed = builder.load(placed(context, builder, sig.args[2], args[2], first, CODES), align=4)
        packed = builder.shuffle_vector(packed, packed, ir.Constant(CODES, list(range(LANES))[::-1]))
        shifts = builder.and_(packed, ir.Constant(CODES, [32767] * LANES))
        seen = builder.sub(splat(builder, args[4], CODES), shifts)
        builder.store(seen, placed(context, builder, sig.args[0], args[0], args[1], CODES), align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def put_eight(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + 8] = value, int64: without asking whether that is within the array."""
    signature = types.void(array, types.uintp, types.int64)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = splat(builder, args[2], ir.VectorType(I64, EIGHT))
        builder.store(vector, placed(context, builder, sig.args[0], args[0], args[1], vector.type), align=8)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def put_shift(typing: Any, S: Any, at: Any, code: Any) -> Any:
    """Write the shifts of a packed pair to S[at : at + 3], int32, and something or other to S[at + 3]."""
    signature = types.void(S, types.uintp, types.uint32)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        four = ir.VectorType(I32, 4)
        vector = builder.insert_element(ir.Constant(four, ir.Undefined), args[2], ir.Constant(I32, 0))
        vector = builder.shuffle_vector(vector, vector, ir.Constant(four, [0] * 4))
        vector = builder.lshr(vector, ir.Constant(four, [10, 5, 0, 0]))
        vector = builder.sub(builder.and_(vector, ir.Constant(four, [31] * 4)), ir.Constant(four, [16] * 4))
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).data
        builder.store(vector, builder.bitcast(builder.gep(data, [args[1]]), four.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, emit
