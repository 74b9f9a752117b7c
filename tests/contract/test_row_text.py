"""A row as text gives every number back to the last bit, and there is no row that cannot be written."""

from __future__ import annotations

import io
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forcefoundry.contract.row_text import row_text, with_info
from tests.outside import data, files


def read(text: str) -> Any:
    """The only frame of a text, as ASE reads it."""
    (atoms,) = ase.io.read(io.StringIO(text), index=":", format="extxyz")
    return atoms


def same(one: Any, other: Any) -> bool:
    return np.asarray(one, dtype=np.float64).tobytes() == np.asarray(other, dtype=np.float64).tobytes()


@pytest.mark.parametrize("path", files(data(), "*/*.xyz", lambda path: path.stat().st_size < 2e7))
def test_frames_of_real_files_come_back_to_the_last_bit(path: Any) -> None:
    for atoms in ase.io.read(path, index=":3", format="extxyz"):
        back = read(row_text(atoms))
        assert back.symbols.get_chemical_formula("reduce") == atoms.symbols.get_chemical_formula("reduce")
        assert same(back.positions, atoms.positions)
        assert same(back.cell, atoms.cell)
        assert (back.pbc == atoms.pbc).all()
        for name, values in {**atoms.arrays, **(atoms.calc.results if atoms.calc else {})}.items():
            if np.asarray(values).dtype.kind == "f":
                assert same(back.arrays[name] if name in back.arrays else back.calc.results[name], values), name
        for name, value in atoms.info.items():
            assert np.array_equal(back.info[name], value), name


@given(
    arrays(np.float64, (2, 3), elements=st.floats(width=64)),
    arrays(np.float64, (2, 3), elements=st.floats(width=64)),
    st.floats(width=64),
)
def test_all_floats_come_back(positions: Any, forces: Any, energy: float) -> None:
    row = {"species": [8, 1], "positions": positions, "cell": np.eye(3), "pbc": [True] * 3}
    lacks_forces, lacks_energy = np.isnan(forces).all(), np.isnan(energy)
    back = read(row_text({**row, "forces": forces, "energy": energy}))
    results = back.calc.results if back.calc else {}
    assert np.array_equal(back.positions, positions, equal_nan=True)
    assert ("energy" in results, "forces" in results) == (not lacks_energy, not lacks_forces)
    assert lacks_energy or same(results["energy"], energy)
    assert lacks_forces or np.array_equal(results["forces"], forces, equal_nan=True)


def test_all_columns_stand_in_the_text() -> None:
    rng = np.random.default_rng(0)
    row = {
        "species": np.array([8, 1, 1]),
        "positions": rng.normal(size=(3, 3)),
        "cell": rng.normal(size=(1, 3, 3)),
        "pbc": np.array([[True, False, True]]),
        "energy": rng.normal(size=1),
        "stress": rng.normal(size=(1, 3, 3)),
        "dipole": rng.normal(size=(1, 3)),
        "charge": np.array([-1.0]),
        "charges": rng.normal(size=3),
        "config_type": "surface, 110",
    }
    text = row_text(row)
    back = read(text)
    assert same(back.cell, row["cell"])
    assert back.pbc.tolist() == [True, False, True]
    assert same(back.calc.results["charges"], row["charges"])
    assert same(back.calc.results["dipole"], row["dipole"])
    assert same(back.calc.results["energy"], row["energy"])
    assert back.info["config_type"] == "surface, 110"
    assert back.info["charge"] == -1.0
    assert all(repr(float(one)) in text for one in row["stress"].ravel())  # ASE makes six of nine
    told = read(with_info(text, {"quarantine_id": "0123456789ab", "quarantine_origin": 'a "b"/c.xyz, frame 3'}))
    assert told.info["quarantine_id"] == "0123456789ab"
    assert told.info["quarantine_origin"] == 'a "b"/c.xyz, frame 3'
    assert same(told.positions, row["positions"])


