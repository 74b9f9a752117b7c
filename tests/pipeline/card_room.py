"""A data card as the library makes one, of any length and with any words in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from forcefoundry.contract.histograms import histogram


def bars(values: Any, unit: str = "eV/atom") -> dict[str, Any]:
    values = np.asarray(values, dtype=np.float64)
    split = np.arange(len(values)) % 3
    made = histogram(values, split, ["train", "valid", "test"], unit)
    assert made is not None
    return made


def card(n_kinds: int = 3, word: str = "Bulk", n_files: int = 2, n_elements: int = 4) -> dict[str, Any]:
    """A card as `forcefoundry.contract.card.card` makes one."""
    rng = np.random.default_rng(0)
    told = {"what": f"the force {word}", "got": "212.4 eV/Å", "expected": "at most 31 <eV/Å>", "remedy": "Look."}
    energy = {"key": word, "count": 1239, "unit": "eV", "unit_read": "kcal/mol", "factor": 0.0433641, "sign": None}
    forces = {"key": "F", "count": 1100, "unit": "eV/Å", "unit_read": "eV/Å", "factor": -1.0, "sign": "gradients"}
    kind = {"splits": {"train": 900, "valid": 2}}
    element = {"atoms": 10**7, "rows": 1239, "splits": {"train": 1200}}
    return {
        "rows": {"in": 1242, "kept": 1239, "quarantined": 2, "rejected": 1},
        "atoms": 123456,
        "properties": {"energy": energy, "forces": forces},
        "splits": {"train": 1200, "valid": 34, "test": 0, "held_out": 5},
        "counts": [{"config_type": f"{word} {at}", "rows": 1000 - at, **kind} for at in range(n_kinds)],
        "species": [{"symbol": f"X{at}", **element} for at in range(n_elements)],
        "periodicity": {"open": 1000, "periodic in part": 239},
        "histograms": {
            "energy_per_atom": bars(rng.normal(-626.1, 0.01, 500)),
            "force_components": bars(np.r_[rng.normal(0, 1, 5000), 1e4], "eV/Å"),
            "n_atoms": bars(rng.integers(2, 200, 500), "atoms"),
            "distance": bars([1.2345] * 7, "Å"),
            "something_new": bars(rng.normal(0, 1e-9, 50), "e"),
        },
        "findings": [
            found("force_outlier", 40, "quarantine", [{"where": word, **told}] * 20),
            found("net_forces", 1, "warn", [{"where": "", **told}]),
            found("mixed", 2, None, [{"where": "a", **told}, {"where": "b", **told, "remedy": "Another."}]),
        ],
        "quarantine": {"force_outlier": 2},
        "files": [{"file": f"/data/{word}/{at}.xyz", "rows": at, "sha256": "ab" * 32} for at in range(n_files)],
    }


def found(check: str, n: int, policy: str | None, first: list[dict[str, str]]) -> dict[str, Any]:
    """What one check found."""
    return {"check": check, "count": n, "rows": n, "policy": policy, "first": first}
