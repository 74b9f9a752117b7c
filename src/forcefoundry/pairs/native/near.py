"""Several candidates at a time: which lie near an atom, and which near a box."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from forcefoundry.pairs.native.lanes import (
    EIGHT,
    F32,
    F32S,
    F64,
    I1,
    I8,
    I32,
    I32S,
    I64,
    LANES,
    bits_of,
    compressed,
    lanes_of,
    numbered,
    placed,
    splat,
    width,
)

FLOATS, INDEX, CODE = types.float32, types.intp, types.uint32


class Loop:
    """A loop over candidates k = first, first + step, ... below last, while numbers that it counts up are carried on.

    carried: what they are before the loop.
    """

    def __init__(self, builder: Any, first: Any, last: Any, step: int, carried: list[Any]):
        self.builder, self.last, self.step, self.before = builder, last, step, builder.basic_block
        self.first, self.given = first, carried
        self.body, self.done = builder.append_basic_block("lanes"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", first, last), self.body, self.done)
        builder.position_at_end(self.body)
        self.k = builder.phi(I64)
        self.carried = [builder.phi(value.type) for value in carried]

    def end(self, carried: list[Any]) -> list[Any]:
        """End the body, with what is carried on; gives what that is behind the loop."""
        builder, after = self.builder, self.builder.basic_block
        following = builder.add(self.k, ir.Constant(I64, self.step))
        builder.cbranch(builder.icmp_signed("<", following, self.last), self.body, self.done)
        phis = [self.k, *self.carried]
        for phi, at_first, then in zip(phis, [self.first, *self.given], [following, *carried], strict=True):
            phi.add_incoming(at_first, self.before)
            phi.add_incoming(then, after)
        builder.position_at_end(self.done)
        found = []
        for at_first, then in zip(self.given, carried, strict=True):
            phi = builder.phi(then.type)
            phi.add_incoming(at_first, self.before)
            phi.add_incoming(then, after)
            found.append(phi)
        return found


def _scan(context: Any, builder: Any, sig: Any, args: Any, n_lanes: int, write: Any) -> Any:
    """Both scans: `write` puts down those candidates of n_lanes from k on that are inside, from number n on."""
    # Where the processor keeps masks as bits, doubts are gathered as bits.
    masks = width(context) == LANES
    floats, flags = ir.VectorType(F32, n_lanes), ir.VectorType(I1 if masks else I32, n_lanes)
    center = [splat(builder, arg, floats) for arg in args[5:8]]
    least, sure, most = (splat(builder, arg, floats) for arg in args[8:11])
    nothing, no_doubts = ir.Constant(I64, 0), ir.Constant(flags, [0] * n_lanes)
    loop = Loop(builder, args[3], args[4], n_lanes, [nothing, no_doubts])
    k, (n, doubts) = loop.k, loop.carried
    square = None
    for axis in range(3):
        place = placed(context, builder, sig.args[axis], args[axis], k, floats)
        D = builder.fsub(builder.load(place, align=4), center[axis])
        D = builder.fmul(D, D)
        square = D if square is None else builder.fadd(square, D)
    inside = builder.fcmp_ordered("<", square, most)
    # Where a square lies in [least, sure) is asked of all, and what is outside of `most` does not matter.
    unclear = builder.and_(inside, builder.fcmp_unordered(">=", square, sure))
    unclear = builder.or_(unclear, builder.fcmp_ordered("<", square, least))
    all_doubts = builder.or_(doubts, unclear if masks else builder.sext(unclear, flags))
    bits = bits_of(builder, inside)
    write(k, n, inside, bits)
    n, doubts = loop.end([builder.add(n, builder.ctpop(bits)), all_doubts])
    doubtful = bits_of(builder, builder.icmp_unsigned("!=", doubts, no_doubts))
    doubtful = builder.zext(builder.icmp_unsigned("!=", doubtful, nothing), I64)
    return builder.or_(n, builder.shl(doubtful, ir.Constant(I64, 32)))


@intrinsic
def scan(
    typing: Any, x: Any, y: Any, z: Any, first: Any, last: Any, x0: Any, y0: Any, z0: Any,
    least: Any, sure: Any, most: Any, places: Any, out: Any,
) -> Any:  # fmt: skip
    """Write to `out` which of first ... last - 1 lie within `most` of (x0, y0, z0), in order, and some numbers more.

    x, y, z: float32 arrays with LANES more that lie nowhere; least, sure, most: float32 squares, Å²; places: `PLACES`.
    Gives their number (bits 0-31), and whether one of them lies outside [least, sure) (bit 32).
    """
    signature = types.uint64(x, y, z, INDEX, INDEX, *[FLOATS] * 6, places, out)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def write(k: Any, n: Any, inside: Any, bits: Any) -> None:
            lanes = builder.load(placed(context, builder, sig.args[11], args[11], bits, ir.VectorType(I8, EIGHT)))
            numbers = builder.add(builder.zext(lanes, I32S), splat(builder, builder.trunc(k, I32), I32S))
            builder.store(numbers, placed(context, builder, sig.args[12], args[12], n, I32S), align=4)

        return _scan(context, builder, sig, args, EIGHT, write)

    return signature, emit


@intrinsic
def scan_codes(
    typing: Any, x: Any, y: Any, z: Any, first: Any, last: Any, x0: Any, y0: Any, z0: Any,
    least: Any, sure: Any, most: Any, places: Any, code: Any, own: Any, out: Any, at: Any,
) -> Any:  # fmt: skip
    """The same, but writes their codes, `own` added to each, to `out` from number `at` on, and LANES numbers more."""
    signature = types.uint64(x, y, z, INDEX, INDEX, *[FLOATS] * 6, places, code, CODE, out, INDEX)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        words = ir.VectorType(I32, width(context))
        own = splat(builder, args[13], words)

        def write(k: Any, n: Any, inside: Any, bits: Any) -> None:
            lanes = lanes_of(context, builder, sig.args[11], args[11], bits)
            codes = builder.load(placed(context, builder, sig.args[12], args[12], k, words), align=4)
            codes = builder.add(compressed(context, builder, codes, inside, lanes), own)
            to = builder.add(args[15], n)
            builder.store(codes, placed(context, builder, sig.args[14], args[14], to, words), align=4)

        return _scan(context, builder, sig, args, width(context), write)

    return signature, emit


def _greater(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _is_beside(builder: Any, places: Any, halves: Any, square: Any) -> Any:
    """Which lanes' places (x, y, z) lie within sqrt(square) of a box around 0."""
    kind = places[0].type
    zero, total = ir.Constant(kind, [0.0] * kind.count), None
    for place, half in zip(places, halves, strict=True):
        beyond = builder.fsub(_greater(builder, place, builder.fsub(zero, place)), splat(builder, half, kind))
        beyond = _greater(builder, beyond, zero)
        beyond = builder.fmul(beyond, beyond)
        total = beyond if total is None else builder.fadd(total, beyond)
    return builder.fcmp_ordered("<", total, splat(builder, square, kind))


