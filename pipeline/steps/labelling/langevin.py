"""Langevin dynamics of one molecule: what shakes the geometries that are labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def langevin(
    positions: Array,  # (n_atoms, 3), Å
    masses: Array,  # (n_atoms,), u
    forces: Callable[[Array], Array],  # (n_atoms, 3) Å -> (n_atoms, 3) eV/Å
    rng: np.random.Generator,
    *,
    thermal_energy: float,  # k_B T, eV
    timestep: float,  # Å sqrt(u / eV), ASE's unit of time
    friction: float,  # the inverse of that unit
) -> Iterator[Array]:
    """Yield the positions (n_atoms, 3) in Å after each time step, for ever.

    The splitting is BAOAB (Leimkuhler and Matthews 2013), whose positions are distributed well even at long steps.
    Velocities start from the Maxwell distribution. Whatever `forces` raises goes through.
    """
    x, m = positions.copy(), masses[:, None]
    v = rng.standard_normal(x.shape) * np.sqrt(thermal_energy / m)
    memory = np.exp(-friction * timestep)
    noise = np.sqrt((1 - memory**2) * thermal_energy / m)  # (n_atoms, 1)
    f = forces(x)
    while True:
        v += 0.5 * timestep * f / m
        x += 0.5 * timestep * v
        v = memory * v + noise * rng.standard_normal(x.shape)
        x += 0.5 * timestep * v
        f = forces(x)
        v += 0.5 * timestep * f / m
        yield x.copy()
