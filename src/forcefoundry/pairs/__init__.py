"""Who is near whom: finders, the store on disk, and pairs as nodes of a graph."""

from forcefoundry.databases.keys import structure_key
from forcefoundry.pairs.contract import CONTRACT_VERSION, Finder, Pairs
from forcefoundry.pairs.nodes import PairFinderNode, PairVectorsNode, pair_vectors
from forcefoundry.pairs.reference import ReferenceFinder
from forcefoundry.pairs.store import PairStore, store_folder
from forcefoundry.pairs.table import PairTable

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
