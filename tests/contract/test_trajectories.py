"""Steps between neighbouring rows: the energy changes by the work of the forces, however rows are laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forcefoundry.contract.trajectories import FARTHEST, steps
from tests.contract.lennard_jones import dynamics, packed

Columns = dict[str, NDArray[Any]]

PERIODIC = pytest.mark.parametrize("periodic", [True, False], ids=["crystal", "cluster"])


def moving(periodic: bool) -> Columns:
    return packed(dynamics(periodic))


def atoms_of(columns: Columns, row: int) -> slice:
    ends = np.cumsum(columns["n_atoms"])
    return slice(int(ends[row] - columns["n_atoms"][row]), int(ends[row]))


def taken(columns: Columns, rows: list[int]) -> Columns:
    """Those rows in that order."""
    atoms = np.concatenate([np.arange(atoms_of(columns, row).start, atoms_of(columns, row).stop) for row in rows])
    of_atoms = ("species", "positions", "forces")
    return {name: values[atoms if name in of_atoms else rows] for name, values in columns.items()}


def assert_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)  # NaN where the other is NaN


@PERIODIC
def test_energies_of_a_trajectory_change_by_the_work_of_the_forces(periodic: bool) -> None:
    columns = moving(periodic)
    energy, work = steps(columns)
    told = np.isfinite(energy)
    assert told.sum() >= len(energy) // 2
    assert np.array_equal(told, np.isfinite(work))
    assert np.abs(energy[told]).max() > 0.05
    np.testing.assert_allclose(work[told], energy[told], atol=0.01 * np.abs(energy[told]).max())


@PERIODIC
def test_what_the_work_misses_is_of_third_order(periodic: bool) -> None:
    """From a row to the next but one it is about eight times as much as to the next; of second order it were four."""
    columns = moving(periodic)

    def missed(far: int) -> float:
        pairs = [steps(taken(columns, [row, row + far])) for row in range(len(columns["n_atoms"]) - 2)]
        return float(np.mean([abs(energy[1] - work[1]) for energy, work in pairs]))

    assert 6.0 < missed(2) / missed(1) < 10.0


@PERIODIC
def test_a_row_is_compared_with_the_one_before_it_where_that_is_the_nearest(periodic: bool) -> None:
    columns = taken(moving(periodic), [0, 1])
    energy, _ = steps(columns)
    assert np.isnan(energy[0])  # the same step, seen from its other end
    assert energy[1] == columns["energy"][1] - columns["energy"][0]


@PERIODIC
def test_moving_all_atoms_alike_is_no_work(periodic: bool) -> None:
    columns = moving(periodic)
    shifts = np.random.default_rng(0).uniform(-40.0, 40.0, (len(columns["n_atoms"]), 3))
    drifted = columns["positions"] + np.repeat(shifts, columns["n_atoms"], axis=0)
    assert_same(steps({**columns, "positions": drifted}), steps(columns))


def test_atoms_that_are_wrapped_into_their_cell_have_gone_no_way() -> None:
    columns = moving(True)
    inverse = np.linalg.inv(columns["cell"][0])
    scaled = (columns["positions"] + 3.7) @ inverse
    wrapped = (scaled - np.floor(scaled)) @ columns["cell"][0]
    assert np.ptp(wrapped - columns["positions"]) > 7.0  # some atoms went through the wall, and some did not
    assert_same(steps({**columns, "positions": wrapped}), steps(columns))


def test_molecules_are_turned_onto_each_other() -> None:
    columns, rng = moving(False), np.random.default_rng(0)
    turned = {**columns, "positions": columns["positions"].copy(), "forces": columns["forces"].copy()}
    for row in range(len(columns["n_atoms"])):
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        axes *= np.sign(np.linalg.det(axes))
        for name in ("positions", "forces"):
            turned[name][atoms_of(columns, row)] @= axes
    assert_same(steps(turned), steps(columns))


def test_mirror_images_are_not_laid_over_each_other() -> None:
    """Four unlike bonds to one atom, and nearly its image in a mirror: no turn lays them over each other."""
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * [[0.6], [0.8], [1.0], [1.1]]
    hand = np.concatenate([np.zeros((1, 3)), corners])
    bent = hand.copy()
    bent[0, 0] += 0.05
    columns: Columns = {
        "n_atoms": np.array([5, 5]),
        "species": np.tile([6, 1, 9, 17, 35], 2),
        "positions": np.concatenate([hand, bent * [-1, 1, 1]]),
        "cell": np.zeros((2, 3, 3)),
        "pbc": np.zeros((2, 3), dtype=bool),
        "energy": np.array([-1.0, -1.0]),
        "forces": np.zeros((10, 3)),
    }
    assert np.isnan(steps(columns)[0]).all()
    columns["positions"][5:] = bent
    assert np.isfinite(steps(columns)[0]).sum() == 1


def test_frames_in_any_order_find_the_most_similar() -> None:
    columns = moving(False)
    order = np.random.default_rng(1).permutation(len(columns["n_atoms"])).tolist()
    energy, work = steps(taken(columns, order))
    told = np.isfinite(energy)
    assert told.sum() >= len(order) // 2
    np.testing.assert_allclose(work[told], energy[told], atol=0.01 * np.abs(energy[told]).max())


def test_a_structure_that_is_numbered_otherwise_hides_no_neighbour() -> None:
    """Frames beside their own, numbered backwards, are most similar to these, and are compared among themselves."""
    columns = moving(False)
    columns["species"][::8] = 79
    n = len(columns["n_atoms"])
    backwards = np.arange(8 * n).reshape(n, 8)[:, ::-1].ravel()
    other = {**columns, **{name: columns[name][backwards] for name in ("species", "positions", "forces")}}
    both = {name: np.concatenate([columns[name], other[name]]) for name in columns}
    energy, work = steps(taken(both, [row + part * n for row in range(n) for part in (0, 1)]))
    np.testing.assert_allclose(energy[::2], energy[1::2], atol=1e-9)
    told = np.isfinite(energy)
    assert told.sum() >= n
    np.testing.assert_allclose(work[told], energy[told], atol=0.01 * np.abs(energy[told]).max())


def test_cells_that_differ_by_rounding_are_the_same() -> None:
    columns = moving(True)
    noise = np.random.default_rng(0).normal(0.0, 1e-14, columns["cell"].shape)  # zeros get either sign
    assert_same(steps({**columns, "cell": columns["cell"] + noise}), steps(columns))


@PERIODIC
def test_a_structure_that_is_there_again_is_no_step(periodic: bool) -> None:
    columns = taken(moving(periodic), [3, 3, 3])
    assert np.isnan(steps(columns)[0]).all()
    columns = taken(moving(periodic), [3, 3, 4])  # and hides no other
    assert np.isfinite(steps(columns)[0]).tolist() == [False, False, True]


def numbered_otherwise(columns: Columns) -> None:
    columns["species"][-1], columns["species"][0] = 79, 79


def another_cell(columns: Columns) -> None:
    columns["cell"][1] *= 1.001


def without_periodicity(columns: Columns) -> None:
    columns["pbc"][1] = False


def without_energy(columns: Columns) -> None:
    columns["energy"][0] = np.nan


def without_forces(columns: Columns) -> None:
    columns["forces"][3] = np.nan


def far_away(columns: Columns) -> None:
    columns["positions"][2, 0] += 2 * FARTHEST


@pytest.mark.parametrize(
    "change",
    [numbered_otherwise, another_cell, without_periodicity, without_energy, without_forces, far_away],
    ids=lambda change: change.__name__,
)
def test_rows_that_are_no_neighbours(change: Any) -> None:
    columns = taken(moving(True), [0, 1])
    assert np.isfinite(steps(columns)[1]).sum() == 1
    change(columns)
    energy, work = steps(columns)
    assert np.isnan(energy).all()
    assert np.isnan(work).all()


def test_columns_without_labels_and_structures_of_one_atom_have_no_steps() -> None:
    columns = moving(True)
    for absent in ("energy", "forces"):
        assert np.isnan(steps({name: values for name, values in columns.items() if name != absent})[0]).all()
    alone = {
        "n_atoms": np.ones(3, dtype=np.int64),
        "species": np.full(3, 29),
        "positions": np.arange(9.0).reshape(3, 3) / 100,
        "cell": np.zeros((3, 3, 3)),
        "pbc": np.zeros((3, 3), dtype=bool),
        "energy": np.arange(3.0),
        "forces": np.zeros((3, 3)),
    }
    assert np.isnan(steps(alone)[0]).all()
    assert len(steps(taken(moving(True), [0]))[0]) == 1


def test_periodic_cells_of_nothing_are_no_error() -> None:
    columns = moving(True)
    energy, _ = steps({**columns, "cell": np.zeros_like(columns["cell"])})
    assert len(energy) == len(columns["n_atoms"])


def test_slabs_are_periodic_in_two_directions_only() -> None:
    """An atom that is a cell farther along a periodic direction has not moved; along the open one it has."""
    columns = {name: values.copy() for name, values in taken(moving(True), [0, 1]).items()}
    columns["pbc"][:, 2] = False
    expected = steps(columns)
    columns["positions"][4] += columns["cell"][0, 0]
    assert_same(steps(columns), expected)
    assert np.isfinite(expected[0][1])
    columns["positions"][4] += columns["cell"][0, 2]
    assert np.isnan(steps(columns)[0]).all()
