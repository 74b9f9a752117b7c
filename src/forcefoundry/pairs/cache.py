"""Filling the pair cache and using it: the two halves of precomputing pairs, each alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from forcefoundry.databases.database import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.graph import Node, ordered_ancestors, replace_node
from forcefoundry.pairs.brute import BruteFinder
from forcefoundry.pairs.contract import CONTRACT_VERSION, Finder, Pairs
from forcefoundry.pairs.nodes import CachedPairsNode, PairFinderNode
from forcefoundry.pairs.store import PairStore, fill
from forcefoundry.pairs.table import PairTable

Progress = Callable[[Iterable[int]], Iterable[int]]


def digest_of(keys: Iterable[bytes], cutoff: float) -> str:
    """What later steps depend on: sorted keys, cutoff and contract version, not how the store grew."""
    text = f"forcefoundry pairs, contract {CONTRACT_VERSION}, cutoff {float(cutoff).hex()}\n".encode()
    return hashlib.sha256(text + b"".join(sorted(set(keys)))).hexdigest()


def find_one(database: Database, at: int, cutoff: float, finder: Finder) -> Pairs:
    """The pairs of one structure, atoms counted from 0; errors name the structure's place in the database."""
    atoms = database.atoms(at)
    try:
        return finder(
            database.columns["positions"][atoms],
            database.columns["cell"][at : at + 1],
            database.columns["pbc"][at : at + 1],
            cutoff,
            np.array([0, atoms.stop - atoms.start]),
        )
    except ValueError as error:
        raise ValueError(str(error).replace("System 0", f"Structure {at} of the database", 1)) from None


def fill_cache(
    database: Database,
    store: PairStore,
    finder: Finder | None = None,
    progress: Progress = iter,
) -> int:
    """Compute and keep the pairs that the store lacks; needs no network and no loss. The number computed."""
    chosen = finder or BruteFinder()
    return fill(store, keys_of(database.columns), lambda at: find_one(database, at, store.cutoff, chosen), progress)


def read_table(database: Database, store: PairStore) -> PairTable:
    """The pairs of all structures of the database out of the store; one that is absent is a ValueError."""
    keys = keys_of(database.columns)
    held = store.where()
    absent = [at for at, key in enumerate(keys) if key not in held]
    if absent:
        raise ValueError(
            f"The pair cache lacks {len(absent)} of {len(keys)} structures (the first is structure {absent[0]}) within "
            f"{store.cutoff} Å: the structures or the cutoff changed. Run precompute_pairs again."
        )
    return PairTable.of_parts(store.cutoff, [store.read(key) for key in keys])


def compute_table(database: Database, cutoff: float, finder: Finder | None = None) -> PairTable:
    """The pairs of all structures of the database, computed now and kept in memory only."""
    chosen = finder or BruteFinder()
    return PairTable.of_parts(cutoff, [find_one(database, at, cutoff, chosen) for at in range(len(database))])


def finder_nodes(nodes: Iterable[Node]) -> list[PairFinderNode]:
    """The pair finders that the given nodes need, in order of first sight."""
    return [node for node in ordered_ancestors(nodes) if isinstance(node, PairFinderNode)]


def cached_nodes(nodes: Iterable[Node]) -> list[CachedPairsNode]:
    """The inputs through which the given nodes already read cached pairs, in order of first sight."""
    return [node for node in ordered_ancestors(nodes) if isinstance(node, CachedPairsNode)]


def use_cache(nodes: Iterable[Node], database: Database, tables: dict[float, Any]) -> int:
    """Let the graph above `nodes` read its pairs from the database; the number of finders that were replaced.

    Args:
        nodes: nodes that need the pairs, for instance the outputs of an assembled model.
        database: gets the tables attached.
        tables: cutoff to PairTable; each finder's cutoff must be among them, else nothing is changed.
    """
    nodes = list(nodes)
    finders = finder_nodes(nodes)
    for node in finders:
        if node.cutoff not in tables:
            raise ValueError(f"Node {node.name!r} needs pairs within {node.cutoff} Å; cached are {sorted(tables)} Å.")
    inputs = {(node.cutoff, node.key): node for node in cached_nodes(nodes)}
    held = dict(database.pairs)
    moved: list[tuple[Node, tuple[Node, ...]]] = []
    try:
        database.pairs.update(tables)
        for node in finders:
            for key, output in node.living_outputs().items():
                new = inputs.setdefault((node.cutoff, key), CachedPairsNode(node.cutoff, key))
                moved.extend((child, child.parents) for child in output.children)
                replace_node(output, new)
    except BaseException:
        # Ctrl-C between two replacements would leave half a graph on each source: all or nothing.
        for child, parents in reversed(moved):
            child.parents = parents
        database.pairs.clear()
        database.pairs.update(held)
        raise
    return len(finders)
