"""Atoms that are too close or too far, cells of absurd size, and elements that hardly occur."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii

from tests.contract.finding import N, atom, crystals, found, measured, rows, structures


@pytest.mark.parametrize("check", ["close_atoms", "far_atoms", "volume_outlier", "rare_species"])
def test_nothing_is_found_in_sound_rows(check: str) -> None:
    assert rows(check, crystals()) == []


def test_two_atoms_too_close_are_named_with_their_distance() -> None:
    columns = crystals()
    columns["positions"][atom(7, 3)] = columns["positions"][atom(7, 9)] + [0.0, 0.4, 0.0]
    (one,) = found("close_atoms", columns)
    assert one.row == 7
    assert one.what == "the distance between atoms 3 and 9"
    assert one.got.startswith(f"0.4 Å, {0.4 / (2 * covalent_radii[29]):.2f} of")
    assert one.expected.startswith("0.5 of it = 1.32 Å")


def test_atoms_in_one_place_and_atoms_close_across_a_wall() -> None:
    columns = crystals()
    columns["positions"][atom(2, 5)] = columns["positions"][atom(2, 6)]
    columns["positions"][atom(9, 0)] = [0.1, 1.0, 1.0]
    columns["positions"][atom(9, 1)] = [-0.2 + 3 * columns["cell"][9, 0, 0], 1.0, 1.0]
    one, other = found("close_atoms", columns)
    assert (one.row, other.row) == (2, 9)
    assert one.got.startswith("0 Å, 0.00")
    assert one.expected == "0.5 of it or more"
    assert other.got.startswith("0.3 Å")


def test_an_atom_and_its_own_image() -> None:
    frames = [Atoms("Cu", cell=[height, 3.6, 3.6], pbc=True) for height in (2.6, 1.1, 2.6)]
    (one,) = found("close_atoms", structures(frames, [0.0] * 3))
    assert (one.row, one.what) == (1, "the distance between atom 0 and its own image")
    open_there = [Atoms("Cu", cell=[1.1, 3.6, 3.6], pbc=[False, True, True])]
    assert found("close_atoms", structures(open_there, [0.0])) == []


def test_how_close_is_too_close_goes_by_element_and_by_the_option() -> None:
    frames = [Atoms("H2", [[0, 0, 0], [0.74, 0, 0]]), Atoms("Cu2", [[0, 0, 0], [0.74, 0, 0]])]
    assert rows("close_atoms", structures(frames, [0.0, 0.0])) == [1]
    assert rows("close_atoms", structures(frames, [0.0, 0.0]), fraction=0.25) == []
    assert rows("close_atoms", structures(frames, [0.0, 0.0]), fraction=1.5) == [0, 1]


def test_cells_too_large_and_too_small() -> None:
    columns = crystals()
    columns["cell"][4] *= 5.0  # 1.5e3 Å³ an atom
    columns["cell"][6] *= 0.4
    told = found("volume_outlier", columns)
    assert [one.row for one in told] == [4, 6]
    assert told[0].expected == "3 to 1000 Å³/atom"
    per_atom = np.linalg.det(columns["cell"][4]) / 32
    assert told[0].got == f"{per_atom:.4g} Å³/atom"
    assert rows("volume_outlier", columns, least=0.5, most=2000.0, times=200.0) == []


def test_cells_unlike_those_of_their_kind() -> None:
    columns = crystals()
    columns["cell"][4] /= 0.529177  # 6.7 times the volume
    columns["cell"][6] *= 0.7
    columns["cell"][28] *= 1.5
    (one,) = found("volume_outlier", columns)
    assert one.row == 4
    assert "5 times what is usual for all rows" in one.expected
    assert rows("volume_outlier", columns, times=2.0) == [4, 6, 28]
    assert rows("volume_outlier", columns, times=10.0) == []
    assert rows("volume_outlier", measured(columns, ["a"] * 20 + ["b"] * 20), times=2.0) == [4, 6, 28]
    few = {name: values[: 9 * 32 if len(values) > N else 9] for name, values in columns.items()}
    assert rows("volume_outlier", few) == []


def test_atoms_too_far_apart_for_their_kind() -> None:
    frames = [Atoms("CO", [[0, 0, 0], [1.1 + 0.01 * row, 0, 0]]) for row in range(20)]
    frames[3].positions /= 0.529177
    frames[5].positions *= 100.0
    one, other = found("far_atoms", structures(frames, [0.0] * 20))
    assert (one.row, other.row, other.got) == (3, 5, "beyond reach")
    assert one.got.startswith("2.135 Å, 1.")
    assert rows("far_atoms", structures(frames, [0.0] * 20), times=3.0) == [5]
    assert rows("far_atoms", structures([Atoms("C")] * 12 + frames[:9], [0.0] * 21)) == []  # nine are too few to tell


def test_a_cell_without_periodicity_has_no_volume() -> None:
    columns = crystals()
    columns["cell"][4] *= 5.0
    columns["pbc"][4, 1] = False
    assert rows("volume_outlier", columns) == []


def test_an_element_that_few_rows_have() -> None:
    columns = crystals()
    for row in (3, 17):
        columns["species"][atom(row, 1)] = 79
    told = found("rare_species", columns)
    assert [one.row for one in told] == [3, 17]
    assert {(one.what, one.got) for one in told} == {("the number of structures with Au", "2")}
    assert rows("rare_species", columns, fewest=2) == []
    assert len(rows("rare_species", columns, fewest=N + 1)) == N + 2  # copper, too


def test_isolated_atoms_make_no_element_less_rare_and_are_not_rare_themselves() -> None:
    frames = [Atoms("H2", [[0, 0, 0], [0.74, 0, 0]])] * 6 + [Atoms("O")] * 6 + [Atoms("OH", [[0, 0, 0], [0.97, 0, 0]])]
    assert rows("rare_species", structures(frames, [0.0] * 13)) == [12]
