"""What columns must fulfil: each refusal names the structure, and nothing can be changed behind a cache's back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forcefoundry.batches import Packer
from forcefoundry.databases import Database, from_padded
from tests.builders import database, tree_bytes


def with_value(column: str, row: int, value: Any, **arguments: Any) -> Database:
    """A small database with one row of one column replaced."""
    base = database(5)
    values = base.columns[column].astype(np.result_type(base.columns[column], type(value)))
    values[row] = value
    return Database({**base.columns, column: values}, base.splits, **arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("column", "unit"), [("positions", "Å"), ("cell", "Å"), ("energy", "eV"), ("forces", "eV/Å")])
def test_numbers_that_are_not_finite_are_named(column: str, unit: str, bad: float) -> None:
    base = database(5)
    row = int(base.offsets[3]) + 1 if column in ("positions", "forces") else 3
    where = "structure 3, atom 1" if column in ("positions", "forces") else "structure 3"
    with pytest.raises(ValueError, match=rf"'{column}', {where}: got .*(nan|inf).*expected finite numbers in {unit}"):
        with_value(column, row, bad)


def test_a_label_may_be_absent_where_the_column_is_partial_but_never_infinite() -> None:
    base = with_value("energy", 2, np.nan, partial=("energy",))
    assert np.isnan(base.columns["energy"]).tolist() == [False, False, True, False, False]
    with pytest.raises(ValueError, match="'energy', structure 2: got inf"):
        with_value("energy", 2, np.inf, partial=("energy",))
    with pytest.raises(ValueError, match=r"or the column's name in partial=\(\.\.\.\)"):
        with_value("energy", 2, np.nan)
    for wrong in ("positions", "stress"):
        with pytest.raises(ValueError, match=f"partial names '{wrong}'"):
            with_value("energy", 2, 0.0, partial=(wrong,))


def test_absent_labels_survive_the_disk(tmp_path: Path) -> None:
    base = with_value("forces", 4, np.nan, partial=("forces",))
    base.save(tmp_path / "a")
    again = Database.load(tmp_path / "a")
    np.testing.assert_array_equal(again.columns["forces"], base.columns["forces"])
    again.save(tmp_path / "b")
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")


@pytest.mark.parametrize("bad", [0, -1, 119])
def test_species_outside_the_periodic_table_are_named(bad: int) -> None:
    row = int(database(5).offsets[2])
    with pytest.raises(ValueError, match=rf"'species', structure 2, atom 0: got {bad}, expected atomic numbers of 1"):
        with_value("species", row, bad)


@pytest.mark.parametrize(("column", "value"), [("species", 6.5), ("n_atoms", 2.5), ("species", np.nan)])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_numbers_that_must_be_whole(column: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"'{column}' must hold whole numbers, got {value}"):
        with_value(column, 0, value)


def test_whole_numbers_may_come_as_floats_and_energies_as_integers() -> None:
    base = database(5)
    again = Database(
        {**base.columns, "species": base.columns["species"].astype(float), "energy": np.arange(5)}, base.splits
    )
    assert again.columns["species"].dtype == np.int64
    assert again.columns["energy"].dtype == np.float64
    np.testing.assert_array_equal(again.columns["species"], base.columns["species"])


def test_structures_without_atoms_and_batches_without_structures() -> None:
    with pytest.raises(ValueError, match="one number above 0 a structure; structure 1 has 0"):
        with_value("n_atoms", 1, 0)
    with pytest.raises(ValueError, match="A batch needs at least one structure"):
        Packer(database(3), ["energy"]).pack(np.zeros(0, dtype=np.int64))


def test_columns_are_copies_that_cannot_be_changed() -> None:
    base = database(4)
    mine = base.columns["positions"].copy()
    again = Database({**base.columns, "positions": mine})
    mine += 1.0
    np.testing.assert_array_equal(again.columns["positions"], base.columns["positions"])
    with pytest.raises(ValueError, match="read-only"):
        again.columns["positions"][0] = 0.0
    with pytest.raises(TypeError):
        again.columns["positions"] = mine  # type: ignore[index]


def test_padded_arrays_with_blanks_anywhere() -> None:
    base = database(5, periodic=True)
    rng = np.random.default_rng(1)
    n_max = int(base.columns["n_atoms"].max()) + 2
    padded: dict[str, Any] = {
        "species": np.zeros((5, n_max), dtype=int),
        "positions": np.full((5, n_max, 3), np.nan),  # whatever stands in a blank place is never looked at
        "forces": np.full((5, n_max, 3), np.inf),
        "cell": base.columns["cell"],
        "energy": base.columns["energy"][:, None],
    }
    for at in range(5):
        places = np.sort(rng.permutation(n_max)[: base.columns["n_atoms"][at]])
        for name in ("species", "positions", "forces"):
            padded[name][at, places] = base.columns[name][base.atoms(at)]
    found = from_padded(padded, base.splits)
    for name, values in base.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)
    del padded["cell"]
    assert not from_padded(padded).columns["pbc"].any()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"species": np.array([6, 1])}, r"need 'species' of shape \(structures, places\)"),
        ({"positions": np.zeros((2, 2, 3))}, r"'positions' has shape \(2, 2, 3\), expected \(2, 3, 3\) as for species"),
        ({"species": np.array([[6, -1, 0], [1, 1, 1]])}, "'species', structure 0, atom 1: got -1"),
        ({"species": np.array([[6, 1, 0], [0, 0, 0]])}, "structure 1 has 0"),
        ({"energy": np.zeros(3)}, r"'energy' has shape \(3,\), expected \(2,\)"),
    ],
)
def test_padded_arrays_that_do_not_fit(changes: dict[str, Any], told: str) -> None:
    arrays = {"species": np.array([[6, 1, 0], [1, 1, 8]]), "positions": np.arange(18.0).reshape(2, 3, 3)}
    with pytest.raises(ValueError, match=told):
        from_padded({**arrays, **changes})
