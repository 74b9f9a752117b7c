"""Energies that cannot be meant, and isolated atoms that do not go with the structures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from tests.contract.finding import Columns, N, crystals, found, measured, rows, structures

CHECKS = ["energy_outlier", "zero_energy", "isolated_atoms"]


def mixed(n: int = 60) -> Columns:
    """Chains of carbons and hydrogens: -1000 eV a carbon, -13 a hydrogen, and about -4 an atom of binding."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(n):
        carbons, hydrogens = rng.integers(1, 5, 2)
        count = carbons + hydrogens
        frames.append(Atoms(f"C{carbons}H{hydrogens}", np.outer(np.arange(count), [1.4, 0, 0])))
    atoms = [-1000.0 * (one.numbers == 6).sum() - 13.0 * (one.numbers == 1).sum() - 4.0 * len(one) for one in frames]
    return structures(frames, np.array(atoms) + rng.normal(0.0, 0.1, n))


def with_atoms(columns: Columns, *alone: tuple[str, float]) -> Columns:
    more = structures([Atoms(symbol) for symbol, _ in alone], [energy for _, energy in alone])
    return {name: np.concatenate([values, more[name]]) for name, values in columns.items()}


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found_in_sound_rows(check: str) -> None:
    assert rows(check, crystals()) == []
    assert rows(check, mixed()) == []
    assert rows(check, with_atoms(mixed(), ("C", -1000.0), ("H", -13.0))) == []


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found_where_nothing_is_labelled(check: str) -> None:
    columns = mixed()
    columns["energy"][:] = np.nan
    assert rows(check, columns) == []


@pytest.mark.parametrize(
    "wrong",
    [lambda e, n: e / n, lambda e, n: -e, lambda e, n: e / 27.2114, lambda e, n: e + 5.0 * n],
    ids=["per atom", "sign", "Hartree", "shifted"],
)
def test_an_energy_far_from_that_of_its_atoms(wrong: object) -> None:
    columns = mixed()
    columns["energy"][17] = wrong(columns["energy"][17], columns["n_atoms"][17])  # type: ignore[operator]
    (one,) = found("energy_outlier", columns)
    assert one.row == 17
    assert f"{columns['energy'][17]:.10g} eV" in one.what
    assert "all rows" in one.expected


def test_one_wrong_row_does_not_make_others_wrong() -> None:
    columns = mixed()
    columns["energy"][::12] *= 3.0
    assert rows("energy_outlier", columns) == list(range(0, 60, 12))


def test_energies_are_judged_among_their_kind() -> None:
    columns = crystals()
    melt = np.arange(N) >= N // 2
    columns["energy"] += np.where(melt, 32 * 3.0, 0.0)
    kinds = ["melt" if one else "crystal" for one in melt]
    assert rows("energy_outlier", measured(columns, kinds)) == []
    columns["energy"][4] += 32 * 3.0  # what is usual in a melt
    (one,) = found("energy_outlier", measured(columns, kinds))
    assert one.row == 4
    assert "'crystal'" in one.expected or "less is never told" in one.expected


def test_few_rows_say_nothing_of_what_is_usual() -> None:
    columns = {name: values[: 9 * 32 if len(values) > N else 9] for name, values in crystals().items()}
    columns["energy"][4] *= 2.0
    assert rows("energy_outlier", columns) == []


def test_zeros_for_energies() -> None:
    columns = mixed()
    columns["energy"][[3, 30]] = 0.0
    told = found("zero_energy", columns)
    assert [one.row for one in told] == [3, 30]
    assert told[0].what == f"the energy of {columns['n_atoms'][3]} atoms"


def test_zeros_that_are_usual_or_of_one_atom_are_right() -> None:
    assert rows("zero_energy", with_atoms(mixed(), ("H", 0.0))) == []
    columns = mixed()
    columns["energy"][:] = 0.0
    assert rows("zero_energy", columns) == []


def test_isolated_atoms_of_one_element_that_differ() -> None:
    columns = with_atoms(mixed(), ("H", -13.0), ("C", -1000.0), ("H", -13.2), ("H", -13.0004))
    (one,) = found("isolated_atoms", columns)
    assert (one.row, one.what) == (62, "the energy of an isolated atom of H")
    assert rows("isolated_atoms", columns, differ=0.3) == []


def test_isolated_atoms_that_are_not_alone() -> None:
    frames = [
        Atoms("H"),
        Atoms("H2", [[0, 0, 0], [0.74, 0, 0]]),
        Atoms("Cu", cell=[2.5, 9, 9], pbc=True),
        Atoms("Cu", cell=[9, 9, 9], pbc=True),
    ]
    columns = structures(frames, [np.nan] * 4)
    told = found("isolated_atoms", measured(columns, ["IsolatedAtom", "isolated_atom", "IsolatedAtom", "IsolatedAtom"]))
    assert [(one.row, one.got) for one in told] == [(1, "2"), (2, "2.5 Å")]
    assert rows("isolated_atoms", measured(columns, ["dimer", "dimer", "bulk", None])) == []


@pytest.mark.parametrize(("carbon", "hydrogen"), [(-1000 / 27.2114, -13 / 27.2114), (-2000.0, -13.0)])
def test_isolated_atoms_that_do_not_go_with_the_structures(carbon: float, hydrogen: float) -> None:
    (one,) = found("isolated_atoms", with_atoms(mixed(), ("C", carbon), ("H", hydrogen)))
    assert one.row is None
    assert one.expected == "-1 to 20 eV/atom"
    assert f"C {carbon:.6g}" in one.what


def test_atoms_of_some_elements_alone_say_nothing_of_binding() -> None:
    assert rows("isolated_atoms", with_atoms(mixed(), ("C", -36.7))) == []
