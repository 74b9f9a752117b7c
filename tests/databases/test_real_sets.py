"""Sets as others published them come in with what is known of them; counted without the readers that are tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from forcefoundry.databases.loading import load_database
from tests.outside import ROOT, data

HARTREE, KCAL_MOL = 27.211386245988, 0.0433641042418  # eV


def config(name: str, **changes: Any) -> dict[str, Any]:
    """What conf/database/NAME.yaml says, with the path to where the data of the tests lie."""
    text = (ROOT / "conf" / "database" / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text.replace("${oc.env:FORCEFOUNDRY_DATA,../shared/data}", str(data())))
    return found | changes


def extxyz(folder: str, files: dict[str, str], **changes: Any) -> dict[str, Any]:
    """The form for one's own data, for files of extended XYZ."""
    split = {"seed": 0, "valid": 0.1, "test": 0.0, "held_out": []}
    chosen = config("ase_db", path=str(needs(folder)), format="extxyz", files=files, split=split)
    return chosen | changes


def needs(folder: str) -> Path:
    """A folder of the data, or a skipped test."""
    found = data() / folder
    if not found.is_dir():
        pytest.skip(f"{found} is absent")
    return found


def numbers(path: Path, key: str) -> list[float]:
    """The numbers under a key in the comment lines of an extended XYZ file, as they are written."""
    return [float(one) for one in re.findall(rf"(?<![\w_]){key}=(\S+)", path.read_text(encoding="utf-8"))]


def test_rmd17_in_kcal_and_without_its_noisy_labels() -> None:
    folder = needs("rmd17")
    chosen = config("rmd17_ethanol")
    base, summary = load_database(chosen)
    assert {name: len(rows) for name, rows in base.splits.items()} == {"train": 950, "valid": 50, "test": 1000}
    with np.load(folder / "rmd17_ethanol_test_01.npz") as file:
        given = {name: file[name] for name in file.files}
    test = base.split("test")
    np.testing.assert_allclose(base.columns["energy"][test], given["energies"] * KCAL_MOL, rtol=1e-10)
    forces = np.stack([base.columns["forces"][base.atoms(at)] for at in test])
    np.testing.assert_allclose(forces, given["forces"] * KCAL_MOL, rtol=1e-10)
    assert np.abs(forces - given["old_forces"] * KCAL_MOL).max() > 1e-3
    # Ethanol has -154.9 Hartree or so with any functional: the factor is the right one.
    assert np.abs(base.columns["energy"] / HARTREE + 154.9).max() < 1.0
    assert summary["properties"]["forces"]["unit_read"] == "kcal/mol/Å"
    usual, found = load_database(chosen | {"keys": {"energy": None, "forces": None}})
    assert [entry["key"] for entry in found["properties"].values()] == ["energies", "forces"]
    assert usual.columns["energy"].tobytes() == base.columns["energy"].tobytes()


def test_h2co_with_the_declared_factor_of_its_dipole() -> None:
    folder = needs("h2co")
    base, summary = load_database(config("h2co"))
    with np.load(folder / "h2co_B3LYP_cc-pVDZ_4001.npz") as file:
        np.testing.assert_allclose(base.columns["dipole"], file["D"] * 2.5417, rtol=1e-14)
        np.testing.assert_array_equal(base.columns["energy"], file["E"])
        np.testing.assert_array_equal(base.columns["charge"], file["Q"])
        np.testing.assert_array_equal(base.columns["forces"], file["F"].reshape(-1, 3))
    assert summary["properties"]["dipole"] | {"where": "", "sign": None} == {
        "key": "D",
        "where": "",
        "count": 4001,
        "unit": "e·Å",
        "unit_read": "2.5417 e·Å",
        "factor": 2.5417,
        "sign": None,
    }


def test_silicon_surfaces_without_stress_are_masked() -> None:
    folder = needs("mlearn")
    base, summary = load_database(config("mlearn_si", keys={"energy": None, "forces": None, "stress": None}))
    written = sum(len(re.findall(r"stress=", (folder / f"Si_{part}.xyz").read_text())) for part in ("train", "test"))
    assert summary["properties"]["stress"]["count"] == written == len(base) - 14
    lacking = np.isnan(base.columns["stress"]).all(axis=(1, 2))
    assert lacking.sum() == np.isnan(base.columns["stress"]).any(axis=(1, 2)).sum() == 14
    assert summary["properties"]["energy"]["count"] == summary["properties"]["forces"]["count"] == len(base)


def test_acac_keeps_every_digit_of_its_totals() -> None:
    folder = needs("acac")
    base, _ = load_database(config("acac_300k"))
    given = np.array(numbers(folder / "train_300K.xyz", "energy") + numbers(folder / "test_MD_600K.xyz", "energy"))
    np.testing.assert_array_equal(base.columns["energy"], given)  # each is one float64, and the same one
    assert given.mean() == pytest.approx(-9391, abs=1)
    assert base.columns["energy"].dtype == np.float64
    assert len(set(base.columns["energy"])) == len(set(given.tolist()))
    assert len(set(base.columns["energy"].astype(np.float32))) < len(set(given.tolist()))  # float32 would lose some
    assert not base.columns["pbc"].any()
    assert base.columns["cell"][0, 0, 0] == 50.0


def test_acac_with_scans_of_energies_alone() -> None:
    folder = needs("acac")
    files = {"train": "train_300K.xyz", "test": "test_dihedral.xyz"}
    base, summary = load_database(extxyz("acac", files))
    counts = {name: entry["count"] for name, entry in summary["properties"].items()}
    assert counts == {"energy": 545, "forces": 500}
    scan = base.split("test")
    np.testing.assert_array_equal(base.columns["energy"][scan], numbers(folder / "test_dihedral.xyz", "energy"))
    assert all(np.isnan(base.columns["forces"][base.atoms(at)]).all() for at in scan)


def test_solvent_keeps_its_isolated_atoms_out() -> None:
    needs("solvent_xtb")
    files = {"train": "solvent_xtb_train_200.xyz", "test": "solvent_xtb_test.xyz"}
    base, summary = load_database(extxyz("solvent_xtb", files))
    assert (len(base), summary["isolated_atoms"], sum(summary["splits"].values())) == (1203, 3, 1200)
    apart = np.setdiff1d(np.arange(len(base)), np.concatenate(list(base.splits.values())))
    assert base.n_atoms[apart].tolist() == [1, 1, 1]
    assert summary["properties"]["energy"]["key"] == "energy_xtb"
    assert summary["properties"]["forces"]["key"] == "forces_xtb"
    assert base.n_atoms[base.split("train")].min() == 8


def test_nbmotaw_under_reference_keys() -> None:
    folder = needs("nbmotaw")
    files = {"train": "MoTa_SS.xyz", "test": "MoTa_Test.xyz"}
    base, summary = load_database(extxyz("nbmotaw", files, keys={"energy": None, "forces": None, "stress": None}))
    told = [(entry["key"], entry["count"]) for entry in summary["properties"].values()]
    assert told == [("REF_energy", 698), ("REF_forces", 698), ("REF_stress", 698)]
    given = numbers(folder / "MoTa_SS.xyz", "REF_energy") + numbers(folder / "MoTa_Test.xyz", "REF_energy")
    np.testing.assert_array_equal(base.columns["energy"], given)
    np.testing.assert_allclose(base.columns["stress"], base.columns["stress"].transpose(0, 2, 1), atol=1e-12)
