"""Several candidates at a time: what numba has no words for, written as vector instructions of LLVM.

LLVM turns them into whatever the processor has, AVX-512, AVX2 or NEON or plain instructions; no result depends on
which, for what they compute only picks candidates (`doubtful` ones are decided elsewhere, in float64).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from forcefoundry.pairs.native.compiling import inlined

LANES = 16
"""The most candidates that are looked at together; arrays of candidates are padded by as many that lie nowhere near."""

EIGHT = 8
"""How many are looked at together on any processor."""

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

F32, F64 = ir.FloatType(), ir.DoubleType()
I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32S, I8S, I32S = (ir.VectorType(kind, EIGHT) for kind in (F32, I8, I32))


def splat(builder: Any, scalar: Any, kind: Any) -> Any:
    """A vector that holds a number in all lanes."""
    vector = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def numbered(kind: Any, first: int = 0) -> Any:
    """The numbers of the lanes as a constant vector, counted from `first`."""
    return ir.Constant(kind, [first + lane for lane in range(kind.count)])


def has(context: Any, feature: str) -> bool:
    """Whether the processor that is compiled for has, say, avx2."""
    return f"+{feature}" in context.codegen().magic_tuple()[2].split(",")


def width(context: Any) -> int:
    """How many candidates the processor that is compiled for looks at together."""
    return LANES if has(context, "avx512f") and has(context, "avx512vl") else EIGHT


def compressed(context: Any, builder: Any, vector: Any, inside: Any, lanes: Any) -> Any:
    """A vector whose lowest lanes are those of `vector` that are `inside`, in their order; the others hold anything.

    inside: a vector of single bits. lanes: None where `width` is LANES, else `PLACES` of these bits, as bytes.
    """
    kind, module = vector.type, builder.module
    name = "f32" if kind.element == F32 else "i32"
    if lanes is None:
        of = ir.FunctionType(kind, [kind, inside.type, kind])
        emit = cgutils.get_or_insert_function(module, of, f"llvm.experimental.vector.compress.v{kind.count}{name}")
        return builder.call(emit, [vector, inside, ir.Constant(kind, ir.Undefined)])
    if has(context, "avx2"):
        of = ir.FunctionType(kind, [kind, I32S])
        emit = cgutils.get_or_insert_function(module, of, f"llvm.x86.avx2.perm{'ps' if name == 'f32' else 'd'}")
        return builder.call(emit, [vector, builder.zext(lanes, I32S)])
    moved = ir.Constant(kind, ir.Undefined)
    for lane in range(EIGHT):
        at = ir.Constant(I32, lane)
        taken = builder.extract_element(vector, builder.zext(builder.extract_element(lanes, at), I32))
        moved = builder.insert_element(moved, taken, at)
    return moved


def bits_of(builder: Any, inside: Any) -> Any:
    """A vector of single bits as one number of 64."""
    return builder.zext(builder.bitcast(inside, ir.IntType(inside.type.count)), I64)


def lanes_of(context: Any, builder: Any, kind: Any, places: Any, bits: Any) -> Any:
    """What `compressed` takes as lanes. places: the array `PLACES`, of numba's type `kind`."""
    if width(context) == LANES:
        return None
    return builder.load(placed(context, builder, kind, places, bits, I8S), align=8)


def placed(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Where array[index] lies, as the place of a vector."""
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@inlined
def first_lanes(n):
    """A mask of the first n of eight lanes, of all from eight on. n: above 0."""
    return np.uint32(255) >> np.uint32(max(EIGHT - n, 0))


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
