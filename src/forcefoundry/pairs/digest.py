"""What later steps depend on of the pairs of a data set."""

from __future__ import annotations

import hashlib

import numpy as np

from forcefoundry.databases.keys import Keys
from forcefoundry.pairs.contract import CONTRACT_VERSION


def digest_of(keys: Keys, cutoff: float) -> str:
    """What later steps depend on: sorted keys (n, 32), cutoff and contract version, not how the store grew."""
    text = f"forcefoundry pairs, contract {CONTRACT_VERSION}, cutoff {float(cutoff).hex()}\n".encode()
    return hashlib.sha256(text + distinct(keys).tobytes()).hexdigest()


def distinct(keys: Keys) -> Keys:
    """The keys without repeats, sorted."""
    whole = np.unique(np.ascontiguousarray(keys, dtype=np.uint8).reshape(-1, 32).view("V32"))
    return whole.view(np.uint8).reshape(-1, 32)
