"""Rows of ASE's databases are made into Atoms without ASE's own way where they are plain: the same to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase
import ase.db
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.jsonio import fix_int_keys_in_dicts
from hypothesis import given
from hypothesis import strategies as st

from forcefoundry.databases.formats import _rows, ase_lmdb
from tests.databases.formats.test_plain import told_apart
from tests.databases.formats.writers import drawn

RNG = np.random.default_rng(0)


def labelled(atoms: ase.Atoms, **results: Any) -> ase.Atoms:
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def crystal(**more: Any) -> ase.Atoms:
    return ase.Atoms("SiO", RNG.normal(size=(2, 3)), cell=RNG.normal(size=(3, 3)), pbc=[True, False, True], **more)


PLAIN = {
    "molecule": drawn(1)[0],
    "unlabelled": crystal(),
    "crystal": labelled(crystal(), energy=-1.5, free_energy=-1.6, forces=np.ones((2, 3)), stress=np.arange(6.0)),
    "magnetic": labelled(crystal(), energy=1, magmom=2.0, magmoms=np.array([1, 2]), charges=[0.5, -0.5]),
}
RARE = {
    "tags": crystal(tags=[1, 2]),
    "charges": labelled(crystal(charges=[0.5, 0.25]), energy=-1.0),
    "spins": crystal(magmoms=[1.0, 2.0]),
    "masses": crystal(masses=[1.0, 2.0]),
    "momenta": crystal(momenta=RNG.normal(size=(2, 3))),
    "constraint": labelled(crystal(constraint=FixAtoms([1])), forces=np.ones((2, 3))),
}


@pytest.mark.parametrize("backend", ["db", "aselmdb"])
@pytest.mark.parametrize("name", [*PLAIN, *RARE])
def test_a_row_is_what_ase_makes_of_it(tmp_path: Path, backend: str, name: str) -> None:
    made = {**PLAIN, **RARE}[name]
    with ase.db.connect(tmp_path / "a", type=backend) as database:
        database.write(made, config_type="bulk", data={"REF_stress": np.eye(3), "charge": 1})
        (row,) = database.select()
        found = _rows.atoms_of(row)
        assert (_rows._plain(row) is None) == (name in RARE)
        expected = row.toatoms()
    expected.info = {"REF_stress": np.eye(3), "charge": 1, "config_type": "bulk"}
    assert list(told_apart(found, expected)) == []
    np.testing.assert_array_equal(found.positions, made.positions)
    results = made.calc.results if made.calc else {}
    np.testing.assert_equal(found.calc.results if found.calc else {}, results)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numbers", [14, 8]),
        ("numbers", np.array([14.0, 8.0])),
        ("positions", np.ones((2, 3), dtype=int)),
        ("cell", np.array([1.0, 2.0, 3.0])),
        ("cell", [[1.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0]]),
        ("pbc", [True, True, False]),
        ("energy", None),
        ("forces", None),
    ],
)
def test_what_is_kept_in_another_way_is_left_to_ase(tmp_path: Path, name: str, value: Any) -> None:
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(PLAIN["crystal"])
        (row,) = database.select()
    row[name] = value
    assert _rows._plain(row) is None
    assert list(told_apart(_rows.atoms_of(row), row.toatoms())) == []


KEYS = st.text("aZ_-+ 01٣é", max_size=4) | st.integers().map(str)
HELD = st.recursive(st.integers() | st.lists(st.integers()), lambda inner: st.dictionaries(KEYS, inner), max_leaves=8)


@given(HELD)
def test_keys_that_are_numbers(held: Any) -> None:
    held = json.loads(json.dumps(held))
    expected = fix_int_keys_in_dicts(held)
    found = ase_lmdb._numbered(held)
    assert found == expected
    assert repr(found) == repr(expected)  # 1 and True are equal keys
