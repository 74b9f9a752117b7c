"""Fingerprints and near duplicates: copies of structures are found, however made, and others are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from forcefoundry.contract.fingerprints import LENGTH, fingerprints
from forcefoundry.contract.near import near_duplicates
from forcefoundry.databases.keys import keys_of
from tests import outside

Structure = tuple[Any, Any, Any, Any]


def some(rng: np.random.Generator, periodic: bool, n: int = 9) -> Structure:
    cell = 6.0 * np.eye(3) + rng.uniform(-1.0, 1.0, (3, 3))
    return rng.choice([1, 6, 8], n), rng.random((n, 3)) @ cell, cell, np.full(3, periodic)


def copy(rng: np.random.Generator, one: Structure, noise: float = 0.0) -> Structure:
    species, positions, cell, pbc = one
    turn = Rotation.random(rng=rng).as_matrix()
    order = rng.permutation(len(species))
    moved = positions + rng.normal(0.0, 3.0, 3) + rng.normal(0.0, noise, positions.shape)
    if pbc.all():
        moved = moved + rng.integers(-2, 3, positions.shape) @ cell
    return species[order], moved[order] @ turn, cell @ turn, pbc


def packed(structures: list[Structure]) -> dict[str, Any]:
    species, positions, cell, pbc = zip(*structures, strict=True)
    return {
        "n_atoms": np.array([len(one) for one in species]),
        "species": np.concatenate(species),
        "positions": np.concatenate(positions),
        "cell": np.stack(cell),
        "pbc": np.stack(pbc),
    }


def twins(structures: list[Structure]) -> Any:
    """The near duplicates of structures, measured only as far as the search needs."""

    class Measured(SimpleNamespace):
        def __len__(self) -> int:
            return len(structures)

    columns = packed(structures)
    composition = np.stack([np.bincount(one[0], minlength=120) for one in structures])
    measured: Any = Measured(
        composition=composition, pbc=columns["pbc"], keys=keys_of(columns), fingerprint=fingerprints(columns)
    )
    return near_duplicates(measured, lambda rows: packed([structures[at] for at in rows])).twin


@pytest.mark.parametrize("periodic", [False, True])
def test_no_turn_numbering_shift_or_wrapping_changes_a_fingerprint(periodic: bool) -> None:
    rng = np.random.default_rng(1)
    structures = [some(rng, periodic) for _ in range(20)]
    found = fingerprints(packed(structures))
    again = fingerprints(packed([copy(rng, one) for one in structures]))
    assert found.shape == (20, LENGTH)
    np.testing.assert_allclose(again, found, atol=2e-5)
    assert np.abs(found[1:] - found[:-1]).max(axis=1).min() > 1e-2


def test_weird_rows_have_no_fingerprint_and_atoms_in_one_place_have_one() -> None:
    rng = np.random.default_rng(2)
    good, bad, thin, twice = (some(rng, True) for _ in range(4))
    bad[1][0] = np.nan
    thin[2][0] *= 1e-6
    twice[1][1] = twice[1][0]
    found = fingerprints(packed([good, bad, thin, twice]))
    np.testing.assert_array_equal(np.isfinite(found).all(axis=1), [True, False, False, True])


@pytest.mark.parametrize("periodic", [False, True])
def test_copies_are_found_and_others_are_not(periodic: bool) -> None:
    rng = np.random.default_rng(3)
    base = [some(rng, periodic) for _ in range(30)]
    far = [copy(rng, one, 0.1) for one in base]
    found = twins([*base, *[copy(rng, one, 0.0002) for one in base], *far])
    np.testing.assert_array_equal(found[:30], -1)
    np.testing.assert_array_equal(found[30:60], np.arange(30))
    np.testing.assert_array_equal(found[60:], -1)


def test_a_repeat_to_the_bit_is_found_too() -> None:
    rng = np.random.default_rng(4)
    one, other = some(rng, True), some(rng, True)
    np.testing.assert_array_equal(twins([one, other, one]), [-1, -1, 0])


@pytest.mark.parametrize(
    ("files", "known"),
    [
        (("mlearn/Li_train.xyz", "mlearn/Li_test.xyz"), 3),
        (("mlearn/Si_train.xyz", "mlearn/Si_test.xyz"), 3),
        (("solvent_xtb/solvent_xtb_train_200.xyz", "solvent_xtb/solvent_xtb_test.xyz"), 5),
    ],
)
def test_what_is_known_to_be_in_both_files_is_found(files: tuple[str, str], known: int) -> None:
    import ase.io

    if not outside.data().is_dir():
        pytest.skip(f"{outside.data()} is absent")
    read = [ase.io.read(outside.data() / name, ":") for name in files]
    structures = [(one.numbers, one.positions, one.cell.array, one.pbc) for part in read for one in part]
    found = twins(structures)
    start = len(read[0])
    assert ((found[start:] >= 0) & (found[start:] < start)).sum() == known
