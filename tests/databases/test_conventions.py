"""What the field writes beside structures: the text of extended XYZ as it stands, and charge, spin, weight and kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io
import h5py
import numpy as np
import pytest

from forcefoundry.databases.formats import read_rows
from forcefoundry.databases.loading import load_database
from tests.databases.test_loading import config

FULL = np.array([[0.01, 0.06, 0.05], [0.06, 0.02, 0.04], [0.05, 0.04, 0.03]])  # eV/Å³
NINE = " ".join(map(str, FULL.ravel().tolist()))
VIRIAL = " ".join(map(str, (-24.0 * FULL).ravel().tolist()))  # a cell of 2 · 3 · 4 Å³
JSON = str(FULL.tolist())
FRAME = """2
Lattice="2.0 0.0 0.0 0.0 3.0 0.0 0.0 0.0 4.0" Properties=species:S:1:pos:R:3{columns} {comment} pbc="T T T"
Si 0.0 0.0 0.{number}{numbers}
O 1.0 1.0 1.0{numbers}
"""


def written(path: Path, comment: str, columns: str = "", numbers: str = "", n: int = 8) -> Path:
    """Frames that differ in a position."""
    frames = [FRAME.format(columns=columns, comment=comment, numbers=numbers, number=at) for at in range(n)]
    path.write_text("".join(frames))
    return path


@pytest.mark.parametrize(
    ("comment", "key", "where"),
    [
        (f'stress="{NINE}"', "stress", "results"),  # ASE moves it into the calculator, as Voigt
        (f'REF_stress="{NINE}"', "REF_stress", "info"),
        (f'REF_stress="_JSON {JSON}"', "REF_stress", "info"),
        ('REF_stress="0.01 0.02 0.03 0.04 0.05 0.06"', "REF_stress", "info"),
        (f'virial="{VIRIAL}"', "virial", "info"),
        (f'REF_virial="{VIRIAL}"', "REF_virial", "info"),
        (f'dft_virial="_JSON {(-24.0 * FULL).tolist()}"', "dft_virial", "info"),
        (f'REF_stress="{NINE}" stress="9 9 9 9 9 9 9 9 9" virial="{VIRIAL}"', "REF_stress", "info"),
    ],
)
def test_stress_in_all_its_writings(tmp_path: Path, comment: str, key: str, where: str) -> None:
    path = written(tmp_path / "a.xyz", comment)
    base, summary = load_database(config(path, keys={"stress": None}))
    np.testing.assert_allclose(base.columns["stress"], np.broadcast_to(FULL, (8, 3, 3)), rtol=1e-14)
    found = summary["properties"]["stress"]
    assert (found["key"], found["where"], found["count"]) == (key, where, 8)


@pytest.mark.parametrize(
    ("names", "numbers", "key", "where"),
    [
        (":forces:R:3", " 1.0 -2.0 0.5", "forces", "results"),
        (":REF_forces:R:3", " 1.0 -2.0 0.5", "REF_forces", "arrays"),
        (":force:R:3", " 1.0 -2.0 0.5", "force", "arrays"),
        (":forces:R:3:REF_forces:R:3", " 9 9 9 1.0 -2.0 0.5", "REF_forces", "arrays"),
        (":tags:I:1:forces:R:3:fixed:L:1", " 7 1.0 -2.0 0.5 T", "forces", "results"),
    ],
)
def test_forces_wherever_ase_puts_them(tmp_path: Path, names: str, numbers: str, key: str, where: str) -> None:
    path = written(tmp_path / "a.xyz", "energy=-1.5", names, numbers)
    base, summary = load_database(config(path, keys={"energy": None, "forces": None}))
    np.testing.assert_array_equal(base.columns["forces"], np.tile([1.0, -2.0, 0.5], (16, 1)))
    assert (summary["properties"]["forces"]["key"], summary["properties"]["forces"]["where"]) == (key, where)
    assert summary["properties"]["energy"]["where"] == "results"


def test_charges_of_atoms_and_of_the_whole_are_two_things(tmp_path: Path) -> None:
    """ASE calls a column `charge` of atoms `charges`."""
    path = written(tmp_path / "a.xyz", "energy=-1.5 charge=-1 spin=2", ":charge:R:1", " -0.5")
    base, summary = load_database(config(path, keys={"charges": None, "charge": None, "spin": None}))
    np.testing.assert_array_equal(base.columns["charges"], np.full(16, -0.5))
    np.testing.assert_array_equal(base.columns["charge"], np.full(8, -1.0))
    np.testing.assert_array_equal(base.columns["spin"], np.full(8, 2.0))
    assert {name: found["where"] for name, found in summary["properties"].items()} == {
        "charges": "results",
        "charge": "info",
        "spin": "info",
    }


N = 12
CHARGE = np.arange(N) % 3 - 1.0
SPIN = np.arange(N) % 2 + 1.0
WEIGHT = 1.0 + np.arange(N) / 4
KIND = np.array(["bulk", "slab", "drop"])[np.arange(N) % 3]
PLACES = np.round(np.random.default_rng(0).normal(size=(N, 2, 3)), 6)  # as many decimals as texts keep


def held(at: int) -> dict[str, Any]:
    return {"charge": int(CHARGE[at]), "spin": int(SPIN[at]), "config_weight": float(WEIGHT[at])}


def xyz(path: Path) -> Path:
    rows = [ase.Atoms("CO", PLACES[at], info={**held(at), "config_type": str(KIND[at])}) for at in range(N)]
    ase.io.write(path, rows, format="extxyz")
    return path


def database(path: Path, backend: str) -> Path:
    with ase.db.connect(path, type=backend) as opened:
        for at in range(N):
            # `charge` is a word of ASE's own among key-value pairs: it goes into `data`, where fairchem has it too.
            opened.write(ase.Atoms("CO", PLACES[at]), config_type=str(KIND[at]), data=held(at))
    return path


def arrays() -> dict[str, Any]:
    return {"R": PLACES, "charge": CHARGE, "spin": SPIN, "config_weight": WEIGHT, "energy": np.zeros(N)}


def npz(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, Z=np.array([6, 8]), config_type=KIND, **arrays())
    return path


def hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("CO")
        group["atomic_numbers"] = np.array([6, 8])
        group.create_dataset("config_type", data=KIND.tolist(), dtype=h5py.string_dtype())
        for name, values in arrays().items():
            group[name] = values
    return path


FORMATS: dict[str, Callable[[Path], Path]] = {
    "extxyz": xyz,
    "ase_db": lambda path: database(path, "db"),
    "ase_lmdb": lambda path: database(path, "aselmdb"),
    "npz": npz,
    "hdf5": hdf5,
}


@pytest.mark.parametrize("format", FORMATS)
def test_charge_spin_weight_and_kind_are_columns_like_others(tmp_path: Path, format: str) -> None:
    path = FORMATS[format](tmp_path / "some")
    keys = {"charge": None, "spin": None, "weight": None}
    split = {"seed": 0, "valid": 0.3, "test": 0.0, "held_out": ["slab"]}
    base, summary = load_database(config(path, format, keys=keys, group="config_type", split=split))
    np.testing.assert_array_equal(base.columns["positions"].reshape(N, 2, 3), PLACES)
    for name, expected in (("charge", CHARGE), ("spin", SPIN), ("weight", WEIGHT)):
        np.testing.assert_array_equal(base.columns[name], expected)
        assert base.columns[name].dtype == np.float64
    assert {name: found["key"] for name, found in summary["properties"].items()} == {
        "charge": "charge",
        "spin": "spin",
        "weight": "config_weight",
    }
    np.testing.assert_array_equal(base.split("held_out"), np.flatnonzero(KIND == "slab"))
    assert [str(atoms.info["config_type"]) for _, atoms in read_rows(format, path)] == KIND.tolist()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("total_charge", "charge"),
        ("Q", "charge"),
        ("multiplicity", "spin"),
        ("spin_multiplicity", "spin"),
        ("total_spin", "spin"),
        ("REF_charge", "charge"),
    ],
)
def test_other_names_of_charge_and_spin(tmp_path: Path, key: str, name: str) -> None:
    base, summary = load_database(config(written(tmp_path / "a.xyz", f"{key}=3"), keys={name: None}))
    np.testing.assert_array_equal(base.columns[name], np.full(8, 3.0))
    assert summary["properties"][name]["key"] == key


@pytest.mark.parametrize("key", ["S", "2S", "s2", "S_squared"])
def test_numbers_that_are_no_multiplicity_are_not_taken_for_one(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=r"No row carries spin under one of the usual keys"):
        load_database(config(written(tmp_path / "a.xyz", f"{key}=0.75"), keys={"spin": None}))
