"""The assemble step: where E0 comes from, and labels that were not loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from forcefoundry.databases import Database
from forcefoundry.files import read_json
from pipeline.steps import assemble
from pipeline.steps.workspace import ASSEMBLE, LOAD
from tests.builders import database
from tests.outside import ROOT

SYMBOLS = {"H": 1, "C": 6, "O": 8}
TRUE_E0 = {"H": -13.5, "C": -1030.25, "O": -2043.125}


def params(objective: str = "energy_forces", **changes: Any) -> dict[str, Any]:
    """Parameters of a small model that finds its pairs itself."""
    chosen = yaml.safe_load((ROOT / "conf" / "objective" / f"{objective}.yaml").read_text(encoding="utf-8"))
    return {
        "network": {"_target_": "forcefoundry.networks.hipnn.HIPNN", "n_features": 4, "cutoff": 4.0, "soft_max": 3.0},
        "objective": chosen | changes,
        "pairs": {"finder": "reference", "source": "on_the_fly", "cutoff": 4.0},
        "training": {"seed": 0, "dtype": "float32"},
        "hardware": {"threads": 1},
    }


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Loaded structures whose energies are exactly those of their atoms, every third of them not labelled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assemble, "prepare_process", lambda params: None)  # leaves this process's memory alone
    made = database(30)
    energy = np.zeros(30)
    for symbol, number in SYMBOLS.items():
        counts = np.add.reduceat(made.columns["species"] == number, made.offsets[:-1])
        energy += TRUE_E0[symbol] * counts
    energy[::3] = np.nan
    changed = Database({**made.columns, "energy": energy}, made.splits, partial=("energy",))
    changed.save(LOAD / "columns")
    return changed


def test_e0_is_fitted_to_the_labelled_energies_of_train(base: Database) -> None:
    assemble.run(params())
    found = read_json(ASSEMBLE / "e0.json")
    assert found == pytest.approx(TRUE_E0, rel=1e-10)
    weights = load_file(ASSEMBLE / "initial.safetensors")
    (stored,) = (weight for name, weight in weights.items() if name.endswith("e0"))
    assert stored.tolist() == [found[symbol] for symbol in SYMBOLS]


def test_an_energy_without_e0_is_assembled_without(base: Database) -> None:
    assemble.run(params(first_is_interacting=True))
    assert read_json(ASSEMBLE / "e0.json") == {}
    assert not any(name.endswith("e0") for name in load_file(ASSEMBLE / "initial.safetensors"))


@pytest.mark.parametrize(
    ("objective", "changes", "lacking"),
    [
        ("energy_forces_stress", {}, "stress"),
        ("energy_forces_charges", {}, "charges, dipole"),
        ("energy_forces_charges", {"charges_weight": 0, "total_charge": True}, "charge, dipole"),
    ],
)
def test_labels_that_were_not_loaded_are_named_with_the_remedy(
    base: Database, objective: str, changes: dict[str, Any], lacking: str
) -> None:
    with pytest.raises(ValueError, match=f"The objective needs {lacking}, and the data were loaded without") as told:
        assemble.run(params(objective, **changes))
    for name in lacking.split(", "):
        assert f"+database.keys.{name}=null" in str(told.value)
    assert not ASSEMBLE.exists()


@pytest.fixture
def with_atoms(base: Database) -> Database:
    """The same, and one atom each of H, C and O, in no split."""
    lone = {"H": -13.0, "C": -1029.0, "O": -2042.0}
    numbers = np.array([SYMBOLS[symbol] for symbol in lone])
    more = {"n_atoms": np.ones(3, dtype=np.int64), "species": numbers, "energy": np.array(list(lone.values()))}
    columns = {}
    for name, values in base.columns.items():
        added = more.get(name, np.zeros((3, *values.shape[1:]), dtype=values.dtype))
        columns[name] = np.concatenate([values, added])
    changed = Database(columns, base.splits, partial=("energy",))
    changed.save(LOAD / "columns")
    return changed


def test_e0_is_that_of_isolated_atoms_when_asked(with_atoms: Database) -> None:
    assemble.run(params() | {"database": {"e0": "isolated_atoms"}})
    assert read_json(ASSEMBLE / "e0.json") == {"H": -13.0, "C": -1029.0, "O": -2042.0}
    assemble.run(params() | {"database": {"e0": None}})
    assert read_json(ASSEMBLE / "e0.json") == pytest.approx(TRUE_E0, rel=1e-10)


def test_e0_is_what_is_given(base: Database) -> None:
    given = {"O": -3, "H": -1.5, "C": -2.0, "Si": 0.0}
    assemble.run(params() | {"database": {"e0": given}})
    assert read_json(ASSEMBLE / "e0.json") == {"H": -1.5, "C": -2.0, "O": -3.0}


@pytest.mark.parametrize(
    ("e0", "told"),
    [
        ("isolated_atom", "database.e0 is 'isolated_atom', expected least_squares, isolated_atoms or {H: -13.6} in eV"),
        ("isolated_atoms", "no row kept out of the splits is an isolated atom of H with an energy"),
        ({"H": -13.6}, "database.e0 names H, but not C, O. Give all, in eV."),
        ({"H": -13.6, "Hx": 0.0}, "database.e0 names 'Hx', which is no element. Did you mean H"),
        ({"H": "low"}, "database.e0.H is 'low', expected a number in eV"),
    ],
)
def test_an_e0_that_cannot_be(base: Database, e0: Any, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        assemble.run(params() | {"database": {"e0": e0}})


def test_isolated_atoms_that_disagree(with_atoms: Database) -> None:
    columns = {**with_atoms.columns, "species": with_atoms.columns["species"].copy()}
    columns["species"][-2:] = 1
    Database(columns, with_atoms.splits, partial=("energy",)).save(LOAD / "columns")
    with pytest.raises(ValueError, match=r"Isolated atoms of H have energies from -2042\.0 to -13\.0 eV"):
        assemble.run(params() | {"database": {"e0": "isolated_atoms"}})
