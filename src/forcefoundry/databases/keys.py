"""A structure's key: its content and nothing else. Pairs are kept under it, and splits are drawn by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

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


def keys_of(columns: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """The key of every structure of packed columns, in their order."""
    offsets = np.concatenate([[0], np.cumsum(columns["n_atoms"])])
    spans = [slice(start, stop) for start, stop in pairwise(offsets)]
    species, positions, cell, pbc = (columns[name] for name in ("species", "positions", "cell", "pbc"))
    return [structure_key(species[atoms], positions[atoms], cell[at], pbc[at]) for at, atoms in enumerate(spans)]


def is_flat(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> bool:
    """Whether the periodic lattice vectors of one structure are zero or lie in one plane or line."""
    vectors = cell[pbc]
    if not len(vectors):
        return False
    volume = np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0))
    return bool(volume <= 1e-10 * np.prod(np.linalg.norm(vectors, axis=1)))
