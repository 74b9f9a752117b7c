"""The Coulomb energy of charges that a network predicts: derivatives through the charges, training, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forcefoundry.databases import Database
from forcefoundry.graph import GraphModule, find_relatives, input_nodes
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.pairs import PairFinderNode
from forcefoundry.targets.atoms import AtomQuantityNode, ChargesNode
from forcefoundry.targets.coulomb import CoulombEnergy, CoulombNode
from forcefoundry.targets.forces import ForcesNode
from forcefoundry.targets.stress import ForcesAndStressNode
from tests.builders import network
from tests.targets.charged import derivative, drawn, graph, numeric_forces, numeric_stress, packed, run, tensors

OPEN, PERIODIC = drawn(1, 5, periodic=False), drawn(4, 6, periodic=True, neutral=True)


def close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    """Within a tolerance, relative to the largest entry."""
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


def predicted(inputs: Inputs) -> tuple[NetworkNode, CoulombNode]:
    """A network over hydrogen and the Coulomb energy of the charges that it predicts, neutral in sum."""
    torch.manual_seed(0)
    node = NetworkNode(network(species=(1,)), inputs)
    charges = ChargesNode(node)
    charges.readout.double()
    return node, CoulombNode(charges, cutoff=3.2, accuracy=1e-12)


def test_charges_of_a_network_move_with_the_atoms() -> None:
    """Forces and stress also go through the charges."""
    node, energy = predicted(Inputs.new().strained())
    assert len(find_relatives([node], PairFinderNode)) == 1, "one cutoff, one finder"
    forces, stress = (ForcesAndStressNode(energy).output(key) for key in ("forces", "stress"))
    for system in (OPEN, PERIODIC):
        found = run([forces], packed([system]))[0]
        assert np.abs(found).max() > 0.01
        close(found, numeric_forces(energy, system), 1e-7)
    close(run([stress], packed([PERIODIC]))[0][0], numeric_stress(energy, PERIODIC), 1e-6)


def test_a_loss_of_forces_trains_the_charges() -> None:
    node, energy = predicted(Inputs.new())
    forces = ForcesNode(energy)
    inputs = input_nodes([forces])
    module = GraphModule(inputs, [forces]).train()
    values = tensors(packed([OPEN, PERIODIC]), [str(one.db_name) for one in inputs])
    weight = node.network.blocks[0].interaction.self_interaction.weight

    def loss() -> torch.Tensor:
        return (module(*values)[0] ** 2).sum()

    (gradient,) = torch.autograd.grad(loss(), weight)
    along, start = torch.sign(gradient), weight.detach().clone()
    step, found = 1e-4, []
    for shift in (-2, -1, 1, 2):
        with torch.no_grad():
            weight.copy_(start + shift * step * along)
        found.append(float(loss().detach()))
    np.testing.assert_allclose(derivative(np.array(found), step), float((gradient * along).sum()), rtol=1e-7)


def test_charges_in_float32_and_as_a_column() -> None:
    inputs = Inputs.new()
    node = NetworkNode(network(species=(1,)), inputs)
    charges = AtomQuantityNode(node, "charges")
    base = packed([OPEN, PERIODIC])
    energy, given = run([CoulombNode(charges), charges], base)
    again = Database({**base.columns, "charges": given})
    (expected,) = run([graph(CoulombNode, 6.0)[0]], again)
    assert energy.dtype == np.float64
    np.testing.assert_array_equal(energy, expected)
    column = torch.from_numpy(given)[:, None]
    module, pairs = CoulombEnergy(6.0), torch.zeros(0, dtype=torch.int64)
    structure = tensors(packed([OPEN]), ["positions", "cell", "pbc", "n_atoms", "system_of_atom"])
    rest = (*structure, pairs, pairs, torch.zeros(0, dtype=torch.float64))
    np.testing.assert_array_equal(module(column[:5], *rest).numpy(), module(column[:5, 0], *rest).numpy())
    with pytest.raises(ValueError, match=r"charges have shape \(4,\), expected one for each of 5 atoms"):
        module(column[:4, 0], *rest)
