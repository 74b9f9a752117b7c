"""Quantities of atoms and partial charges: read out as defined, conserved, trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefoundry.batches import Batch
from forcefoundry.build import seeded
from forcefoundry.columns import Axis
from forcefoundry.databases import Database
from forcefoundry.graph import InputNode
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.targets.atoms import AtomQuantityNode, AtomReadout, ChargeReadout, ChargesNode
from forcefoundry.targets.energy import EnergyNode
from tests.builders import database, network, subset
from tests.targets.graphs import changed, features, slope_by_weights, values


def charged(n: int = 6, seed: int = 0) -> Database:
    """Structures with whole total charges."""
    base = database(n, seed)
    return changed(base, charge=np.random.default_rng(seed).integers(-2, 3, n).astype(float))


def charges_node(**options: Any) -> ChargesNode:
    """Charges of a small network in float64."""
    with seeded(0):
        return ChargesNode(features(), **options)


def sums(charges: torch.Tensor, base: Database) -> np.ndarray:
    """The sum over each system, added up atom by atom."""
    return np.array([sum(charges.detach().numpy()[base.atoms(at)].tolist()) for at in range(len(base))])


def by_hand(readout: AtomReadout, levels: list[torch.Tensor]) -> np.ndarray:
    """Σ_n (w_n · z_n + b_n) for each atom and number, in loops."""
    linears = [linear for linear in readout.readouts if isinstance(linear, torch.nn.Linear)]
    assert linears[0].bias is None
    found = np.zeros((len(levels[0]), readout.size))
    for z, linear in zip(levels, linears, strict=True):
        w, b = linear.weight.detach().numpy(), 0.0 if linear.bias is None else linear.bias.detach().numpy()
        for i, row in enumerate(z.detach().numpy()):
            found[i] += w @ row + b
    return found


@pytest.mark.parametrize("size", [1, 3])
def test_a_quantity_is_the_sum_of_its_levels(size: int) -> None:
    with seeded(0):
        nodes = features()
        node = AtomQuantityNode(nodes, "shielding", db_name="nmr", unit="ppm", size=size)
    assert (node.name, node.db_name, node.unit, node.axis) == ("shielding", "nmr", "ppm", Axis.ATOM)
    assert node.shape == (() if size == 1 else (3,))
    base = database(4)
    found, *levels = values([node, *nodes.levels], base)
    assert found.dtype == torch.float64
    assert found.shape == (len(base.columns["species"]), *node.shape)
    expected = by_hand(node.readout, levels)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.numpy().reshape(expected.shape), expected, rtol=1e-13, atol=1e-14)


def test_free_charges_are_the_plain_readout() -> None:
    node = charges_node(conserve=False)
    base = database(4)
    found, *levels = values([node, *node.parents], base)
    np.testing.assert_allclose(found.numpy(), by_hand(node.readout, levels)[:, 0], rtol=1e-13, atol=1e-14)
    assert np.abs(sums(found, base)).min() > 1e-3
    assert (node.name, node.db_name, node.unit, node.shape) == ("charges", "charges", "e", ())


@pytest.mark.parametrize("given_total", [False, True])
def test_conserved_charges_sum_to_the_total_and_differ_from_free_ones_by_one_number_a_system(given_total: bool) -> None:
    base = charged()
    free = charges_node(conserve=False)
    node = charges_node(total_charge=InputNode("charge") if given_total else None)
    node.readout.load_state_dict(free.readout.state_dict())
    (found,), (plain,) = values([node], base), values([free], base)
    total = base.columns["charge"] if given_total else np.zeros(len(base))
    assert np.abs(sums(found, base) - total).max() <= 1e-12
    moved = (found - plain).numpy()
    excess = sums(plain, base) - total
    for at in range(len(base)):
        shares = moved[base.atoms(at)]
        np.testing.assert_allclose(shares, -excess[at] / len(shares), rtol=1e-12, atol=1e-14)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_conservation_holds_whatever_is_read_out(counts: list[int], size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    readout = ChargeReadout([2, 3], conserve=True, total_given=True).double()
    n_atoms = torch.tensor(counts)
    system_of_atom = torch.repeat_interleave(torch.arange(len(counts)), n_atoms)
    levels = [torch.from_numpy(rng.normal(size=(sum(counts), width)) * size) for width in (2, 3)]
    total = torch.from_numpy(rng.integers(-3, 4, len(counts)).astype(float))
    found = readout(n_atoms, system_of_atom, total, *levels).detach()
    for at, charge in enumerate(total.tolist()):
        assert abs(sum(found[system_of_atom == at].tolist()) - charge) <= 1e-12 * max(1.0, size)


def test_an_atom_alone_has_the_charge_of_its_system() -> None:
    columns = {
        "n_atoms": np.array([1, 1]),
        "species": np.array([6, 8]),
        "positions": np.zeros((2, 3)),
        "cell": np.zeros((2, 3, 3)),
        "pbc": np.zeros((2, 3), dtype=bool),
        "charge": np.array([1.0, -2.0]),
    }
    neutral, ionic = charges_node(), charges_node(total_charge=InputNode("charge"))
    assert values([neutral], Database(columns))[0].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(values([ionic], Database(columns))[0].numpy(), [1.0, -2.0], rtol=1e-15)


def test_a_batch_is_each_alone() -> None:
    base = charged()
    node = charges_node(total_charge=InputNode("charge"))
    (together,) = values([node], base)
    for at in range(len(base)):
        part = changed(subset(base, [at]), charge=base.columns["charge"][[at]])
        torch.testing.assert_close(values([node], part)[0], together[base.atoms(at)], rtol=1e-12, atol=1e-13)


def test_a_loss_on_charges_has_the_gradient_by_weights_of_finite_differences() -> None:
    base = charged(3)
    node = charges_node(total_charge=InputNode("charge"))
    (network_node,) = {parent.parents[0] for parent in node.parents if parent.name.startswith("network_")}
    assert isinstance(network_node, NetworkNode)
    weights = [*network_node.network.parameters(), *node.readout.parameters()]
    aim = torch.linspace(-0.5, 0.5, int(base.offsets[-1]), dtype=torch.float64)
    analytic, numeric = slope_by_weights(
        lambda: ((values([node], base, training=True)[0] - aim) ** 2).sum(),
        weights,
    )
    assert abs(analytic) > 1e-3
    assert abs(analytic - numeric) <= 1e-8 * abs(analytic)


def test_readouts_follow_the_precision_of_the_network_and_sum_in_float64() -> None:
    """Whatever the default dtype is while the graph is built."""
    assert torch.get_default_dtype() is torch.float32
    base: Database | Batch = database(4)
    for dtype in (torch.float32, torch.float64):
        node = ChargesNode(NetworkNode(network().to(dtype), Inputs.new()))
        assert {weight.dtype for weight in node.readout.parameters()} == {dtype}
        (found,) = values([node], base)
        assert found.dtype == torch.float64
        assert np.abs(sums(found, base)).max() <= 1e-12


def test_mistakes_are_told_where_they_are_made() -> None:
    nodes = features()
    with pytest.raises(ValueError, match=r"'charges' has a total charge but conserve=False"):
        ChargesNode(nodes, conserve=False, total_charge=InputNode("charge"))
    with pytest.raises(ValueError, match=r"total charge of 'charges' must be one number for each system; .* each atom"):
        ChargesNode(nodes, total_charge=InputNode("charges"))
    with pytest.raises(ValueError, match=r"total charge of 'q' must be a node, got 1\.0\. Give InputNode"):
        ChargesNode(nodes, total_charge=1.0, name="q")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'q' is read from the features of a network, got .* Give a NetworkNode"):
        AtomQuantityNode(nodes.levels[0], "q")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'energy' is read from the features of a network, got .* Give a NetworkNode"):
        EnergyNode(nodes.levels[0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size of an atom's quantity is 0, expected 1 or more"):
        AtomQuantityNode(nodes, "q", size=0)
