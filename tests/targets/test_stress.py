"""Forces and stress against stored ones, against finite strains, and where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forcefoundry.databases import Database
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.targets.energy import EnergyNode
from forcefoundry.targets.forces import ForcesNode
from forcefoundry.targets.stress import ForcesAndStress, ForcesAndStressNode
from tests.builders import network, subset
from tests.laws.rooms import structures
from tests.networks.reference import packed
from tests.outside import arrays, files, oracles
from tests.targets.graphs import changed, energy_node, reference_energy, slope, slope_by_weights, values

FORWARD = files(oracles(), "forward_*.npz")
SPECIES = (1, 6, 8)


def some(n: int = 6, seed: int = 0) -> Database:
    """Open and periodic structures and slabs, in turn, of elements that the network knows."""
    base = structures(n, seed)
    return changed(base, species=np.array(SPECIES)[base.columns["species"] % 3])


def stress_of(energy: EnergyNode, base: Database) -> np.ndarray:
    """The stress of each structure."""
    return values([ForcesAndStressNode(energy).output("stress")], base)[0].numpy()


def by_finite_strain(energy: EnergyNode, base: Database, step: float = 1e-4) -> np.ndarray:
    """(S, 3, 3) from energies of strained structures alone."""
    system = np.repeat(np.arange(len(base)), base.columns["n_atoms"])
    found = np.zeros((len(base), 3, 3))
    for a in range(3):
        for b in range(3):

            def energies(strain: float, a: int = a, b: int = b) -> np.ndarray:
                deformation = np.eye(3)
                deformation[a, b] += strain
                cell = base.columns["cell"] @ deformation
                moved = changed(base, positions=base.columns["positions"] @ deformation, cell=cell)
                return values([energy], moved)[0].numpy()

            found[:, a, b] = slope(energies, step)
    volume = np.abs(np.linalg.det(base.columns["cell"]))
    assert len(system) == len(base.columns["positions"])
    return found / volume[:, None, None]


@pytest.mark.parametrize("path", FORWARD)
def test_as_stored(path: Path) -> None:
    d = arrays(path)
    energy = reference_energy(d)
    node = ForcesAndStressNode(energy)
    forces, stress = (found.numpy() for found in values([node, node.output("stress")], packed(d, {})))
    assert np.abs(forces - d["out_forces"]).max() <= 1e-9 * np.abs(d["out_forces"]).max()
    if "out_stress" not in d:
        assert np.isnan(stress).all()
        return
    largest = np.abs(d["out_stress"]).max()
    assert np.abs(stress - d["out_stress"]).max() <= 1e-9 * largest  # all nine components, none made equal to another
    assert np.abs(stress - stress.transpose(0, 2, 1)).max() <= 1e-13 * largest
    # Taken from energies alone, so no derivative of anybody's code is trusted.
    assert np.abs(stress - d["fd_stress"]).max() <= 3e-9 * max(1.0, largest)


def test_finite_strain_of_right_and_left_handed_cells() -> None:
    base = subset(some(12), [1, 4, 7, 10])
    cell = base.columns["cell"].copy()
    cell[::2] = cell[::2, [1, 0, 2]]
    handed = changed(base, cell=cell)
    assert (np.linalg.det(cell) < 0).sum() == 2
    energy = energy_node(strained=True)
    found, expected = stress_of(energy, handed), by_finite_strain(energy, handed)
    assert np.abs(found - expected).max() <= 1e-8 * np.abs(expected).max()
    np.testing.assert_allclose(found, stress_of(energy, base), rtol=1e-10, atol=1e-12)


def test_one_atom_that_sees_its_own_images_and_one_that_sees_nothing() -> None:
    columns = {
        "n_atoms": np.array([1, 1, 1]),
        "species": np.array([6, 6, 6]),
        "positions": np.array([[0.1, -7.0, 3.0]] * 3),
        "cell": np.array([np.eye(3) * 2.1 + 0.2, np.eye(3) * 30.0, np.zeros((3, 3))]),
        "pbc": np.array([[True] * 3, [True] * 3, [False] * 3]),
    }
    base = Database(columns)
    energy = energy_node(strained=True)
    node = ForcesAndStressNode(energy)
    forces, stress = values([node, node.output("stress")], base)
    assert float(forces.abs().max()) <= 1e-12  # each image pulls as its opposite does
    expected = by_finite_strain(energy, subset(base, [0]))
    assert np.abs(expected).max() > 1e-3
    assert np.abs(stress.numpy()[0] - expected[0]).max() <= 1e-8 * np.abs(expected).max()
    assert bool((stress[1] == 0).all())
    assert bool(stress[2].isnan().all())


def test_no_stress_without_three_periodic_directions_and_clean_gradients_for_the_others() -> None:
    base = some(9)
    periodic = base.columns["pbc"].all(axis=1)
    assert 0 < periodic.sum() < 9
    energy = energy_node(strained=True)
    weights = list(energy.readout.readouts.parameters())
    gradients, stresses = [], []
    for part in (base, subset(base, np.flatnonzero(periodic).tolist())):
        (stress,) = values([ForcesAndStressNode(energy).output("stress")], part, training=True)
        held = part.columns["pbc"].all(axis=1)
        assert bool(stress[torch.from_numpy(~held)].isnan().all())
        kept = stress[torch.from_numpy(held)]
        gradients.append(torch.autograd.grad((kept**2).sum(), weights, allow_unused=True, materialize_grads=True))
        stresses.append(kept.detach())
    torch.testing.assert_close(stresses[0], stresses[1], rtol=1e-12, atol=1e-14)
    assert float(gradients[1][0].abs().max()) > 0
    for mixed, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(mixed, alone, rtol=1e-12, atol=1e-14)


def test_a_loss_on_stress_has_the_gradient_by_weights_of_finite_differences() -> None:
    base = subset(some(), [1, 4])
    energy = energy_node(strained=True)
    node = ForcesAndStressNode(energy)
    aim = torch.linspace(-0.1, 0.2, 18, dtype=torch.float64).reshape(2, 3, 3)
    features = energy.parents[2].parents[0]
    assert isinstance(features, NetworkNode)
    weights = [*features.network.parameters(), *energy.readout.readouts.parameters()]

    def loss() -> torch.Tensor:
        forces, stress = values([node, node.output("stress")], base, training=True)
        return ((stress - aim) ** 2).sum() + 1e-3 * (forces**2).sum()

    analytic, numeric = slope_by_weights(loss, weights)
    assert abs(analytic) > 1e-6
    assert abs(analytic - numeric) <= 1e-7 * abs(analytic)


def test_forces_are_those_of_the_forces_node_from_one_differentiation(monkeypatch: pytest.MonkeyPatch) -> None:
    base = some(4)
    strained = ForcesAndStressNode(energy_node(strained=True))
    calls = []
    differentiate = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or differentiate(*a, **k))
    found, _ = values([strained, strained.output("stress")], base)
    assert len(calls) == 1
    (expected,) = values([ForcesNode(energy_node())], base)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_only_in_training_can_the_derivative_be_differentiated() -> None:
    positions, strain = (torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3), (1, 3, 3)))
    energy = (positions**3).sum()[None] + (strain**3).sum()[None]
    rest = torch.eye(3, dtype=torch.float64)[None], torch.ones((1, 3), dtype=torch.bool)
    in_training = ForcesAndStress().train()(energy, positions, strain, *rest)
    assert [value.requires_grad for value in in_training] == [True, True]
    assert [value.requires_grad for value in ForcesAndStress().eval()(energy, positions, strain, *rest)] == [False] * 2


def test_float32_stays_near_float64_and_gives_float64() -> None:
    base = subset(some(), [1, 4])
    energy = energy_node(strained=True)
    expected = stress_of(energy, base)
    features = energy.parents[2].parents[0]
    assert isinstance(features, NetworkNode)
    for module in (features.network, energy.readout.readouts):
        module.float()
    found = stress_of(energy, base)
    assert found.dtype == np.float64
    assert 0 < np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_names_and_several_in_one_graph() -> None:
    energy = energy_node(strained=True)
    first, second = ForcesAndStressNode(energy), ForcesAndStressNode(energy.output("energy") * 2.0, name="doubled")
    keys = ("forces", "stress")
    assert [first.output(key).name for key in keys] == ["forces", "stress"]
    assert [second.output(key).name for key in keys] == ["doubled_forces", "doubled_stress"]
    assert [first.output(key).unit for key in keys] == ["eV/Å", "eV/Å³"]
    once, twice = values([first.output("stress"), second.output("stress")], subset(some(), [1, 4]))
    torch.testing.assert_close(2.0 * once, twice, rtol=1e-14, atol=0.0)


def test_mistakes_are_told_where_they_are_made() -> None:
    with pytest.raises(ValueError, match=r"'energy' does not depend on a strain.*Inputs\.new\(\)\.strained\(\)"):
        ForcesAndStressNode(energy_node())
    energy = energy_node(strained=True)
    with pytest.raises(ValueError, match=r"one number for each system; 'atom_energy' has one number for each atom"):
        ForcesAndStressNode(energy.output("atom_energy"))
    with pytest.raises(ValueError, match=r"What forces are computed from must be one number for each system"):
        ForcesNode(energy.output("atom_energy"))
    with pytest.raises(ValueError, match=r"'strained_cell' has numbers of shape \(3, 3\) for each system"):
        ForcesAndStressNode(Inputs.around(energy).cell)


def test_several_derivatives_of_one_graph_in_evaluation_and_in_training() -> None:
    """Two networks over the same pairs: what the first derivative went through, the second goes through again."""
    base = some(4)
    one = energy_node(strained=True)
    inputs = Inputs.around(one)
    other = EnergyNode(NetworkNode(network(1), inputs, name="other"), name="other_energy")
    together = one.output("energy") + other.output("energy")
    nodes = [ForcesNode(one), ForcesNode(other, name="other_forces"), ForcesAndStressNode(together, name="both")]
    for training in (False, True):
        first, second, both = (found.detach() for found in values(nodes, base, training))
        assert float(second.abs().max()) > 1e-3
        torch.testing.assert_close(first + second, both, rtol=1e-11, atol=1e-12)
