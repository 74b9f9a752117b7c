"""Faults planted into real sets that are archives of arrays and ASE databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io
import numpy as np
import pytest

from tests.contract.planting import (
    BASE,
    Brought,
    brought,
    check_found,
    clean,
    needed,
)
from tests.contract.real_sets import SETS, set_config
from tests.outside import arrays, data


def in_archive(part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    needed("rmd17_ethanol")
    folder, files, _ = SETS["rmd17_ethanol"]
    return set_config("rmd17_ethanol"), arrays(data() / folder / files[part])


@pytest.mark.parametrize(
    ("check", "name", "place", "value"),
    [
        ("not_finite", "energies", (17,), np.nan),
        ("not_finite", "coords", (17, 3, 2), np.inf),
        ("not_finite", "forces", (17, 8, 0), np.nan),
        ("energy_outlier", "energies", (17,), -154.9),
        ("zero_energy", "energies", (17,), 0.0),
        ("force_outlier", "forces", (17, 8, 0), 1e5),
        ("net_force", "forces", (17, 8), 0.0),
        ("zero_forces", "forces", (17,), 0.0),
        ("close_atoms", "coords", (17,), 0.0),
    ],
)
def test_a_fault_in_an_archive_of_arrays(check: str, name: str, place: Any, value: float, tmp_path: Path) -> None:
    config, held = in_archive("train")
    held[name][place] = value
    path = tmp_path / "train.npz"
    np.savez(path, **held)
    after = brought(config | {"files": {**config["files"], "train": str(path)}}, tmp_path / "out")
    check_found(clean("rmd17_ethanol"), after, check, (str(path), "structure 17"), apart=True)


def database(path: Path, spoiled: Callable[[ase.Atoms, dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """The configuration that reads an ASE database of a real set, its row 18 spoiled before it is written."""
    needed(BASE)
    folder = data() / "mlearn"
    rows = ase.io.read(folder / "Mo_test.xyz", ":") + ase.io.read(folder / "Mo_train.xyz", ":")
    with ase.db.connect(path, append=False) as file:
        for number, atoms in enumerate(rows, 1):
            pairs = {"config_type": atoms.info["config_type"]}
            if number == 18 and spoiled is not None:
                spoiled(atoms, pairs)
            file.write(atoms, **pairs)
    return set_config(BASE) | {"path": str(path), "format": "ase_db", "files": None}


@pytest.fixture(scope="module")
def clean_database(tmp_path_factory: pytest.TempPathFactory) -> Brought:
    """What comes of it as it is."""
    folder = tmp_path_factory.mktemp("clean")
    return brought(database(folder / "rows.db"), folder / "out")


def infinite_position(atoms: ase.Atoms, pairs: dict[str, Any]) -> None:
    atoms.positions[3, 0] = np.inf


def energy_of_one_atom(atoms: ase.Atoms, pairs: dict[str, Any]) -> None:
    atoms.calc.results["energy"] /= len(atoms)


def no_force_on_an_atom(atoms: ase.Atoms, pairs: dict[str, Any]) -> None:
    forces = atoms.calc.results["forces"].copy()
    forces[3] += [0.0, 2.0, 0.0]
    atoms.calc.results["forces"] = forces


def flat(atoms: ase.Atoms, pairs: dict[str, Any]) -> None:
    atoms.cell[2] = 0.0


@pytest.mark.parametrize(
    ("check", "spoiled"),
    [
        ("not_finite", infinite_position),
        ("energy_outlier", energy_of_one_atom),
        ("net_force", no_force_on_an_atom),
        ("flat_cell", flat),
    ],
)
def test_a_fault_in_an_ase_database(check: str, spoiled: Any, clean_database: Brought, tmp_path: Path) -> None:
    after = brought(database(tmp_path / "rows.db", spoiled), tmp_path / "out")
    check_found(clean_database, after, check, (str(tmp_path / "rows.db"), "row 18"), apart=True)


def test_a_damaged_row_of_an_ase_database(clean_database: Brought, tmp_path: Path) -> None:
    config = database(tmp_path / "rows.db")
    with closing(sqlite3.connect(tmp_path / "rows.db")) as file, file:
        file.execute("UPDATE systems SET positions = substr(positions, 1, 100) WHERE id = 18")
    after = brought(config, tmp_path / "out")
    check_found(clean_database, after, "unreadable", (str(tmp_path / "rows.db"), "row 18"), apart=True)
