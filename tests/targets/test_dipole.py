"""Dipole moments: against plain sums, moved and turned, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forcefoundry.build import seeded
from forcefoundry.databases import Database
from forcefoundry.graph import InputNode
from forcefoundry.targets.atoms import ChargesNode
from forcefoundry.targets.dipole import DipoleNode, PointDipole
from tests.builders import database, subset
from tests.targets.graphs import changed, energy_node, features, slope_by_weights, values


def with_charges(n: int = 8, periodic: bool | None = False, seed: int = 0) -> Database:
    """Structures with made-up charges, which do not sum to zero."""
    base = database(n, seed, periodic)
    return changed(base, charges=np.random.default_rng(seed).normal(size=int(base.offsets[-1])))


def dipole_of(base: Database) -> np.ndarray:
    """The dipole moments of the charges in the database."""
    return values([DipoleNode(InputNode("charges"))], base)[0].numpy()


def by_loops(base: Database, origin: np.ndarray | None = None) -> np.ndarray:
    """Σ q (r - origin); about the mean of the positions unless said."""
    found = np.zeros((len(base), 3))
    for at in range(len(base)):
        positions = base.columns["positions"][base.atoms(at)]
        about = positions.mean(axis=0) if origin is None else origin
        for charge, position in zip(base.columns["charges"][base.atoms(at)], positions, strict=True):
            found[at] += charge * (position - about)
    return found


def test_as_summed_by_hand_about_the_mean_of_the_positions() -> None:
    base = with_charges()
    np.testing.assert_allclose(dipole_of(base), by_loops(base), rtol=1e-13, atol=1e-13)


def test_neutral_systems_have_the_plain_sum_whatever_the_origin() -> None:
    base = with_charges()
    charges = base.columns["charges"].copy()
    for at in range(len(base)):
        charges[base.atoms(at)] -= charges[base.atoms(at)].mean()
    neutral = changed(base, charges=charges)
    found = dipole_of(neutral)
    assert np.abs(found).max() > 1.0
    for origin in (np.zeros(3), np.array([3.0, -7.0, 11.0])):
        np.testing.assert_allclose(found, by_loops(neutral, origin), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distance", [1.0, 1e4, 1e8])
def test_moving_a_system_changes_nothing_charged_or_not(distance: float) -> None:
    base = with_charges()
    rng = np.random.default_rng(1)
    shift = np.repeat(rng.normal(size=(len(base), 3)) * distance, base.columns["n_atoms"], axis=0)
    found = dipole_of(changed(base, positions=base.columns["positions"] + shift))
    # Far away the positions themselves are rounded, by half a unit in the last place.
    rounding = np.spacing(np.abs(shift).max()) * np.abs(base.columns["charges"]).sum()
    assert np.abs(found - dipole_of(base)).max() <= 1e-12 + rounding


def test_turning_a_system_turns_its_dipole_and_a_mirror_mirrors_it() -> None:
    base = with_charges()
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    for rotation in (turn, -turn):
        found = dipole_of(changed(base, positions=base.columns["positions"] @ rotation))
        np.testing.assert_allclose(found, dipole_of(base) @ rotation, rtol=1e-12, atol=1e-12)


def test_no_dipole_where_any_direction_is_periodic_and_clean_gradients_for_the_others() -> None:
    base = with_charges(8)
    pbc = np.zeros((8, 3), dtype=bool)
    pbc[1], pbc[3, 2], pbc[4, :2] = True, True, True
    cell = np.where(pbc.any(axis=1)[:, None, None], np.eye(3) * 9.0, 0.0)
    mixed = changed(base, pbc=pbc, cell=cell)
    charges = torch.from_numpy(base.columns["charges"].copy()).requires_grad_(True)
    counts = torch.from_numpy(base.columns["n_atoms"].copy())
    system_of_atom = torch.repeat_interleave(torch.arange(8), counts)
    positions = torch.from_numpy(base.columns["positions"].copy())
    dipole = PointDipole()(charges, positions, torch.from_numpy(pbc), counts, system_of_atom)
    none = torch.from_numpy(pbc.any(axis=1))
    assert bool(dipole[none].isnan().all())
    np.testing.assert_array_equal(dipole.detach().numpy(), dipole_of(mixed))
    np.testing.assert_allclose(dipole[~none].detach().numpy(), by_loops(base)[~none.numpy()], rtol=1e-12, atol=1e-13)
    (gradient,) = torch.autograd.grad((dipole[~none] ** 2).sum(), charges)
    assert bool(torch.isfinite(gradient).all())
    assert bool((gradient[none[system_of_atom]] == 0).all())
    assert float(gradient.abs().max()) > 0.1


def test_one_atom_has_no_dipole_moment_about_itself() -> None:
    base = Database(
        {
            "n_atoms": np.array([1]),
            "species": np.array([6]),
            "positions": np.array([[0.1, -3.0, 1e5]]),
            "cell": np.zeros((1, 3, 3)),
            "pbc": np.zeros((1, 3), dtype=bool),
            "charges": np.array([1.5]),
        }
    )
    assert dipole_of(base).tolist() == [[0.0, 0.0, 0.0]]


def test_a_loss_on_dipoles_has_the_gradient_by_weights_of_finite_differences() -> None:
    base = subset(database(6, periodic=False), [0, 1, 2])
    with seeded(0):
        charges = ChargesNode(features())
    dipole = DipoleNode(charges)
    weights = list(charges.readout.parameters())
    aim = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64).reshape(3, 3)
    analytic, numeric = slope_by_weights(lambda: ((values([dipole], base, True)[0] - aim) ** 2).sum(), weights)
    assert abs(analytic) > 1e-3
    assert abs(analytic - numeric) <= 1e-8 * abs(analytic)


def test_what_it_is_called_and_mistakes_are_told_where_they_are_made() -> None:
    energy = energy_node()
    node = DipoleNode(energy.output("atom_energy"), name="moment", db_name=None)  # any number an atom will do
    assert (node.name, node.db_name, node.unit, node.shape) == ("moment", None, "e·Å", (3,))
    with pytest.raises(ValueError, match="one number for each atom; 'energy' has one number for each system"):
        DipoleNode(energy)
    with pytest.raises(ValueError, match=r"'positions' has numbers of shape \(3,\) for each atom.*Give a ChargesNode"):
        DipoleNode(InputNode("positions"))
