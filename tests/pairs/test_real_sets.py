"""Real structures through finder, store and batches: what brute force finds, to the last bit, and no byte too many."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from forcefoundry.batches import Packer
from forcefoundry.databases import Database
from forcefoundry.pairs import ReferenceFinder
from forcefoundry.pairs.cache import compute_table, fill_cache, read_table
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.store.verifying import verify
from tests.outside import data, files
from tests.pairs.store_room import same, shards_in, store_at

CUTOFF = 6.0
BY_BRUTE_FORCE = 24
SETS = [path for name in ("mlearn", "nbmotaw", "solvent_xtb") for path in files(data(), f"{name}/*.xyz")]


def read(path: Path) -> Database:
    """All structures of a file, without labels."""
    read = ase.io.read(path, ":")
    columns = {
        "n_atoms": np.array([len(atoms) for atoms in read]),
        "species": np.concatenate([atoms.numbers for atoms in read]),
        "positions": np.concatenate([atoms.positions for atoms in read]),
        "cell": np.stack([atoms.cell.array for atoms in read]),
        "pbc": np.stack([atoms.pbc for atoms in read]),
    }
    return Database(columns, {"train": np.arange(len(read))})


@pytest.mark.parametrize("path", SETS)
def test_a_real_set_comes_out_of_the_store_as_brute_force_finds_it(path: Path, tmp_path: Path) -> None:
    base, store = read(path), store_at(tmp_path, CUTOFF)
    fill_cache(base, store, CpuFinder(threads=2))
    table = read_table(base, store_at(tmp_path, CUTOFF))
    assert same(table, compute_table(base, CUTOFF, CpuFinder()))
    assert verify(store_at(tmp_path, CUTOFF)) == []
    chosen = np.sort(np.random.default_rng(0).permutation(len(base))[:BY_BRUTE_FORCE])
    positions, cell, pbc, offsets = base.take(chosen)
    found = table.batch(chosen, offsets[:-1])
    wanted = ReferenceFinder()(positions, cell, pbc, CUTOFF, offsets)
    for name in ("i", "j", "S"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("path", SETS)
def test_a_pair_of_a_real_set_takes_two_bytes(path: Path, tmp_path: Path) -> None:
    """4 bytes a pair of the half, some more an atom and a structure: up to 2.3 of the full list, and a file's head."""
    base, store = read(path), store_at(tmp_path, CUTOFF)
    pairs = fill_cache(base, store).pairs
    assert pairs > 0
    n_bytes = sum(shard.stat().st_size for shard in shards_in(tmp_path))
    assert n_bytes < 2.3 * pairs + 100 * len(base) + 4096


@pytest.mark.parametrize("path", SETS)
def test_batches_of_a_real_set_are_those_found_on_the_fly(path: Path, tmp_path: Path) -> None:
    base, store = read(path), store_at(tmp_path, CUTOFF)
    fill_cache(base, store)
    base.pairs[CUTOFF] = read_table(base, store)
    names = ["positions", "cell", "pbc", "n_atoms", *(f"pairs_{CUTOFF!r}_{key}" for key in "ijS")]
    packer, finder = Packer(base, names), CpuFinder()
    for rows in np.array_split(np.random.default_rng(1).permutation(len(base)), -(-len(base) // 32)):
        batch = packer.pack(rows)
        offsets = np.concatenate([[0], np.cumsum(batch["n_atoms"].numpy())])
        pairs = finder(*(batch[name].numpy() for name in ("positions", "cell", "pbc")), CUTOFF, offsets)
        for key in "ijS":
            assert torch.equal(batch[f"pairs_{CUTOFF!r}_{key}"], torch.from_numpy(getattr(pairs, key)))
