"""The pair store: shards on disk that are found by content, and what keeps them right."""

from forcefoundry.pairs.store.filling import Filled, Structures, fill
from forcefoundry.pairs.store.folders import link_or_copy
from forcefoundry.pairs.store.shard import FORMAT, DamagedShardError
from forcefoundry.pairs.store.store import PairStore, store_folder

__all__ = ["FORMAT", "DamagedShardError", "Filled", "PairStore", "Structures", "fill", "link_or_copy", "store_folder"]
