"""What tests of the pair store share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forcefoundry.databases import Database
from forcefoundry.pairs import PairStore, PairTable
from forcefoundry.pairs.cache import fill_cache

CUTOFF = 3.2


def store_at(root: Path, cutoff: float = CUTOFF) -> PairStore:
    """A store opened anew, as another process would."""
    return PairStore(root, cutoff)


def filled(base: Database, store: PairStore) -> int:
    """Fill the store; how many structures were computed."""
    return fill_cache(base, store).structures


def same(left: PairTable, right: PairTable) -> bool:
    """Whether two tables give the same pairs, to the last number and type."""
    (starts, these), (other_starts, those) = left.all_pairs(), right.all_pairs()
    arrays = [(getattr(these, name), getattr(those, name)) for name in ("i", "j", "S")]
    equal = all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in [*arrays, (starts, other_starts)])
    return left.cutoff == right.cutoff and equal


def shards_in(root: Path) -> list[Path]:
    """The shards that lie anywhere below a folder, without indices."""
    return sorted(path for path in root.rglob("*.arrow") if not path.name.startswith("index-"))