@intrinsic
def beside(
    typing: Any, x: Any, y: Any, z: Any, k: Any, x0: Any, y0: Any, z0: Any, h0: Any, h1: Any, h2: Any, square: Any
) -> Any:
    """A mask of the eight places (x, y, z) + (x0, y0, z0) from k on that lie within sqrt(square) of a box.

    The box reaches from -(h0, h1, h2) to (h0, h1, h2). All are float32, in Å and Å².
    """
    signature = types.uint32(x, y, z, k, *[FLOATS] * 7)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = []
        for axis in range(3):
            place = placed(context, builder, sig.args[axis], args[axis], args[3], F32S)
            places.append(builder.fadd(builder.load(place, align=4), splat(builder, args[4 + axis], F32S)))
        inside = _is_beside(builder, places, args[7:10], args[10])
        return builder.zext(builder.bitcast(inside, I8), I32)

    return signature, emit


@intrinsic
def list_near(
    typing: Any, x: Any, y: Any, z: Any, code: Any, last: Any, x0: Any, y0: Any, z0: Any,
    h0: Any, h1: Any, h2: Any, square: Any, places: Any,
    to_x: Any, to_y: Any, to_z: Any, to_code: Any, numbers: Any,
) -> Any:  # fmt: skip
    """List which of the places (x, y, z), numbers 0 ... last - 1, are beside a box once (x0, y0, z0) is added to them.

    All are float32; box and square are those of `beside`, places `PLACES`. The list are the places as they are, their
    `code` and their numbers, each with room for LANES more; gives how many there are.
    """
    signature = types.intp(x, y, z, code, INDEX, *[FLOATS] * 7, places, to_x, to_y, to_z, to_code, numbers)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        n_lanes = width(context)
        floats, words = ir.VectorType(F32, n_lanes), ir.VectorType(I32, n_lanes)
        loop = Loop(builder, ir.Constant(I64, 0), args[4], n_lanes, [ir.Constant(I64, 0)])
        found, moved = [], []
        for axis in range(3):
            place = placed(context, builder, sig.args[axis], args[axis], loop.k, floats)
            found.append(builder.load(place, align=4))
            moved.append(builder.fadd(found[axis], splat(builder, args[5 + axis], floats)))
        inside = _below(builder, _is_beside(builder, moved, args[8:11], args[11]), loop.k, args[4], words)
        found.append(builder.load(placed(context, builder, sig.args[3], args[3], loop.k, words), align=4))
        number = splat(builder, builder.trunc(loop.k, I32), words)
        found.append(builder.add(number, numbered(words)))
        columns = list(zip(sig.args[13:18], args[13:18], strict=True))
        at = _write(context, builder, columns, found, loop.carried[0], inside, (sig.args[12], args[12]))
        return loop.end([at])[0]

    return signature, emit


