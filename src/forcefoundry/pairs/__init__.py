"""Who is near whom: finders, the store on disk, and pairs as nodes of a graph."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from forcefoundry.databases.keys import structure_key
from forcefoundry.pairs.contract import CONTRACT_VERSION, Finder, Pairs
from forcefoundry.pairs.store import PairStore, store_folder
from forcefoundry.pairs.table import PairTable

if TYPE_CHECKING:
    from forcefoundry.pairs.nodes import PairFinderNode, PairVectorsNode, pair_vectors
    from forcefoundry.pairs.reference import ReferenceFinder

__all__ = [
    "CONTRACT_VERSION",
    "Finder",
    "PairFinderNode",
    "PairStore",
    "PairTable",
    "PairVectorsNode",
    "Pairs",
    "ReferenceFinder",
    "pair_vectors",
    "store_folder",
    "structure_key",
]

# torch, which these need, takes a second and a hundred megabytes that data can come in without.
_LATE = {
    **dict.fromkeys(("PairFinderNode", "PairVectorsNode", "pair_vectors"), "nodes"),
    "ReferenceFinder": "reference",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
