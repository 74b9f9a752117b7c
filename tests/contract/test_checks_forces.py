"""Forces and stresses that cannot be meant, and those that only look so."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from tests.contract.finding import N, atom, atoms, crystals, found, measured, rows
from tests.contract.lennard_jones import packed

CHECKS = ["force_outlier", "net_force", "net_forces", "zero_forces", "stress_outlier", "stress_asymmetry"]


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found_in_sound_rows(check: str) -> None:
    assert rows(check, crystals()) == []


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found_where_nothing_is_labelled(check: str) -> None:
    bare = {name: values for name, values in crystals().items() if name not in ("forces", "stress")}
    assert rows(check, bare) == []
    blank = crystals()
    blank["forces"][:], blank["stress"][:] = np.nan, np.nan
    assert rows(check, blank) == []


def test_a_force_a_thousand_times_too_large_is_named_with_its_atom() -> None:
    columns = crystals()
    columns["forces"][atom(11, 5)] *= 1000.0
    (one,) = found("force_outlier", columns)
    assert (one.row, one.what) == (11, "the force on atom 5")
    assert one.got == f"{np.linalg.norm(columns['forces'][atom(11, 5)]):.4g} eV/Å"
    assert "all rows" in one.expected


def test_large_forces_are_judged_among_their_kind() -> None:
    """Thirty times the forces are usual in one kind, and an outlier in another."""
    columns = crystals()
    columns["forces"] *= 0.1
    hot = np.arange(N) >= N // 2
    columns["forces"] *= np.repeat(np.where(hot, 30.0, 1.0), 32)[:, None]
    kinds = ["hot" if one else "cold" for one in hot]
    assert rows("force_outlier", measured(columns, kinds)) == []
    columns["forces"][atoms(3)] *= 30.0
    (one,) = found("force_outlier", measured(columns, kinds))
    assert one.row == 3
    assert "'cold'" in one.expected


def test_no_kind_makes_forces_beyond_the_cap_usual() -> None:
    columns = crystals()
    columns["forces"] *= 100.0
    most = measured(columns).max_force
    told = found("force_outlier", columns)
    assert [one.row for one in told] == np.flatnonzero(most > 100.0).tolist() != []
    assert {one.expected for one in told} == {"at most 100 eV/Å (the cap)"}
    assert rows("force_outlier", columns, cap=None) == []


def test_few_rows_are_held_against_the_cap_alone() -> None:
    columns = {name: values[: 5 * 32 if len(values) > N else 5] for name, values in crystals().items()}
    columns["forces"][atoms(2)] *= 15.0
    assert rows("force_outlier", columns) == []
    columns["forces"][atom(3, 0)] = [0.0, 0.0, 101.0]
    (one,) = found("force_outlier", columns)
    assert (one.row, one.expected) == (3, "at most 100 eV/Å, the cap")


def test_forces_below_the_least_are_never_told() -> None:
    columns = crystals()
    columns["forces"] *= 1e-6
    columns["forces"][atom(11, 5)] *= 1e5
    assert rows("force_outlier", columns) == []
    assert rows("force_outlier", columns, least=1e-4) == [11]


def test_forces_far_smaller_than_those_of_their_kind() -> None:
    columns = crystals()
    columns["forces"][atoms(11)] /= 51.422
    (one,) = found("small_forces", columns)
    assert (one.row, one.what) == (11, "the rms force")
    assert "all rows" in one.expected
    assert rows("small_forces", columns, times=100.0) == []
    columns["forces"][atoms(12)] /= 51.422
    assert rows("small_forces", columns) == []  # two of forty are relaxed structures
    assert rows("small_forces", columns, share=0.1) == [11, 12]
    columns["forces"][:] = 0.0
    assert rows("small_forces", columns) == []


def test_one_force_lost_is_a_net_force() -> None:
    columns = crystals()
    columns["forces"][atom(8, 2)] = 0.0
    (one,) = found("net_force", columns)
    assert (one.row, one.what) == (8, "the sum of all forces")
    assert rows("net_forces", columns) == []


def test_a_net_force_of_rounding_is_none() -> None:
    columns = crystals()
    columns["forces"] = np.round(columns["forces"], 3)
    assert rows("net_force", columns) == []


def test_a_net_force_that_is_small_beside_the_forces_is_none() -> None:
    columns = crystals()
    columns["forces"][atom(8, 2)] += [0.1, 0.0, 0.0]
    columns["forces"][atoms(9)] *= 5.0
    columns["forces"][atom(9, 2)] += [0.1, 0.0, 0.0]
    columns["forces"][atoms(8)] *= 0.2
    columns["forces"][atom(8, 2)] += [0.08, 0.0, 0.0]  # 0.1 eV/Å in both rows
    np.testing.assert_allclose(measured(columns).net_force[[8, 9]], 0.1, atol=1e-9)
    assert rows("net_force", columns) == [8]
    assert rows("net_force", columns, share=0.0) == [8, 9]


def test_net_forces_of_most_rows_are_told_once() -> None:
    columns = crystals()
    columns["forces"] += [0.0, 0.0, 0.05]
    (one,) = found("net_forces", columns)
    assert (one.row, one.got) == (None, "0.05 eV/Å")
    assert rows("net_force", columns) == []  # the rows are as all others
    assert rows("net_forces", columns, per_atom=0.06) == []
    columns["forces"][atom(8, 2)] += 60.0
    assert rows("net_force", columns) == [8]


def test_zeros_for_forces() -> None:
    columns = crystals()
    columns["forces"][atoms(5)] = 0.0
    (one,) = found("zero_forces", columns)
    assert (one.row, one.what, one.got) == (5, "every force on 32 atoms", "exactly 0 eV/Å")


def test_zeros_that_symmetry_makes_are_right() -> None:
    columns = packed([bulk("Cu", "fcc", a=3.6, cubic=True), bulk("Cu", "fcc", a=3.6), bulk("Cu", "bcc", a=2.9)])
    columns["forces"][:] = 0.0
    assert rows("zero_forces", columns) == []


def test_a_stress_in_another_unit() -> None:
    columns = crystals()
    columns["stress"][13] *= 1602.0
    (one,) = found("stress_outlier", columns)
    assert (one.row, one.what) == (13, "the largest component of the stress")
    assert rows("stress_asymmetry", columns) == []


def test_a_stress_that_is_not_symmetric() -> None:
    columns = crystals()
    columns["stress"][13, 0, 1] += 0.05
    columns["stress"][14, 0, 1] += 1e-7  # rounding
    (one,) = found("stress_asymmetry", columns)
    assert (one.row, one.got) == (13, "0.05 eV/Å³")
