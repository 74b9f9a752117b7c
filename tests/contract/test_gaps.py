"""The thickest empty layer of a cell, against planes that are counted through."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from forcefoundry.contract.gaps import gaps
from tests.contract.lennard_jones import boxed, measured, packed, slabs, strained
from tests.contract.real_sets import measured as measured_set
from tests.outside import data


def of(frames: list[Atoms]) -> np.ndarray:
    columns = {
        "n_atoms": np.array([len(atoms) for atoms in frames]),
        "positions": np.concatenate([atoms.positions for atoms in frames]),
        "cell": np.array([np.asarray(atoms.cell) for atoms in frames]),
    }
    return gaps(columns, np.arange(len(frames)))


def counted(atoms: Atoms, planes: int = 4000) -> float:
    """Å, by going along each direction in small steps, twice around, and measuring how long nothing comes."""
    widest = 0.0
    scaled = atoms.get_scaled_positions(wrap=True)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(atoms.cell)), axis=0)
    for axis in range(3):
        taken = np.zeros(planes, dtype=bool)
        taken[(scaled[:, axis] * planes).astype(int) % planes] = True
        longest = run = 0
        for plane in np.tile(taken, 2):
            run = 0 if plane else run + 1
            longest = max(longest, run)
        widest = max(widest, min(longest + 1, planes) / planes * heights[axis])
    return widest


def test_what_is_found_is_what_counting_finds() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for count in range(1, 40):
        cell = rng.normal(size=(3, 3)) * 3.0 + np.eye(3) * 9.0
        frames.append(Atoms(f"Cu{count}", rng.uniform(-20, 20, (count, 3)), cell=cell, pbc=True))
    expected = [counted(atoms) for atoms in frames]
    np.testing.assert_allclose(of(frames), expected, rtol=0.005, atol=0.01)


def test_crystals_slabs_and_boxes() -> None:
    assert of([bulk("Cu", "fcc", a=3.6, cubic=True)])[0] == pytest.approx(1.8)
    assert of([bulk("Po", "sc", a=3.3)])[0] == pytest.approx(3.3)
    assert (of(strained(5)) < 2.5).all()
    vacuum = np.array([4.0, 8.0, 15.0])
    np.testing.assert_allclose(of(slabs(vacuum)), vacuum, atol=0.3)
    assert (of(boxed([8.0, 12.0])) > 7.0).all()


def test_rows_that_are_not_asked_for_have_none() -> None:
    frames = [*strained(2), *slabs([9.0])]
    columns = packed(frames)
    found = gaps(columns, np.array([2]))
    assert np.isnan(found).tolist() == [True, True, False]
    assert found[2] == pytest.approx(of(frames)[2])
    assert np.isnan(gaps(columns, np.zeros(0, dtype=np.int64))).all()


def test_rows_without_stress_or_with_open_sides_are_not_measured() -> None:
    columns = packed(strained(4))
    columns["pbc"][0, 2] = False
    columns["stress"][1] = np.nan
    columns["cell"][2] = 0.0
    assert np.isnan(measured(columns).gap).tolist() == [True, True, True, False]


@pytest.mark.skipif(not (data() / "nbmotaw").is_dir(), reason=f"{data()} is absent")
def test_surfaces_of_a_real_set_are_told_from_its_other_cells() -> None:
    measures = measured_set("nbmotaw_Ta")
    surface = measures.kind == measures.kinds.index("Ta_Surface")
    assert (measures.gap[surface] > 10.0).all()
    assert (measures.gap[~surface] < 2.5).all()
