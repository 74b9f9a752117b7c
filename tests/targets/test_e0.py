"""Energies of single species by least squares, against stored solutions and numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefoundry.build import seeded
from forcefoundry.databases import Database
from forcefoundry.targets.e0 import initialise_energy, least_squares_e0, species_counts
from forcefoundry.targets.energy import EnergyReadout
from tests.builders import SPECIES, assembled, database, objective, outputs
from tests.outside import arrays, files, oracles

E0 = files(oracles(), "e0*.npz")


def cases_of(d: dict[str, np.ndarray]) -> list[str]:
    """The cases that a file holds."""
    return sorted(name.removesuffix("_e0") for name in d if name.endswith("_e0"))


@pytest.mark.parametrize("path", E0)
def test_every_case_of_the_file(path: Path) -> None:
    d = arrays(path)
    cases = cases_of(d)
    assert cases
    for case in cases:
        found = least_squares_e0(d[f"{case}_counts"], d[f"{case}_energy"], bool(d[f"{case}_peratom"]))
        expected = d[f"{case}_e0"]
        assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max(), case


@pytest.mark.parametrize("path", E0)
def test_counts_from_species(path: Path) -> None:
    d = arrays(path)
    for case in cases_of(d):
        padded = d[f"{case}_Z"]
        n_atoms = (padded > 0).sum(axis=1)
        n = len(n_atoms)
        base = Database(
            {
                "species": padded[padded > 0],
                "positions": np.zeros((n_atoms.sum(), 3)),
                "cell": np.zeros((n, 3, 3)),
                "pbc": np.zeros((n, 3), dtype=bool),
                "n_atoms": n_atoms,
            }
        )
        rows = np.arange(n)[::-1]
        found = species_counts(base, rows, d[f"{case}_species"].tolist())
        np.testing.assert_array_equal(found, d[f"{case}_counts"][rows])


@pytest.mark.parametrize("path", E0)
def test_readouts_after_initialisation(path: Path) -> None:
    """Levels 1 and 2 as stored; from level 3 on decay_factor**n, where the origin squares the factor at each level."""
    d = arrays(path)
    for case in cases_of(d):
        levels = sum(name.startswith(f"{case}_before_energy") and name.endswith("_w") for name in d)
        if not levels:
            continue
        widths = [len(d[f"{case}_before_energy{n}_w"]) for n in range(1, levels + 1)]
        readout = EnergyReadout([len(d[f"{case}_species"]), *widths]).double()
        with torch.no_grad():
            for n, linear in enumerate(readout.readouts, start=1):
                linear.weight.copy_(torch.from_numpy(d[f"{case}_before_energy{n}_w"])[None])
                linear.bias.copy_(torch.from_numpy(d[f"{case}_before_energy{n}_b"]))
        initialise_energy(readout, d[f"{case}_e0"], decay_factor=1e-2)
        np.testing.assert_array_equal(readout.e0.detach().numpy(), d[f"{case}_e0"])
        assert not readout.e0.requires_grad
        for n, linear in enumerate(readout.readouts, start=1):
            for kind, weight in (("w", linear.weight), ("b", linear.bias)):
                before, after = d[f"{case}_before_energy{n}_{kind}"], d[f"{case}_after_energy{n}_{kind}"]
                found = weight.detach().numpy().reshape(before.shape)
                np.testing.assert_allclose(found, before * 1e-2**n, rtol=1e-14)
                if n <= 2:
                    np.testing.assert_allclose(found, after, rtol=1e-14)
                else:
                    np.testing.assert_allclose(after, before * 1e-2 ** (2 ** (n - 1)), rtol=1e-12)
                    assert (np.abs(found) > 10 * np.abs(after)).all()


def test_exact_energies_are_found_again_and_undetermined_ones_are_the_shortest() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, (40, 3)).astype(float)
    truth = np.array([-13.6, -1030.1, -2043.2])
    for per_atom in (False, True):
        np.testing.assert_allclose(least_squares_e0(counts, counts @ truth, per_atom), truth, rtol=1e-12)
    np.testing.assert_allclose(least_squares_e0(np.array([[2.0, 1.0]] * 5), np.full(5, -5.0)), [-2.0, -1.0])


@given(seed=st.integers(0, 999), n=st.integers(1, 9))
@settings(max_examples=30)
def test_counts_are_those_of_a_loop_for_any_structures_and_any_species(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    base = database(n, seed)
    rows = rng.integers(0, n, rng.integers(0, 2 * n + 1))  # some left out, some twice
    species = rng.permutation([1, 6, 8, 92, 118])[: rng.integers(1, 6)].tolist()
    expected = [[(base.columns["species"][base.atoms(at)] == z).sum() for z in species] for at in rows]
    found = species_counts(base, rows, species)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.array(expected, dtype=float).reshape(len(rows), len(species)))


def test_structures_without_a_label_take_no_part_in_the_fit() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (40, 3)).astype(float)
    energies = counts @ np.array([-13.6, -1030.1, -2043.2]) + rng.normal(size=40)
    labelled = rng.random(40) < 0.6
    for per_atom in (False, True):
        found = least_squares_e0(counts, np.where(labelled, energies, np.nan), per_atom)
        np.testing.assert_array_equal(found, least_squares_e0(counts[labelled], energies[labelled], per_atom))
    # A species that no labelled structure has is not determined: the shortest solution has 0.
    counts[:, 2] = np.where(labelled, 0.0, 1.0)
    assert least_squares_e0(counts, np.where(labelled, energies, np.nan))[2] == pytest.approx(0.0, abs=1e-12)


def test_what_cannot_be_fitted_or_set_is_told() -> None:
    with pytest.raises(ValueError, match="None of 3 structures has an energy"):
        least_squares_e0(np.ones((3, 2)), np.full(3, np.nan))
    with pytest.raises(ValueError, match="counts of 3 structures, but 4 energies"):
        least_squares_e0(np.ones((3, 2)), np.ones(4))
    with pytest.raises(ValueError, match=r"E0 has shape \(1,\), expected one energy for each of 3 species"):
        initialise_energy(EnergyReadout([3, 4]), np.ones(1))
    with pytest.raises(ValueError, match="starts at the first interacting level, so it has no E0"):
        initialise_energy(EnergyReadout([3, 4], first_is_interacting=True), np.ones(3))


def test_a_model_starts_from_e0_alone() -> None:
    """With the network's own readouts at zero the energy of a structure is the sum of its species' energies."""
    base = database(6)
    with seeded(0):
        what = objective()
    e0 = np.array([-1.5, -37.25, -75.125])
    initialise_energy(what.readout, e0, decay_factor=0.0)
    modules = assembled(what, base)
    expected = species_counts(base, np.arange(6), SPECIES) @ e0
    np.testing.assert_allclose(outputs(modules, base)["energy"].numpy(), expected, rtol=1e-15)
