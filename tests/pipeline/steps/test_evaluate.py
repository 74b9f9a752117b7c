"""The evaluate step: what is judged of a split depends on what its structures are labelled with."""

from __future__ import annotations

import numpy as np

from forcefoundry.databases import Database
from pipeline.steps.evaluate import _unlabelled
from tests.builders import database


def test_labels_that_a_split_lacks_are_found() -> None:
    made = database(30)
    splits = {"valid": np.arange(0, 5), "test": np.arange(5, 9), "held_out": np.arange(9, 12)}
    energy, forces = made.columns["energy"].copy(), made.columns["forces"].copy()
    for structure in (*splits["test"], *splits["held_out"], 1, 2):
        forces[made.atoms(int(structure))] = np.nan
    energy[[0, *splits["held_out"]]] = np.nan
    base = Database({**made.columns, "energy": energy, "forces": forces}, splits, partial=("energy", "forces"))
    base.targets = ["n_atoms", "energy", "forces"]
    assert _unlabelled(base, "valid") == ()
    assert _unlabelled(base, "test") == ("forces",)
    assert _unlabelled(base, "held_out") == ("energy", "forces")
