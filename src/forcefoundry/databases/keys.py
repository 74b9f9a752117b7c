"""A structure's key: its content and nothing else. Pairs are kept under it, and splits are drawn by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint8]
"""Keys of structures, (n, 32): a row is one sha256."""


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


def keys_of(columns: Mapping[str, NDArray[Any]]) -> Keys:
    """The keys (n, 32) of all structures of packed columns, in their order: a row is what `structure_key` gives."""
    n_atoms = np.ascontiguousarray(columns["n_atoms"], dtype="<i8")
    ends = np.concatenate([[0], np.cumsum(n_atoms)])
    # Canonical bytes of whole columns at once; what remains to be done for each structure is hashing.
    pbc = np.ascontiguousarray(columns["pbc"], dtype=bool)
    numbers = _bytes(n_atoms)
    species = _bytes(np.asarray(columns["species"], dtype="<i8"))
    positions = _bytes(np.asarray(columns["positions"], dtype="<f8") + 0.0)
    cell = _bytes(np.where(pbc[:, :, None], np.asarray(columns["cell"], dtype="<f8"), 0.0) + 0.0)
    axes = _bytes(pbc.view("u1"))
    digests = bytearray()
    for at, (start, stop) in enumerate(pairwise(ends.tolist())):
        content = hashlib.sha256(numbers[8 * at : 8 * at + 8])
        content.update(species[8 * start : 8 * stop])
        content.update(positions[24 * start : 24 * stop])
        content.update(cell[72 * at : 72 * at + 72])
        content.update(axes[3 * at : 3 * at + 3])
        digests += content.digest()
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, 32)


def _bytes(values: NDArray[Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(values).reshape(-1).view("u1").data)


def is_flat(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> bool:
    """Whether the periodic lattice vectors of one structure are zero or lie in one plane or line."""
    vectors = cell[pbc]
    if not len(vectors):
        return False
    volume = np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0))
    return bool(volume <= 1e-10 * np.prod(np.linalg.norm(vectors, axis=1)))
