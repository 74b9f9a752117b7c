"""Filling the pair cache and using it: the two halves of precomputing pairs, each alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from forcefoundry.databases.database import Database
from forcefoundry.databases.mapped import pieces
from forcefoundry.graph import Node, ordered_ancestors, replace_node
from forcefoundry.pairs.contract import Finder
from forcefoundry.pairs.finders import make_finder
from forcefoundry.pairs.nodes import CachedPairsNode, PairFinderNode
from forcefoundry.pairs.packing import half_of, in_words, joined
from forcefoundry.pairs.store import Filled, PairStore, fill
from forcefoundry.pairs.store.filling import ATOMS_AT_ONCE, Progress
from forcefoundry.pairs.table import PairTable


def fill_cache(
    database: Database,
    store: PairStore,
    finder: Finder | None = None,
    progress: Progress = lambda structures, pairs: None,
) -> Filled:
    """Compute and keep the pairs that the store lacks; needs no network and no loss."""
    return fill(store, database.keys(), database, finder or make_finder("auto"), progress)


def read_table(database: Database, store: PairStore) -> PairTable:
    """The pairs of all structures of the database out of the store; one that is absent is a ValueError."""
    return store.table(database.keys(), database.n_atoms)


def compute_table(database: Database, cutoff: float, finder: Finder | None = None) -> PairTable:
    """The pairs of all structures of the database, computed now and kept in memory only."""
    chosen = finder or make_finder("auto")
    halves = []
    for rows in pieces(np.arange(len(database)), database.n_atoms, ATOMS_AT_ONCE):
        try:
            positions, cell, pbc, offsets = database.take(rows)
            halves.append(half_of(chosen, positions, cell, pbc, cutoff, offsets))
        except ValueError as error:
            raise in_words(error, rows) from None
    return PairTable.of_half(cutoff, joined(halves))


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
