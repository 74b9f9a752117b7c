"""Walking, changing, running and freeing graphs."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from forcefoundry.columns import Axis
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.graph import (
    GraphModule,
    InputNode,
    MultiNode,
    Node,
    Output,
    names_of,
    ordered_ancestors,
    replace_node,
)
from forcefoundry.graph import search as search_module
from forcefoundry.losses import MSE
from tests.builders import batch, database, objective


class Double(torch.nn.Module):
    """Twice what is given; counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.weight * value


class Halves(torch.nn.Module):
    """The first and the second half."""

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return value[: len(value) // 2], value[len(value) // 2 :]


def given_node(name: str = "x") -> InputNode:
    return InputNode(name, axis=Axis.SYSTEM, unit="1")


def test_sixty_doublings_assemble_at_once_and_visit_each_node_once(monkeypatch: pytest.MonkeyPatch) -> None:
    visits = 0

    class Counting(Node):
        @property
        def parents(self) -> tuple[Node, ...]:
            nonlocal visits
            visits += 1
            return Node.parents.fget(self)  # type: ignore[attr-defined,no-any-return]

        @parents.setter
        def parents(self, parents: tuple[Node, ...]) -> None:
            Node.parents.fset(self, parents)  # type: ignore[attr-defined]

    energy = objective().outputs["energy"]
    total: Node = MSE.of_node(energy)
    for number in range(60):
        total = Counting(f"sum{number}", (total, total), Add())
    n_nodes = len(ordered_ancestors([total]))
    visits = 0
    (model, loss, evaluator), _ = assemble_for_training(total, {"total": total})
    assert n_nodes == 60 + 3
    assert visits <= 20 * n_nodes
    values = [torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    assert float(loss(*values)[0]) == 2.0**60
    assert float(evaluator.losses(*values)[0]) == 2.0**60
    assert len(model.outputs) == 1


class Add(torch.nn.Module):
    """a + b."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def test_a_shared_part_runs_once() -> None:
    x, module = given_node(), Double()
    y = Node("y", (x,), module)
    total = y + y
    total = total * total + y
    (found,) = GraphModule([x], [total])(torch.tensor([3.0]))
    assert float(found.detach()) == 150.0
    assert module.runs == 1


def test_parents_come_before_children_in_order_of_first_sight() -> None:
    a, b = given_node("a"), given_node("b")
    c = Node("c", (b, a), Add())
    d = Node("d", (a, c), Add())
    e = Node("e", (d, c, b), Add())
    assert [node.name for node in ordered_ancestors([e])] == ["a", "b", "c", "d", "e"]
    assert [node.name for node in ordered_ancestors([c, e])] == ["b", "a", "c", "d", "e"]
    assert [node.name for node in ordered_ancestors([e], given={c})] == ["a", "d", "b", "e"]


def test_a_very_long_graph_is_walked_run_and_freed() -> None:
    x = given_node()
    node: Node = x
    for _ in range(5000):
        node = node + 1.0
    (found,) = GraphModule([x], [node])(torch.zeros(1))
    assert float(found) == 5000.0
    end = weakref.ref(node)
    del node, found
    gc.collect()
    assert end() is None


def test_a_cycle_made_by_surgery_is_told() -> None:
    x = given_node()
    y = Node("y", (x,), Double())
    z = Node("z", (y,), Double())
    y.parents = (z,)
    with pytest.raises(ValueError, match=r"cycle through node '[yz]'"):
        ordered_ancestors([z])
    with pytest.raises(ValueError, match="cycle"):
        GraphModule([x], [z])


def test_replacements_that_cannot_be_are_told_and_change_nothing() -> None:
    x = given_node()
    y = Node("y", (x,), Double(), shape=())
    z = Node("z", (y,), Double())
    for new, told in (
        (Node("w", (y,), Double()), "'y' by 'w', which is computed from it, would make a cycle"),
        (Node("a", (), axis=Axis.ATOM), "one for each atom"),
        (Node("v", (x,), Double(), shape=(3,)), r"shape \(\) and cannot be replaced by 'v' of shape \(3,\)"),
    ):
        y.axis = Axis.SYSTEM
        with pytest.raises(ValueError, match=told):
            replace_node(y, new)
    assert z.parents == (y,)


def test_the_graph_that_runs_says_whether_derivatives_are_differentiable() -> None:
    what = objective()
    (model, _, _), info = assemble_for_training(what.train_loss, what.validation_losses)
    columns = batch(database(3), names=info["inputs"])
    GraphModule(model.inputs, [what.outputs["forces"]]).eval()
    assert all(value.requires_grad for value in model.train()(*columns.values()))
    assert not any(value.requires_grad for value in model.eval()(*columns.values()))
    expected = model(*columns.values())
    with torch.inference_mode():
        found = model(*columns.values())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["type", "values", "forward"])
def test_names_that_torch_has_taken_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of torch's own"):
        Node(name)


def test_replace_node_reaches_every_child_and_every_place() -> None:
    x, new = given_node("x"), given_node("new")
    y = Node("y", (x, x), Add())
    z = Node("z", (x, y), Add())
    replace_node(x, new)
    assert y.parents == (new, new)
    assert z.parents == (new, y)
    assert list(x.children) == []
    assert list(new.children) == [y, z]
    (found,) = GraphModule([new], [z])(torch.tensor([5.0]))
    assert float(found) == 15.0
    replace_node(new, new)
    assert list(new.children) == [y, z]


def test_children_are_living_nodes_in_the_order_they_were_made() -> None:
    x = given_node()
    kept = [Node(name, (x,), Double()) for name in ("a", "b", "c")]
    assert [node.name for node in x.children] == ["a", "b", "c"]
    del kept[1]
    gc.collect()
    assert [node.name for node in x.children] == ["a", "c"]


def test_two_nodes_of_one_name_are_told() -> None:
    x = given_node()
    twin = Node("y", (x,), Double()) + Node("y", (x,), Double())
    with pytest.raises(ValueError, match=r"Two nodes are called 'y'.*Give one of them another name"):
        GraphModule([x], [twin])
    with pytest.raises(ValueError, match="Two nodes are called 'x'"):
        names_of([x, given_node()])


def test_a_named_node_that_is_called_like_a_numbered_one_is_told() -> None:
    x = given_node()
    total = x + 1.0  # the second node: its name is add_1
    last = Node("add_1", (total,), Double())
    with pytest.raises(ValueError, match="Two nodes are called 'add_1'"):
        GraphModule([x], [last])


@pytest.mark.parametrize("name", ["", "a.b", "."])
def test_a_name_that_cannot_name_weights_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="non-empty, hold no dot"):
        Node(name)


def test_weights_are_named_after_nodes_not_after_their_order() -> None:
    x = given_node()
    a, b = Node("a", (x,), Double()), Node("b", (x,), Double())
    one, other = GraphModule([x], [a + b]), GraphModule([x], [b - a])
    assert set(one.state_dict()) == set(other.state_dict()) == {"moduledict.a.weight", "moduledict.b.weight"}
    assert one.moduledict["a"] is other.moduledict["a"]


def test_a_missing_input_is_told() -> None:
    x, y = given_node("x"), given_node("y")
    with pytest.raises(ValueError, match="'y' is not among the inputs and nothing computes it"):
        GraphModule([x], [x + y])


def test_the_wrong_number_of_values_is_told() -> None:
    x, y = given_node("x"), given_node("y")
    module = GraphModule([x, y], [x + y])
    with pytest.raises(ValueError, match=r"takes 2 inputs \(x, y\), got 1"):
        module(torch.ones(1))


def test_an_input_may_lie_in_the_middle_of_a_graph() -> None:
    x = given_node()
    y = Node("y", (x,), Double())
    z = Node("z", (y,), Double())
    assert float(GraphModule([y], [z])(torch.tensor([3.0]))[0].detach()) == 6.0


def test_an_input_may_be_an_output() -> None:
    x = given_node()
    found = GraphModule([x], [x, x + 1.0, x])(torch.tensor([3.0]))
    assert [float(value) for value in found] == [3.0, 4.0, 3.0]


def test_parents_must_be_nodes() -> None:
    with pytest.raises(ValueError, match=r"'y' got 3\.0 as a parent, expected a node"):
        Node("y", (3.0,))  # type: ignore[arg-type]


def test_outputs_of_a_multinode() -> None:
    x = given_node()
    halves = MultiNode("halves", (x,), Halves(), {"left": Output(Axis.ATOM), "right": Output(name="other")})
    assert halves.output("left") is halves.output("left")
    assert [halves.output(key).name for key in ("left", "right")] == ["halves_left", "other"]
    with pytest.raises(ValueError, match="no output 'centre'; it has left, right"):
        halves.output("centre")
    (right, left) = GraphModule([x], [halves.output("right"), halves.output("left")])(torch.arange(4))
    assert right.tolist() == [2, 3]
    assert left.tolist() == [0, 1]


def test_pred_and_true_are_one_node_each_for_as_long_as_they_are_used() -> None:
    y = Node("y", (given_node(),), Double(), db_name="energy", unit="eV")
    pred, true = y.pred, y.true
    assert y.pred is pred
    assert y.true is true
    assert (pred.name, true.name, pred.origin, true.db_name) == ("y_pred", "y_true", y, "energy")


def test_nodes_are_freed_with_their_graph() -> None:
    what = objective()
    modules, _ = assemble_for_training(what.train_loss, what.validation_losses)
    nodes = [*modules.model.nodes, *modules.loss.nodes, *what.validation_losses.values()]
    kept = [weakref.ref(node) for node in nodes]
    weights = [weakref.ref(weight) for weight in modules.model.parameters()]
    assert len(kept) > 30
    del what, modules, nodes
    gc.collect()
    assert [ref() for ref in [*kept, *weights] if ref() is not None] == []


def test_nodes_made_on_the_way_are_freed_while_the_graph_lives() -> None:
    energy = objective().outputs["energy"]
    made = [weakref.ref(node) for node in (energy.pred, energy.true, energy + 1.0, MSE.of_node(energy))]
    gc.collect()
    assert [ref() for ref in made] == [None] * 4


def test_derivatives_by_what_is_computed_are_refused() -> None:
    from forcefoundry.targets.forces import NegativeGradient

    x = given_node()
    y = Node("y", (x,), Double())
    z = Node("z", (y,), Double())
    slope = Node("slope", (z, y), NegativeGradient())
    with pytest.raises(ValueError, match="with respect to input nodes only, not y"):
        GraphModule([x], [slope])


def test_search_walks_each_edge_once() -> None:
    x = given_node()
    node: Node = x
    for number in range(200):
        node = Node(f"n{number}", (node, node, x), Add())
    assert len(search_module.ordered_ancestors([node, node])) == 201