def _write(
    context: Any, builder: Any, columns: list[Any], values: list[Any], at: Any, inside: Any, places: tuple[Any, Any]
) -> Any:
    """Write the values of the lanes that are inside, from number `at` on, each to its column; the number behind."""
    bits = bits_of(builder, inside)
    lanes = lanes_of(context, builder, *places, bits)
    for (kind, array), value in zip(columns, values, strict=True):
        place = placed(context, builder, kind, array, at, value.type)
        builder.store(compressed(context, builder, value, inside, lanes), place, align=4)
    return builder.add(at, builder.ctpop(bits))


def _below(builder: Any, inside: Any, k: Any, last: Any, words: Any) -> Any:
    """Of the lanes that are inside those whose number, counted from k on, is below `last`."""
    left = splat(builder, builder.trunc(builder.sub(last, k), I32), words)
    return builder.and_(inside, builder.icmp_signed("<", numbered(words), left))


@intrinsic
def list_row(
    typing: Any, x: Any, y: Any, z: Any, c0: Any, c1: Any, c2: Any, number: Any, h0: Any, h1: Any, h2: Any, square: Any,
    places: Any, steps: Any, code: Any, dx: Any, dy: Any, dz: Any, all_steps: Any, codes: Any, at: Any,
) -> Any:  # fmt: skip
    """List which of the places (x, y, z), (x, y, z) + (c0, c1, c2) and so on, `number` of them, are beside a box.

    The places are float64, rounded to float32 then; box and square are those of `beside`, places `PLACES`. The list are
    the places, and (steps, code), (steps + 1, code + 1) and so on, from number `at` on; gives the number behind.
    """
    signature = types.intp(
        *[types.float64] * 6, INDEX, *[FLOATS] * 4, places, CODE, CODE, dx, dy, dz, all_steps, codes, INDEX
    )

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        n_lanes = width(context)
        floats, doubles, words = (ir.VectorType(kind, n_lanes) for kind in (F32, F64, I32))
        loop = Loop(builder, ir.Constant(I64, 0), args[6], n_lanes, [args[19]])
        ahead = builder.add(splat(builder, builder.trunc(loop.k, I32), words), numbered(words))
        lanes = builder.sitofp(ahead, doubles)
        found = []
        for start, step in zip(args[:3], args[3:6], strict=True):
            moved = builder.fmul(lanes, splat(builder, step, doubles))
            found.append(builder.fptrunc(builder.fadd(splat(builder, start, doubles), moved), floats))
        inside = _below(builder, _is_beside(builder, found, args[7:10], args[10]), loop.k, args[6], words)
        found += [builder.add(splat(builder, value, words), ahead) for value in args[12:14]]
        columns = list(zip(sig.args[14:19], args[14:19], strict=True))
        at = _write(context, builder, columns, found, loop.carried[0], inside, (sig.args[11], args[11]))
        return loop.end([at])[0]

    return signature, emit


@intrinsic
def list_beside(
    typing: Any, dx: Any, dy: Any, dz: Any, codes: Any, first: Any, last: Any, x0: Any, y0: Any, z0: Any,
    h0: Any, h1: Any, h2: Any, square: Any, places: Any, code: Any, origin: Any,
    x: Any, y: Any, z: Any, all_codes: Any, origins: Any, at: Any,
) -> Any:  # fmt: skip
    """List which of the places (dx, dy, dz) + (x0, y0, z0), numbers first ... last - 1, are beside a box.

    All are float32; box and square are those of `beside`, places `PLACES`. The list are the places, their `codes` plus
    `code`, and their numbers plus `origin`, from number `at` on; gives the number behind.
    """
    signature = types.intp(
        dx, dy, dz, codes, INDEX, INDEX, *[FLOATS] * 7, places, CODE, CODE, x, y, z, all_codes, origins, INDEX
    )

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        n_lanes = width(context)
        floats, words = ir.VectorType(F32, n_lanes), ir.VectorType(I32, n_lanes)
        loop = Loop(builder, args[4], args[5], n_lanes, [args[21]])
        found = []
        for axis in range(3):
            place = placed(context, builder, sig.args[axis], args[axis], loop.k, floats)
            found.append(builder.fadd(builder.load(place, align=4), splat(builder, args[6 + axis], floats)))
        inside = _below(builder, _is_beside(builder, found, args[9:12], args[12]), loop.k, args[5], words)
        given = builder.load(placed(context, builder, sig.args[3], args[3], loop.k, words), align=4)
        found.append(builder.add(given, splat(builder, args[14], words)))
        number = builder.add(args[15], builder.trunc(loop.k, I32))
        found.append(builder.add(splat(builder, number, words), numbered(words)))
        columns = list(zip(sig.args[16:21], args[16:21], strict=True))
        at = _write(context, builder, columns, found, loop.carried[0], inside, (sig.args[13], args[13]))
        return loop.end([at])[0]

    return signature, emit
