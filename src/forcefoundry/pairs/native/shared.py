"""Numbers that several threads read and write at the same time, without a lock."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from forcefoundry.pairs.native.lanes import I64, placed

_ONE = ir.Constant(I64, 1)


@intrinsic
def take_number(typing: Any, array: Any, index: Any) -> Any:
    """Add one to array[index], int64; gives what it was before. No two threads are given the same."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", placed(context, builder, sig.args[0], args[0], args[1], I64), _ONE, "acq_rel")

    return types.int64(array, types.intp), emit


@intrinsic
def publish(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value, int64, so that other threads see it."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], placed(context, builder, sig.args[0], args[0], args[1], I64), "release", align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), emit


@intrinsic
def published(typing: Any, array: Any, index: Any) -> Any:
    """array[index], int64, as another thread may have written it."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(placed(context, builder, sig.args[0], args[0], args[1], I64), "acquire", align=8)

    return types.int64(array, types.intp), emit
