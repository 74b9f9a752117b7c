"""Ids name a content: equal rows have equal ones wherever they stand, and any change gives another."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
import pytest

from forcefoundry.contract.quarantine import copies_apart, row_id, row_ids
from forcefoundry.databases.keys import keys_of
from tests.builders import database


def columns(n: int = 6) -> dict[str, Any]:
    """Packed columns of some structures, with all kinds of labels."""
    base = database(n)
    rng = np.random.default_rng(1)
    made = {name: np.array(values) for name, values in base.columns.items()}
    made["stress"] = rng.normal(size=(n, 3, 3))
    made["charges"] = rng.normal(size=len(made["species"]))
    return made


def one(packed: dict[str, Any], at: int) -> dict[str, Any]:
    """One structure's columns, without an axis for structures."""
    start = int(packed["n_atoms"][:at].sum())
    stop = start + int(packed["n_atoms"][at])
    of_atoms = ("species", "positions", "forces", "charges")
    return {name: values[start:stop] if name in of_atoms else values[at] for name, values in packed.items()}


def test_a_row_has_the_id_that_it_has_among_others() -> None:
    packed = columns()
    ids = row_ids(packed)
    assert ids.dtype == "S12"
    assert len(set(ids.tolist())) == 6
    assert [row_id(one(packed, at)) for at in range(6)] == [name.decode() for name in ids]
    assert (row_ids(packed, keys_of(packed)) == ids).all()
    turned = dict(reversed(packed.items())) | {"system_of_atom": np.arange(len(packed["species"]))}
    assert (row_ids(turned) == ids).all()


@pytest.mark.parametrize("name", ["species", "positions", "energy", "forces", "stress", "charges", "cell", "pbc"])
def test_a_change_of_the_last_bit_changes_the_id_of_its_row_alone(name: str) -> None:
    packed = columns()
    before = row_ids(packed)
    values = packed[name] = packed[name].copy()
    at = 3  # a periodic structure
    place = int(packed["n_atoms"][:at].sum()) if len(values) != 6 else at
    number = values[place : place + 1].reshape(-1)
    number[0] = np.nextafter(number[0], np.inf) if number.dtype.kind == "f" else not number[0]
    assert np.flatnonzero(row_ids(packed) != before).tolist() == [at]


def test_what_a_row_has_not_counts_for_nothing() -> None:
    packed = columns()
    ids = row_ids(packed)
    lacking = {**packed, "dipole": np.full((6, 3), np.nan), "atom_weight": np.full(len(packed["species"]), np.nan)}
    assert (row_ids(lacking) == ids).all()
    lacking["dipole"][2] = 0.0
    assert np.flatnonzero(row_ids(lacking) != ids).tolist() == [2]
    zeros = {**packed, "energy": np.zeros(6)}
    assert (row_ids(zeros) == row_ids({**packed, "energy": -np.zeros(6)})).all()
    other_nan = packed["stress"].copy()
    other_nan[1, 0, 0] = np.nan
    quiet = row_ids({**packed, "stress": other_nan})
    other_nan.view(np.uint64)[1, 0, 0] += 7  # a NaN of other bits
    assert np.isnan(other_nan[1, 0, 0])
    assert (row_ids({**packed, "stress": other_nan}) == quiet).all()


def test_labels_do_not_stand_in_for_one_another() -> None:
    packed = columns()
    del packed["stress"]
    as_charge = {**packed, "charge": packed["energy"]}
    del as_charge["energy"]
    assert not (row_ids(packed) == row_ids(as_charge)).any()


def test_copies_get_ids_of_their_own() -> None:
    ids = np.array([b"aa", b"bb", b"aa", b"cc", b"aa", b"bb"], dtype="S12")
    apart = copies_apart(ids)
    assert len(set(apart.tolist())) == 6
    assert apart[[0, 1, 3]].tolist() == [b"aa", b"bb", b"cc"]  # the first of each keeps the content's
    again = copies_apart(np.concatenate([ids, [b"dd", b"aa"]]).astype("S12"))
    assert (again[:6] == apart).all()  # rows that are added change none
    assert len(copies_apart(ids[:0])) == 0


def test_rows_that_cannot_be_packed_have_ids_too() -> None:
    atoms = ase.Atoms("OH", [[0, 0, 0], [0, 0, np.nan]], info={"energy": 1.0})
    assert row_id(atoms) == row_id(atoms.copy())
    other = atoms.copy()
    other.info["energy"] = np.nextafter(1.0, 2.0)
    none = ase.Atoms(info={"energy": 1.0})
    raw = (b"2\nbad\n", b"2\nbed\n", b"")
    ids = [row_id(atoms), row_id(other), row_id(none), *(row_id(one) for one in raw), row_id(b"", "a.xyz, frame 3")]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 12 and not set(one) - set("0123456789abcdef") for one in ids)
    assert row_id(raw[0], "a.xyz, frame 3") == row_id(raw[0])  # bytes that are known say it all
