"""Bins in space: how large they are, and which atoms and candidates of a large structure are in each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from forcefoundry.pairs.native.compiling import compiled, making
from forcefoundry.pairs.native.home import middle
from forcefoundry.pairs.native.lanes import LANES, get, put

PER_BIN = 40
"""Atoms a bin, about: many atoms share the work of listing what is near them, few leave much of the list too far."""

LARGEST_EDGE = 4.0
"""Cutoffs. Bins are no wider, unless there would be too many of them."""

SAMPLE = 1024
"""Atoms that tell where most of them are, about."""


class Grid(NamedTuple):
    """Bins of a structure: `edges` (3,) Å, `shape` (3,), `reaches` (3,) bins that the cutoff can span.

    starts: (bins + 2,) where the candidates of a bin start in `members`; x, y, z: (m + LANES,) their coordinates, Å.
    """

    edges: Any
    shape: Any
    reaches: Any
    starts: Any
    members: Any
    x: Any
    y: Any
    z: Any


@compiled
def best_edge(n, bounds, within):
    """The edge (Å) of cubic bins that would hold `PER_BIN` of n atoms each, if these fill their box evenly."""
    volume = 1.0
    for a in range(3):
        volume *= max(bounds[1, a] - bounds[0, a], within * 0.1)
    return max((volume * PER_BIN / n) ** (1.0 / 3.0), within * 0.25)


@making
def crowd(n, bounds, within, home):
    """The box (2, 3), Å, that is divided into bins: that around all atoms, or, where it is mostly empty, most of them.

    One atom far away would else have all others share a bin. What lies outside goes to the outermost bins.
    """
    box = bounds[:2].copy()
    if best_edge(n, bounds, within) <= LARGEST_EDGE * within:
        return box
    step = n // SAMPLE + 1
    for a in range(3):
        here = np.sort((home.x if a == 0 else (home.y if a == 1 else home.z))[:n:step])
        few = len(here) // 64
        low, high = here[few], here[len(here) - 1 - few]
        beside = 0.25 * (high - low) + within
        box[0, a], box[1, a] = max(box[0, a], low - beside), min(box[1, a], high + beside)
    return box


@compiled
def shape_of(n, m, bounds, within, edges, shape, reaches):
    """Choose edges (Å), number and reach (bins) of the bins along each axis of a box for n atoms and m candidates."""
    # Bins much wider than the cutoff help nobody: those between atoms far apart may as well be empty.
    edge = min(best_edge(n, bounds, within), LARGEST_EDGE * within)
    for a in range(3):
        span = bounds[1, a] - bounds[0, a]
        edges[a] = max(span / max(math.floor(min(span / edge, 2.0e6)), 1.0), edge)
    while True:
        bins = 1.0
        longest = 0
        for a in range(3):
            reaches[a] = math.ceil(within / edges[a] + 1e-6)
            shape[a] = math.floor((bounds[1, a] - bounds[0, a]) / edges[a]) + 1 + 2 * reaches[a]
            bins *= shape[a]
            longest = a if shape[a] > shape[longest] else longest
        if bins <= 8.0 * m + 512.0:
            return
        # Atoms far apart in an open system: bins grow until their number follows the atoms' again.
        edges[longest] *= 2.0


@compiled
def bin_along(at, low, upright, shape, reach):
    """The bin of a coordinate, along one axis whose bins start at `low`; the outermost hold all that lies beyond.

    So the bins of two places lie no farther apart than those of the same places would if bins went on for ever.
    upright: bins an Å.
    """
    return np.int64(min(max(np.floor((at - low) * upright) + reach, 0.0), shape - 1.0))


@making
def fill(m, box, bounds, found, edges, shape, reaches):
    """Sort m candidates into the bins of a box, keeping their order within each."""
    low0, low1, low2 = box[0, 0] - middle(bounds, 0), box[0, 1] - middle(bounds, 1), box[0, 2] - middle(bounds, 2)
    upright0, upright1, upright2 = 1.0 / edges[0], 1.0 / edges[1], 1.0 / edges[2]
    shape0, shape1, shape2 = shape[0], shape[1], shape[2]
    reach0, reach1, reach2 = reaches[0], reaches[1], reaches[2]
    n_bins = shape0 * shape1 * shape2
    starts, bin_of = np.zeros(n_bins + 2, np.int64), np.empty(m, np.int64)
    for k in range(m):
        at = bin_along(get(found.x, k), low0, upright0, shape0, reach0)
        at = at * shape1 + bin_along(get(found.y, k), low1, upright1, shape1, reach1)
        at = at * shape2 + bin_along(get(found.z, k), low2, upright2, shape2, reach2)
        put(bin_of, k, at)
        put(starts, at + 2, get(starts, at + 2) + 1)
    for at in range(n_bins + 1):
        starts[at + 1] += starts[at]
    # Bin b's place is kept in starts[b + 1], which ends up where bin b + 1 starts.
    members = np.empty(m, np.int64)
    x, y, z = np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32), np.empty(m + LANES, np.float32)
    for k in range(m):
        at = get(bin_of, k) + 1
        to = get(starts, at)
        put(starts, at, to + 1)
        put(members, to, k)
        put(x, to, get(found.x, k))
        put(y, to, get(found.y, k))
        put(z, to, get(found.z, k))
    return Grid(edges, shape, reaches, starts, members, x, y, z)


@making
def by_bins(n, box, bounds, home, found, edges, shape, reaches):
    """The atoms at home, sorted by bin, and where each bin's start."""
    low0, low1, low2 = box[0, 0] - middle(bounds, 0), box[0, 1] - middle(bounds, 1), box[0, 2] - middle(bounds, 2)
    n_bins = shape[0] * shape[1] * shape[2]
    starts, bin_of, atoms = np.zeros(n_bins + 2, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        k = get(home.at, i)
        b = bin_along(get(found.x, k), low0, 1.0 / edges[0], shape[0], reaches[0])
        b = b * shape[1] + bin_along(get(found.y, k), low1, 1.0 / edges[1], shape[1], reaches[1])
        b = b * shape[2] + bin_along(get(found.z, k), low2, 1.0 / edges[2], shape[2], reaches[2])
        put(bin_of, i, b)
        put(starts, b + 2, get(starts, b + 2) + 1)
    for b in range(n_bins):
        starts[b + 2] += starts[b + 1]
    for i in range(n):
        b = get(bin_of, i) + 1
        put(atoms, get(starts, b), i)
        put(starts, b, get(starts, b) + 1)
    return atoms, starts[: n_bins + 1]
