"""A structure's key: its content and nothing else. Pairs are kept under it, and splits are drawn by it."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def structure_key(
    species: NDArray[np.int64], positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]
) -> bytes:
    """The sha256 (32 bytes) over the canonical bytes of one structure.

    Little-endian int64 species, float64 positions and cell, one byte an axis of pbc, preceded by the number of atoms.
    -0.0 counts as 0.0, and a lattice vector of a direction that is not periodic counts as zero.
    """
    parts = (
        np.asarray([len(species)], dtype="<i8"),
        np.asarray(species, dtype="<i8"),
        np.asarray(positions, dtype="<f8") + 0.0,
        np.where(np.asarray(pbc, dtype=bool)[:, None], np.asarray(cell, dtype="<f8"), 0.0) + 0.0,
        np.asarray(pbc, dtype="u1"),
    )
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()
