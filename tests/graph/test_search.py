"""Finding relatives, wiring by what is already there, and copying graphs."""

from __future__ import annotations

import pytest
import torch

from forcefoundry.columns import Axis
from forcefoundry.graph import (
    GraphModule,
    InputNode,
    MultiNode,
    Node,
    Output,
    connected_nodes,
    copy_subgraph,
    find_relatives,
    find_unique_relative,
    input_named,
    replace_node,
    search_by_name,
)
from forcefoundry.inputs import Inputs, StrainedNode
from forcefoundry.losses import MSE
from forcefoundry.networks.base import NetworkNode
from forcefoundry.pairs import PairFinderNode, PairVectorsNode, ReferenceFinder
from forcefoundry.targets.energy import EnergyNode
from forcefoundry.targets.forces import ForcesNode
from tests.builders import assembled, database, network, objective, outputs


def test_what_hangs_together_is_found_once_nearest_first() -> None:
    a, b = InputNode("a", axis=Axis.SYSTEM, unit="1"), InputNode("b", axis=Axis.SYSTEM, unit="1")
    c = a + b
    d = c * a
    e = Node("e", (b,), torch.nn.Identity())
    lonely = InputNode("f", axis=Axis.SYSTEM, unit="1")
    found = connected_nodes([d])
    assert found == [d, c, a, b, e]
    assert lonely not in found
    assert connected_nodes([e])[:2] == [e, b]
    loss = MSE.of_node(e)
    assert e in connected_nodes([loss])  # by way of what the loss compares


def test_relatives_of_a_kind() -> None:
    what = objective()
    energy = what.outputs["energy"]
    finder = find_unique_relative([energy], PairFinderNode)
    assert finder.cutoff == 3.2
    assert [node.name for node in find_relatives([energy], lambda node: node.db_name == "forces")] == ["forces"]
    with pytest.raises(ValueError, match=r"'energy' has 6 InputNode among .* \(.*'cell'.*expected one for x"):
        find_unique_relative([energy], InputNode, "x")
    with pytest.raises(ValueError, match=r"'energy' has no StrainedNode among its relatives, expected one\. Give"):
        find_unique_relative([energy], StrainedNode)


def test_a_node_by_its_name() -> None:
    what = objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    assert search_by_name([energy], "forces") is forces
    with pytest.raises(ValueError, match=r"No node is called 'force'. Did you mean 'forces'"):
        search_by_name([energy], "force")
    assert input_named([forces], "positions").name == "positions"
    with pytest.raises(ValueError, match="'energy' does not depend on the column 'charges'"):
        input_named([energy], "charges")


def test_a_model_is_wired_from_the_nodes_that_one_has() -> None:
    """Species and positions are given; cell, pbc and indices, pairs and vectors are found or made, each once."""
    species, positions = InputNode("Z", "species"), InputNode("R", "positions")
    features = NetworkNode(network(), [species, positions])
    energy = EnergyNode(features)
    forces = ForcesNode(energy)
    assert positions in forces.parents
    inputs = Inputs.around(energy)
    assert (inputs.species, inputs.positions) == (species, positions)
    assert Inputs.around(features) == inputs == Inputs.around(species)
    second = NetworkNode(network(seed=2), [positions], name="second")
    assert find_relatives([second], PairFinderNode) == find_relatives([features], PairFinderNode)
    assert len(find_relatives([second], PairVectorsNode)) == 1
    wider = NetworkNode(network(cutoff=4.1), [positions], name="wider")
    assert sorted(node.cutoff for node in find_relatives([wider], PairFinderNode)) == [3.2, 4.1]


def test_a_second_part_uses_cached_pairs_that_are_there() -> None:
    from forcefoundry.experiment.assembly import assemble_for_training, precompute_pairs

    base = database(4)
    inputs = Inputs.new()
    energy = EnergyNode(NetworkNode(network(), inputs))
    loss = MSE.of_node(energy)
    precompute_pairs(assemble_for_training(loss, [])[0].model, base)
    again = NetworkNode(network(seed=1), inputs, ReferenceFinder(), name="again")
    assert find_relatives([again], PairFinderNode) == []


def test_two_inputs_of_one_column_are_told() -> None:
    energy, other = objective().outputs["energy"], objective().outputs["energy"]
    with pytest.raises(ValueError, match=r"two inputs of the column '(\w+)', '\1' and '\1'"):
        Inputs.around(energy, other)
    total = Node("total", (energy + other,), torch.nn.Identity(), "energy", Axis.SYSTEM)
    from forcefoundry.experiment.assembly import assemble_for_training

    with pytest.raises(ValueError, match=r"Two nodes are called '.*'.*They belong to two graphs: build both from one"):
        assemble_for_training(MSE.of_node(total), [])


def test_a_copy_shares_weights_and_gives_the_same() -> None:
    base, what = database(5), objective()
    energy, forces = what.outputs["energy"], what.outputs["forces"]
    modules = assembled(what, base)
    truth = outputs(modules, base)
    copies = copy_subgraph([energy, forces])
    assert copies[energy].name == "energy_copy"
    assert not set(copies) & set(copies.values())
    assert all(copies[node].module is node.module for node in copies)
    given = [node for node in copies if isinstance(node, InputNode)]
    module = GraphModule([copies[node] for node in given], [copies[energy], copies[forces]]).eval()
    from tests.builders import batch

    columns = batch(base, names=[str(node.db_name) for node in given])
    found = module(*columns.values())
    assert torch.equal(found[0], truth["energy"])
    assert torch.equal(found[1], truth["forces"])


def test_a_copy_may_hang_on_the_originals_and_is_changed_alone() -> None:
    x = InputNode("x", axis=Axis.SYSTEM, unit="1")
    two = MultiNode("two", (x,), Both(), {"same": Output(Axis.SYSTEM), "minus": Output(Axis.SYSTEM, name="minus")})
    total = two.output("same") + 3.0 * two.output("minus")
    copies = copy_subgraph([total], keep=[x], suffix="_b")
    replace_node(copies[two.output("minus")], x)
    both = GraphModule([x], [total, copies[total]])
    first, second = both(torch.tensor([2.0]))
    assert (first.item(), second.item()) == (-4.0, 8.0)
    assert {"two", "two_b"} <= {node.name for node in both.nodes}


class Both(torch.nn.Module):
    """What is given, and its negative."""

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return value, -value


def test_a_multinode_stands_for_its_first_output() -> None:
    x = InputNode("x", axis=Axis.SYSTEM, unit="1")
    two = MultiNode("two", (x,), Both(), {"same": Output(Axis.SYSTEM, db_name="energy"), "minus": Output()})
    assert two.main_output is two.output("same")
    assert two.pred.origin is two.true.origin is two.main_output
    assert (two + 1.0).parents == (two.main_output,)
    assert Node("y", (two,), torch.nn.Identity()).parents == (two.main_output,)
    assert MSE.of_node(two).parents == (two.main_output.pred, two.main_output.true)


def test_searching_visits_each_node_once_whatever_the_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    x = InputNode("x", axis=Axis.SYSTEM, unit="1")
    total: Node = x + x
    for _ in range(60):
        total = total + total
    visits = 0
    real = Node.children.fget
    assert real is not None

    def counted(self: Node) -> object:
        nonlocal visits
        visits += 1
        return real(self)

    monkeypatch.setattr(Node, "children", property(counted))
    assert len(connected_nodes([total])) == 62
    assert visits == 62
    assert len(copy_subgraph([total])) == 62
