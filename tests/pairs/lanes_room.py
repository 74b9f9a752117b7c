"""What the vector instructions of the CPU finder pick and write, beside plain NumPy; also run in other processes."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from forcefoundry.pairs.native.lanes import LANES, NOWHERE, PLACES
from forcefoundry.pairs.native.near import list_beside, list_row, scan, scan_codes
from forcefoundry.pairs.native.writing import put_lanes, put_mirrored, put_shifts

F32 = np.float32
Values = NDArray[np.float32]


@numba.njit  # type: ignore[untyped-decorator]
def _scans(x, y, z, code, first, last, center, limits, hits, codes):  # type: ignore[no-untyped-def]
    x0, y0, z0 = center
    least, sure, most = limits
    number = scan(x, y, z, first, last, x0, y0, z0, least, sure, most, PLACES, hits)
    same = scan_codes(
        x, y, z, first, last, x0, y0, z0, least, sure, most, PLACES, code, np.uint32(7), codes, np.int64(3)
    )
    return number, same


@numba.njit  # type: ignore[untyped-decorator]
def _row(start, step, number, half, square, dx, dy, dz, steps, codes, at):  # type: ignore[no-untyped-def]
    return list_row(
        start[0], start[1], start[2], step[0], step[1], step[2], number, half[0], half[1], half[2], square,
        PLACES, np.uint32(100), np.uint32(4294967290), dx, dy, dz, steps, codes, at,
    )  # fmt: skip


@numba.njit  # type: ignore[untyped-decorator]
def _beside(dx, dy, dz, codes, first, last, at, half, square, x, y, z, code, origin):  # type: ignore[no-untyped-def]
    return list_beside(
        dx, dy, dz, codes, first, last, at[0], at[1], at[2], half[0], half[1], half[2], square,
        PLACES, np.uint32(40), np.uint32(1000), x, y, z, code, origin, np.int64(2),
    )  # fmt: skip


@numba.njit  # type: ignore[untyped-decorator]
def _write(codes, p, S, copied, seen, at):  # type: ignore[no-untyped-def]
    put_shifts(S, 3 * at, codes, p)
    put_lanes(copied, at, codes, p)
    put_mirrored(seen, at, codes, p + LANES, np.uint32(1 << 20))


def check() -> None:
    """Fail unless all of them pick, in order, what NumPy does; for many lengths, of which few fill whole vectors."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        _check_written(rng)
    for number in [*range(40), 100, 333]:
        places = rng.uniform(-3, 3, (3, number + LANES)).astype(F32)
        _check_scans(rng, places, number)
        _check_row(rng, number)
        _check_beside(rng, places, number)


def _check_scans(rng: np.random.Generator, places: Values, number: int) -> None:
    x, y, z = places.copy()
    for axis in (x, y, z):
        axis[number:] = NOWHERE
    code = rng.integers(0, 2**32, number + LANES, dtype=np.uint32)
    first, center = min(3, number), (F32(0.5), F32(-0.25), F32(0.125))
    square = (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2
    for limits in ((F32(0), F32(4), F32(4)), (F32(0.5), F32(4), F32(4)), (F32(0), F32(3), F32(4))):
        wanted = np.flatnonzero(square[first:number] < limits[2]) + first
        unclear = bool(np.any((square[wanted] < limits[0]) | (square[wanted] >= limits[1])))
        hits, codes = np.zeros(number + LANES, np.uint32), np.zeros(number + LANES + 3, np.uint32)
        for found in _scans(x, y, z, code, first, number, center, limits, hits, codes):
            assert (found & 0xFFFFFFFF, bool(found >> 32)) == (len(wanted), unclear)
        np.testing.assert_array_equal(hits[: len(wanted)], wanted)
        np.testing.assert_array_equal(codes[3 : 3 + len(wanted)], code[wanted] + np.uint32(7))


def _check_written(rng: np.random.Generator) -> None:
    codes = rng.integers(0, 2**32, 3 * LANES, dtype=np.uint32)
    p, at = (int(number) for number in rng.integers(0, LANES, 2))
    S = np.full(9 * LANES, 99, np.int32)
    copied, seen = np.zeros(3 * LANES, np.uint32), np.zeros(3 * LANES, np.uint32)
    _write(codes, p, S, copied, seen, at)
    given, written = codes[p : p + LANES], slice(at, at + LANES)
    shifts = np.stack([given >> 10 & 31, given >> 5 & 31, given & 31], axis=1).astype(np.int32) - 16
    np.testing.assert_array_equal(S.reshape(-1, 3)[written], shifts)
    np.testing.assert_array_equal(np.delete(S.reshape(-1, 3), written, axis=0), 99)
    for found, wanted in ((copied, given), (seen, (1 << 20) - (given[::-1] & 32767))):
        np.testing.assert_array_equal(found[written], wanted)
        assert not np.delete(found, written).any()


def _inside(places: Values, half: tuple[F32, ...], square: F32) -> NDArray[np.int64]:
    beyond = np.maximum(np.abs(places) - np.array(half)[:, None], F32(0))
    total = (beyond[0] ** 2 + beyond[1] ** 2) + beyond[2] ** 2
    return np.flatnonzero(total < square)


def _check_row(rng: np.random.Generator, number: int) -> None:
    start, step = rng.uniform(-4, 1, 3), rng.uniform(0.0, 0.7, 3)
    half, square = (F32(0.5), F32(1.0), F32(1.5)), F32(1.7)
    lists = [np.zeros(number + LANES + 1, F32) for _ in range(3)]
    steps, codes = np.zeros(number + LANES + 1, np.uint32), np.zeros(number + LANES + 1, np.uint32)
    places = (start[:, None] + np.arange(number) * step[:, None]).astype(F32)
    wanted = _inside(places, half, square)
    assert _row(tuple(start), tuple(step), number, half, square, *lists, steps, codes, 1) == 1 + len(wanted)
    for axis in range(3):
        np.testing.assert_array_equal(lists[axis][1 : 1 + len(wanted)], places[axis, wanted])
    np.testing.assert_array_equal(steps[1 : 1 + len(wanted)], 100 + wanted)
    np.testing.assert_array_equal(codes[1 : 1 + len(wanted)], (4294967290 + wanted) % 2**32)


def _check_beside(rng: np.random.Generator, moves: Values, number: int) -> None:
    at, half, square = (F32(0.25), F32(0.5), F32(-1)), (F32(0.5), F32(1.0), F32(0.25)), F32(1.7)
    given = rng.integers(0, 2**32, number + LANES, dtype=np.uint32)
    first = min(2, number)
    places = moves + np.array(at)[:, None]
    wanted = _inside(places[:, first:number], half, square) + first
    lists = [np.zeros(number + LANES + 2, F32) for _ in range(3)]
    code, origin = np.zeros(number + LANES + 2, np.uint32), np.zeros(number + LANES + 2, np.uint32)
    found = _beside(*moves, given, first, number, at, half, square, *lists, code, origin)
    assert found == 2 + len(wanted)
    for axis in range(3):
        np.testing.assert_array_equal(lists[axis][2:found], places[axis, wanted])
    np.testing.assert_array_equal(code[2:found], given[wanted] + np.uint32(40))
    np.testing.assert_array_equal(origin[2:found], 1000 + wanted)


if __name__ == "__main__":
    check()
