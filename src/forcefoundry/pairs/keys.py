"""A structure's key: what its pairs depend on, and nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

from forcefoundry.pairs.contract import Bools, Floats, Ints


def structure_key(species: Ints, positions: Floats, cell: Floats, pbc: Bools) -> bytes:
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
