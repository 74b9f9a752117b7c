"""npz as the field writes it: rMD17, PhysNet, padded; every member somewhere, every damage named with its member."""

from __future__ import annotations

import logging
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forcefoundry.databases.formats import npz, read_rows
from forcefoundry.databases.loading import load_database
from tests.databases.test_loading import config
from tests.outside import arrays, data, files

RMD17 = files(data(), "rmd17/*.npz")
H2CO = files(data(), "h2co/*.npz")
RNG = np.random.default_rng(0)


def write(path: Path, **members: Any) -> Path:
    np.savez(path, **members)
    return path


def waters(n: int = 5, **more: Any) -> dict[str, Any]:
    """Members of water molecules: three atoms, so that dipoles and charges have the same shape."""
    return {"Z": np.array([8, 1, 1]), "R": RNG.normal(0, 1, (n, 3, 3)), "E": RNG.normal(0, 1, n)} | more


@pytest.mark.parametrize("path", RMD17)
def test_rmd17(path: Path) -> None:
    held = arrays(path)
    rows = [atoms for _, atoms in read_rows("npz", path)]
    assert len(rows) == 1000 == len(held["energies"])
    np.testing.assert_array_equal([row.numbers for row in rows], [held["nuclear_charges"]] * 1000)
    np.testing.assert_array_equal([row.positions for row in rows], held["coords"])
    for name in ("energies", "old_energies", "old_indices"):
        np.testing.assert_array_equal([row.info[name] for row in rows], held[name])
    for name in ("forces", "old_forces"):
        np.testing.assert_array_equal([row.arrays[name] for row in rows], held[name])
    assert not any(row.pbc.any() for row in rows)
    base, _ = load_database(config(path, "npz", keys={"energy": "energies", "forces": "forces"}))
    np.testing.assert_array_equal(base.columns["forces"].reshape(held["forces"].shape), held["forces"])


@pytest.mark.parametrize("path", H2CO)
def test_physnet(path: Path) -> None:
    held = arrays(path)
    rows = [atoms for _, atoms in read_rows("npz", path)]
    assert len(rows) == 4001 == len(held["E"])
    np.testing.assert_array_equal([row.numbers for row in rows], held["Z"])
    np.testing.assert_array_equal([row.positions for row in rows], held["R"])
    np.testing.assert_array_equal([row.arrays["F"] for row in rows], held["F"])
    for name in ("E", "Q", "D"):
        np.testing.assert_array_equal([row.info[name] for row in rows], held[name])
    assert "N" not in rows[0].info


def test_a_dipole_and_charges_of_three_atoms_are_told_apart_by_name(tmp_path: Path) -> None:
    more = {name: RNG.normal(0, 1, (5, 3)) for name in ("D", "dipole_moment", "charges", "mulliken_charges")}
    more |= {name: RNG.normal(0, 1, (5, 3, 3)) for name in ("F", "stress", "forces", "cell")}
    rows = [atoms for _, atoms in read_rows("npz", write(tmp_path / "a.npz", **waters(**more)))]
    assert set(rows[0].info) == {"E", "D", "dipole_moment", "stress"}
    assert set(rows[0].arrays) == {"numbers", "positions", "F", "forces", "charges", "mulliken_charges"}
    np.testing.assert_array_equal([np.asarray(row.cell) for row in rows], more["cell"])
    assert all(row.pbc.all() for row in rows)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_as_many_structures_as_atoms_are_not_mixed_up(tmp_path: Path, n: int) -> None:
    held = {
        "species": np.array([8, 1, 1, 6][:n]),
        "coords": RNG.normal(0, 1, (n, n, 3)),
        "energies": np.arange(float(n)),
    }
    rows = [atoms for _, atoms in read_rows("npz", write(tmp_path / "a.npz", **held))]
    assert [row.numbers.tolist() for row in rows] == [held["species"].tolist()] * n
    assert [row.info["energies"] for row in rows] == list(range(n))


