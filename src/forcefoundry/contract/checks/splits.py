"""What is wrong with splits: structures in two of them, and elements that are judged and never trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures, first_of_key


def overlap(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A structure in one split that an earlier row, exactly or nearly, is of in another: it is known already."""
    split = measures.split
    if split is None:
        return
    exact = first_of_key(measures.keys)
    twin = exact if measures.twin is None else np.where(measures.twin >= 0, measures.twin, exact)
    for how, others in (("", exact), ("nearly ", twin)):
        if how and measures.twin is None:
            continue
        apart = (split != split[others]) & (split >= 0) & (split[others] >= 0)
        if how:
            apart &= ~((split != split[exact]) & (split >= 0) & (split[exact] >= 0))  # told as exact
        for row in np.flatnonzero(apart).tolist():
            yield Finding(
                "split_overlap",
                row,
                f"the structure, in {measures.splits[split[row]]!r},",
                f"{how}that of {Finding.OTHER} in {measures.splits[split[others[row]]]!r}",
                "each structure in one split",
                "Leave one of the two out, or report errors with and without it.",
                int(others[row]),
            )


def unseen_element(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """An element of a judged split that no structure of `train` has: not even its energy could be learned."""
    if measures.split is None or "train" not in measures.splits:
        return
    train = measures.split == measures.splits.index("train")
    trained = (measures.composition[train] > 0).any(axis=0)
    judged = (measures.split >= 0) & ~train
    for row in np.flatnonzero(judged & (measures.composition[:, ~trained] > 0).any(axis=1)).tolist():
        lacking = np.flatnonzero((measures.composition[row] > 0) & ~trained)
        yield Finding(
            "unseen_element",
            row,
            f"the structure, in {measures.splits[measures.split[row]]!r},",
            f"one with {', '.join(_symbol(measures.species[at]) for at in lacking)}",
            "elements that a structure that is trained on has",
            "Add such structures to training, or take this one out of the data.",
        )


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


CHECKS = (
    # Found while splits are drawn: a near duplicate of structures in two of them.
    Check("bridges_splits", None, "quarantine", ("error", "quarantine")),
    Check("split_overlap", overlap, "warn", after_splits=True),
    Check("unseen_element", unseen_element, "error", after_splits=True),
)