def nasty() -> dict[str, Any]:
    """Rows that no check lets in."""
    water = ase.Atoms("OHH", np.eye(3))

    def with_results(**results: Any) -> ase.Atoms:
        atoms = water.copy()
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results = results
        return atoms

    def with_numbers(numbers: list[int]) -> ase.Atoms:
        atoms = water.copy()
        atoms.arrays["numbers"] = np.array(numbers)
        return atoms

    clash = with_results(energy=1.0, forces=np.zeros((3, 3)))
    clash.info["energy"] = 2.0
    clash.arrays["forces"] = np.ones((3, 3))
    info = {
        "quotes": 'a "b" \\c',
        "lines": "one\ntwo\r\n\x00\x1b[31m",
        "surrogate": "a\udcffb",
        "equals = here": "x",
        "nested": {"a": [1, 2, {"b": None}]},
        "ragged": [[1.0], [1.0, 2.0]],
        "nothing": None,
        "empty": "",
        "empty_list": [],
        "object": object,
        "complex": 1 + 2j,
        "grid": np.arange(6.0).reshape(2, 3),
        "yes": True,
        "many": [True, False],
        "ünïcödé": "Å",
        "huge": 10**30,
        "pbc": "FFF",
        "Lattice": 3,
        "stress": "none",
        5: 6,
    }
    columns = water.copy()
    columns.arrays["names"] = np.array(["a b", "", "c"])
    columns.arrays["cubes"] = np.zeros((3, 2, 2))
    columns.arrays["objects"] = np.array([None, {}, "x"], dtype=object)
    columns.arrays["empty"] = np.zeros((3, 0))
    return {
        "no atoms": ase.Atoms(cell=np.eye(3), pbc=True, info={"energy": -1.0}),
        "no atoms, forces": {**{"species": [], "positions": [], "cell": np.eye(3), "pbc": [False] * 3}, "forces": []},
        "NaN": ase.Atoms("OH", [[np.nan, np.inf, -np.inf], [0, 0, 1e308]], cell=[np.nan, 1, 1], pbc=True),
        "no element": with_numbers([0, 8, 118]),
        "no such number": with_numbers([-1, 8, 200]),
        "misshapen": with_results(energy=np.zeros(2), forces=np.zeros((2, 3)), stress=np.zeros(7)),
        "clash": clash,
        "info": ase.Atoms("OHH", np.eye(3), info=info),
        "columns": columns,
    }


@pytest.mark.parametrize("name", nasty())
def test_any_row_is_one_frame_of_text(name: str) -> None:
    text = row_text(nasty()[name])
    lines = text.encode().decode().split("\n")
    count = int(lines[0])
    assert len(lines) == count + 3
    assert lines[-1] == ""
    assert all(one.isprintable() for one in lines)
    assert row_text(nasty()[name]) == text
    back = read(text)
    assert len(back) == count


def test_what_is_wrong_is_still_to_be_seen() -> None:
    text = {name: row_text(row) for name, row in nasty().items()}
    assert "nan inf -inf" in text["NaN"]
    assert read(text["NaN"]).positions[1, 2] == 1e308
    assert read(text["no such number"]).arrays["atomic_number"].tolist() == [-1, 8, 200]
    assert 'energy="0.0 0.0" ' in text["misshapen"]
    assert 'forces="_JSON [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]" ' in text["misshapen"]
    assert 'stress_misshapen="0.0 0.0 0.0 0.0 0.0 0.0 0.0" ' in text["misshapen"]
    back = read(text["info"]).info
    assert back["quotes"] == 'a "b" \\c'
    assert back["lines"] == "one\\ntwo\\r\\n\\x00\\x1b[31m"
    assert np.array_equal(back["grid"], np.arange(6.0).reshape(2, 3))
    assert (back["Lattice_beside"], back["stress_misshapen"], back["5"]) == (3, "none", 6)
    assert read(text["clash"]).calc.results["energy"] == 1.0
    assert "energy_beside=2.0" in text["clash"]