def test_dtypes_orders_and_members_for_all_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = waters(
        F=np.asfortranarray(RNG.normal(0, 1, (5, 3, 3)).astype(np.float32)),
        R=RNG.normal(0, 1, (5, 3, 3)).astype(">f4"),
        theory=np.array("PBE"),
        name=np.array([b"water"]),
        masses=np.array([16.0, 1.0, 1.0]),
        molecule=np.array(["a", "b", "c", "d", "e"]),
        perms=np.zeros((7, 9)),
        odd=np.array([{}] * 5, dtype=object),
    )
    with caplog.at_level(logging.WARNING):
        rows = [atoms for _, atoms in read_rows("npz", write(tmp_path / "a.npz", **held))]
    assert rows[2].arrays["F"].dtype == np.float32
    np.testing.assert_array_equal([row.arrays["F"] for row in rows], held["F"])
    np.testing.assert_array_equal([row.positions for row in rows], held["R"].astype(np.float64))
    assert rows[4].info["theory"] == "PBE"
    assert rows[4].info["name"] == "water"
    assert rows[4].info["molecule"] == "e"
    assert rows[4].get_masses().tolist() == [16.0, 1.0, 1.0]
    assert "perms is left out: its shape (7, 9) fits neither 5 structures nor 3 atoms" in caplog.text
    assert "odd is left out: it holds Python objects" in caplog.text
    rows[0].arrays["F"][:] = 0.0  # of one row alone
    assert rows[1].arrays["F"].any()


def test_symbols_and_cells_of_all(tmp_path: Path) -> None:
    held = waters(Z=np.array([b"O", b"H", b"H"]), cell=np.diag([5.0, 6.0, 7.0]), pbc=np.array([True, True, False]))
    rows = [atoms for _, atoms in read_rows("npz", write(tmp_path / "a.npz", **held))]
    assert rows[4].numbers.tolist() == [8, 1, 1]
    assert rows[4].cell.lengths().tolist() == [5.0, 6.0, 7.0]
    assert rows[4].pbc.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Z": None}, r"a\.npz: .*there are no species: expected an array named atomic_numbers.*; got E, R"),
        ({"R": np.zeros((5, 9))}, r"there are no positions: .*R of shape \(5, 9\)"),
        ({"Z": np.array([8, 1])}, r"Z has shape \(2,\) and R \(5, 3, 3\); expected \(3,\) or \(5, 3\)"),
        ({"Z": np.array([8, 1, 1.5])}, r"structure 0: .*Z holds \[8.0, 1.0, 1.5\], expected atomic numbers"),
        ({"Z": np.array(["O", "H", "Hx"])}, r"structure 0: .*Z names 'Hx', which is no element"),
        ({"N": np.array([3, 3, 3, 2, 3])}, r"structure 3: .*N says 2 atoms, but Z names 3"),
        ({"R": np.zeros((5, 3, 3), dtype=complex)}, r"R holds complex128, expected numbers"),
    ],
)
def test_what_fits_not_is_told(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    held = {name: values for name, values in waters(**change).items() if values is not None}
    with pytest.raises(ValueError, match=told):
        list(read_rows("npz", write(tmp_path / "a.npz", **held)))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", **waters(50))
    held = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        held[archive.getinfo("R.npy").header_offset + 400] ^= 1
    path.write_bytes(held)
    with pytest.raises(ValueError, match=r"a\.npz, R: cannot be read as an npz file \(Bad CRC-32"):
        list(read_rows("npz", path))


def test_a_header_that_promises_more_than_there_is_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in waters(Z=np.array([8, 1, 1])).items():
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, values)
        with archive.open("F.npy", "w") as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3, 3)}
            )
    with pytest.raises(ValueError, match=r"a\.npz, F: .*72000000000000 bytes, but 0 follow"):
        list(read_rows("npz", path))


def test_memory_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "PIECE", 1 << 14)
    held = waters(6_000, F=np.zeros((6_000, 3, 3)))
    path = write(tmp_path / "a.npz", **held)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows("npz", path)) == 6_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2
