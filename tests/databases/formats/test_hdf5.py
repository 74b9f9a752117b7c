"""HDF5 as ANI-1x, ANI-1, SPICE and QM7-X write it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from forcefoundry.databases.formats import hdf5, read_rows
from forcefoundry.databases.loading import load_database
from tests.databases.test_loading import config

RNG = np.random.default_rng(0)
TEXT = h5py.string_dtype()


def write(path: Path, groups: dict[str, dict[str, Any]], **options: Any) -> Path:
    with h5py.File(path, "w", **options) as file:
        for name, datasets in groups.items():
            group = file.require_group(name)
            for key, values in datasets.items():
                texts = np.asarray(values).dtype.kind == "U"
                group.create_dataset(key, data=values, dtype=TEXT if texts else None)
    return path


def ani1x() -> dict[str, dict[str, Any]]:
    """Two molecules; a third of the energies, and the forces with them, were not computed with the second method."""
    groups = {}
    for name, species, n in (("C1H4", [6, 1, 1, 1, 1], 6), ("H2O1", [8, 1, 1], 9)):
        energies = RNG.normal(-40, 1, n)
        coupled = energies + 1
        coupled[::3] = np.nan
        groups[name] = {
            "atomic_numbers": np.array(species, dtype=np.uint8),
            "coordinates": RNG.normal(0, 1, (n, len(species), 3)).astype(np.float32),
            "wb97x_dz.energy": energies,
            "wb97x_dz.forces": RNG.normal(0, 1, (n, len(species), 3)).astype(np.float32),
            "ccsd(t)_cbs.energy": coupled,
            "wb97x_dz.dipole": RNG.normal(0, 1, (n, 3)),
            "hirshfeld.charges": RNG.normal(0, 1, (n, len(species))),
        }
    return groups


def test_ani1x(tmp_path: Path) -> None:
    groups = ani1x()
    path = write(tmp_path / "a.h5", groups)
    found = list(read_rows("hdf5", path))
    assert [where for where, _ in found] == [
        f"group /{name}, conformation {at}" for name, n in (("C1H4", 6), ("H2O1", 9)) for at in range(n)
    ]
    rows = [atoms for _, atoms in found]
    for name, its in (("C1H4", rows[:6]), ("H2O1", rows[6:])):
        held = groups[name]
        assert all(row.numbers.tolist() == held["atomic_numbers"].tolist() for row in its)
        np.testing.assert_array_equal([row.positions for row in its], held["coordinates"].astype(np.float64))
        assert its[0].arrays["wb97x_dz.forces"].dtype == np.float32
        for key in ("wb97x_dz.forces", "hirshfeld.charges"):
            np.testing.assert_array_equal([row.arrays[key] for row in its], held[key])
        for key in ("wb97x_dz.energy", "wb97x_dz.dipole"):
            np.testing.assert_array_equal([row.info[key] for row in its], held[key])
        assert [row.info.get("ccsd(t)_cbs.energy") for row in its] == [
            None if np.isnan(energy) else energy for energy in held["ccsd(t)_cbs.energy"]
        ]
        assert {row.info["hdf5_group"] for row in its} == {f"/{name}"}


def test_what_was_not_computed_is_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", ani1x())
    split = {"valid": 0.2, "test": 0.2}
    base, summary = load_database(config(path, "hdf5", keys={"energy": "ccsd(t)_cbs.energy"}, split=split))
    assert summary["properties"]["energy"]["count"] == 10
    assert np.isnan(base.columns["energy"]).sum() == 5


def test_spice(tmp_path: Path) -> None:
    n, n_atoms = 4, 3
    held = {
        "atomic_numbers": np.array([8, 1, 1], dtype=np.int16),
        "conformations": RNG.normal(0, 1, (n, n_atoms, 3)),
        "dft_total_energy": RNG.normal(0, 1, n),
        "dft_total_gradient": RNG.normal(0, 1, (n, n_atoms, 3)),
        "mbis_charges": RNG.normal(0, 1, (n, n_atoms, 1)),
        "mbis_dipoles": RNG.normal(0, 1, (n, n_atoms, 3)),
        "mbis_quadrupoles": RNG.normal(0, 1, (n, n_atoms, 3, 3)),
        "scf_dipole": RNG.normal(0, 1, (n, 3)),
        "scf_quadrupole": RNG.normal(0, 1, (n, 3, 3)),
        "wiberg_lowdin_indices": RNG.normal(0, 1, (n, n_atoms, n_atoms)),
        "smiles": ["[O:1]([H:2])[H:3]"],
        "subset": ["SPICE Water"],
    }
    path = write(tmp_path / "spice.h5", {"water": held, "other": held | {"mbis_charges": np.zeros((n, n_atoms, 1))}})
    rows = [atoms for _, atoms in read_rows("hdf5", path)]
    assert len(rows) == 8
    water = rows[4:]
    assert water[1].info["smiles"] == "[O:1]([H:2])[H:3]"
    assert {row.info["subset"] for row in rows} == {"SPICE Water"}
    for key in ("dft_total_energy", "scf_dipole", "scf_quadrupole"):
        np.testing.assert_array_equal([row.info[key] for row in water], held[key])
    for key in ("dft_total_gradient", "mbis_charges", "mbis_quadrupoles", "wiberg_lowdin_indices"):
        np.testing.assert_array_equal([row.arrays[key] for row in water], held[key])


def test_one_conformation_a_group_deep_below(tmp_path: Path) -> None:
    groups = {
        f"Geom-m{molecule}/i1-c1-{at}": {
            "atNUM": np.array([6, 1, 1][: 1 + molecule]),
            "atXYZ": RNG.normal(0, 1, (1 + molecule, 3)),
            "ePBE0+MBD": RNG.normal(0, 1, 1),
            "totFOR": RNG.normal(0, 1, (1 + molecule, 3)),
        }
        for molecule in range(3)
        for at in range(2)
    }
    rows = [atoms for _, atoms in read_rows("hdf5", write(tmp_path / "qm7x.hdf5", groups))]
    assert len(rows) == 6
    for row, held in zip(rows, groups.values(), strict=True):
        np.testing.assert_array_equal(row.positions, held["atXYZ"])
        np.testing.assert_array_equal(row.arrays["totFOR"], held["totFOR"])
        assert row.info.get("ePBE0+MBD", row.arrays.get("ePBE0+MBD")) == held["ePBE0+MBD"]


def test_padded_species_symbols_and_datasets_without_a_group(tmp_path: Path) -> None:
    held = {"species": np.array([[8, 1, 1], [1, 0, 1]]), "coordinates": RNG.normal(0, 1, (2, 3, 3))}
    rows = [atoms for _, atoms in read_rows("hdf5", write(tmp_path / "a.h5", {"/": held}))]
    assert [row.numbers.tolist() for row in rows] == [[8, 1, 1], [1, 1]]
    np.testing.assert_array_equal(rows[1].positions, held["coordinates"][1, [0, 2]])
    held = {"species": np.array([b"O", b"H"]), "coordinates": RNG.normal(0, 1, (2, 2, 3)), "energies": np.arange(2.0)}
    rows = [atoms for _, atoms in read_rows("hdf5", write(tmp_path / "b.h5", {"gdb/s0": held}))]
    assert [row.numbers.tolist() for row in rows] == [[8, 1]] * 2


def test_in_pieces_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "PIECE", 100)
    groups = ani1x()
    sent = list(hdf5.pieces(write(tmp_path / "a.h5", groups)))
    rows = [rows for kind, *_, rows in sent if kind == "rows"]
    assert len(rows) > 4
    joined = np.concatenate([part["coordinates"] for part in rows if part["coordinates"].shape[1] == 3])
    np.testing.assert_array_equal(joined, groups["H2O1"]["coordinates"])


def test_links_in_circles_and_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.h5", ani1x() | {"notes": {"when": ["today"]}})
    with h5py.File(path, "a") as file:
        file["C1H4/back"] = file["/"]
        file["again"] = file["C1H4"]
        file["soft"] = h5py.SoftLink("/H2O1")
    with caplog.at_level(logging.WARNING):
        assert len(list(read_rows("hdf5", path))) == 15
    assert "group /notes: when belong to no structures and are left out" in caplog.text
    with h5py.File(path, "a") as file:
        file["far"] = h5py.ExternalLink("b.h5", "/")
    with pytest.raises(
        ValueError, match=r"a\.h5, group /: .*far stands in another file, b\.h5: read that file by itself"
    ):
        list(read_rows("hdf5", path))


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"coordinates": np.zeros((2, 2, 3))}, r"a\.h5, group /m: .*there are no species"),
        ({"atomic_numbers": np.array([1, 1])}, r"group /m: .*there are no positions"),
        ({"atomic_numbers": np.array([1]), "coordinates": np.zeros((2, 2, 3))}, r"group /m: .*has shape \(1,\)"),
        ({"species": np.array([b"Xx"]), "coordinates": np.zeros((2, 1, 3))}, r"group /m, conformation 0: .*'Xx'"),
    ],
)
def test_what_fits_not_is_told(tmp_path: Path, held: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        list(read_rows("hdf5", write(tmp_path / "a.h5", {"m": held})))


def test_a_file_without_structures_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.h5: no group holds structures\. Expected datasets named as"):
        list(read_rows("hdf5", write(tmp_path / "a.h5", {"m": {"when": ["today"]}})))


def test_a_damaged_dataset_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["m/atomic_numbers"] = np.array([1, 1])
        file.create_dataset("m/coordinates", data=RNG.normal(0, 1, (9, 2, 3)), chunks=(9, 2, 3), fletcher32=True)
        at = file["m/coordinates"].id.get_chunk_info(0).byte_offset
    held = bytearray(path.read_bytes())
    held[at + 30] ^= 1
    path.write_bytes(held)
    with pytest.raises(
        ValueError, match=r"a\.h5, group /m, conformation 0: cannot be read as HDF5 \(dataset coordinates: "
    ):
        list(read_rows("hdf5", path))
