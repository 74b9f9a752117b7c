"""The neighbours of one atom among the candidates that follow it: picked in float32, decided in float64."""

from __future__ import annotations

import math

import numpy as np

from forcefoundry.pairs.contract import COINCIDENT
from forcefoundry.pairs.native.candidates import origin_of
from forcefoundry.pairs.native.compiling import compiled, inlined, making
from forcefoundry.pairs.native.lanes import LANES, NOWHERE, PLACES, get, put
from forcefoundry.pairs.native.near import scan, scan_codes


@inlined
def limits(cutoff, error):
    """The squares (float32, Å²) between which a candidate is surely near, given how wrong a distance can be (Å).

    Gives (least, sure, most): in [least, sure) it is a pair, from `most` on it is none, between them float64 decides.
    """
    low, high = max(cutoff - error, 0.0), cutoff + error
    least = (COINCIDENT + error) * (COINCIDENT + error) * (1.0 + 1e-5)
    return np.float32(least), np.float32(low * low * (1.0 - 1e-6)), np.float32(high * high * (1.0 + 1e-6))


@inlined
def pick(fx, fy, fz, first, last, x, y, z, least, sure, most, hits):
    """Write to `hits` which candidates of first ... last - 1 may lie within the cutoff of (x, y, z), in their order.

    Behind the last candidate stand LANES that lie nowhere; `hits` has room for all and LANES more. Gives the number of
    hits, and whether any of them must be decided in float64.
    """
    found = scan(fx, fy, fz, first, last, x, y, z, least, sure, most, PLACES, hits)
    return np.int64(found & np.uint64(0xFFFFFFFF)), found >> np.uint64(32) != 0


@inlined
def pick_codes(fx, fy, fz, code, first, last, x, y, z, least, sure, most, own, codes, at):
    """The same, but write the hits' codes, as seen from an atom whose moves are packed in `own`, from codes[at] on.

    `codes` has room for all candidates and LANES more.
    """
    some = scan_codes(fx, fy, fz, first, last, x, y, z, least, sure, most, PLACES, code, own, codes, at)
    return np.int64(some & np.uint64(0xFFFFFFFF)), some >> np.uint64(32) != 0


@compiled
def decide(positions, i, start, home, cutoff, found, hits, n):
    """Keep of the n `hits` of atom i those with |D| < cutoff; the number kept, or -1 - j for one in atom i's place.

    This is the contract's arithmetic, operation by operation: D = (r_j - r_i) + ((S0 a + S1 b) + S2 c).
    """
    vectors, wraps = home.vectors, home.wraps
    kept = 0
    for hit in range(n):
        k = hits[hit]
        local, m0, m1, m2 = origin_of(found, k)
        j = start + local
        S0 = float(m0 - wraps[local, 0] + wraps[i, 0])
        S1 = float(m1 - wraps[local, 1] + wraps[i, 1])
        S2 = float(m2 - wraps[local, 2] + wraps[i, 2])
        square = 0.0
        for c in range(3):
            shift = (S0 * vectors[0, c] + S1 * vectors[1, c]) + S2 * vectors[2, c]
            D = (positions[j, c] - positions[start + i, c]) + shift
            square = square + D * D
        distance = math.sqrt(square)
        if distance < COINCIDENT:
            return -1 - local
        hits[kept] = k
        kept += distance < cutoff
    return kept


@inlined
def moves(i, home):
    """The cells that atom i was moved by, packed. Sums carry: it is added to all fields of a code at once."""
    wraps = home.wraps
    return np.uint32((get(wraps, 3 * i) << 10) + (get(wraps, 3 * i + 1) << 5) + get(wraps, 3 * i + 2))


@inlined
def encode(hits, n, code, own, codes, at):
    """Write the codes of the first n hits, as seen from an atom whose moves are packed in `own`, from codes[at] on."""
    for hit in range(n):
        put(codes, at + hit, get(code, get(hits, hit)) + own)


@inlined
def close_off(fx, fy, fz, m):
    """Put candidates that lie nowhere behind the last of m."""
    for lane in range(LANES):
        fx[m + lane], fy[m + lane], fz[m + lane] = NOWHERE, NOWHERE, NOWHERE


@making
def more_codes(codes, used, more):
    """The codes in an array with room for `more`."""
    larger = np.empty(2 * len(codes) + more, np.uint32)
    for at in range(used):
        larger[at] = codes[at]
    return larger
