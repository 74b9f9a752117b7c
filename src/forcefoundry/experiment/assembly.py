"""Assembling graphs for a training run: from losses to a model, a loss module and an evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from forcefoundry.databases.database import Database
from forcefoundry.experiment.evaluator import Evaluator, ValidationLosses
from forcefoundry.graph import (
    GraphModule,
    InputNode,
    LossInput,
    Node,
    PredNode,
    TrueNode,
    input_nodes,
    ordered_ancestors,
)
from forcefoundry.losses.penalty import Penalty
from forcefoundry.pairs.cache import cached_nodes, compute_table, finder_nodes, use_cache
from forcefoundry.pairs.contract import Finder
from forcefoundry.pairs.dense import DensePairTable
from forcefoundry.pairs.finders import make_finder
from forcefoundry.pairs.nodes import FindPairs
from forcefoundry.pairs.table import PairTable
from forcefoundry.plots.maker import PlotMaker


class TrainingModules(NamedTuple):
    """What a training run works with."""

    model: GraphModule
    loss: GraphModule
    evaluator: Evaluator


def assemble_for_training(
    train_loss: Node,
    validation_losses: Mapping[str, Node] | Sequence[Node],
    validation_names: Sequence[str] | None = None,
    plot_maker: PlotMaker | None = None,
) -> tuple[TrainingModules, dict[str, list[str]]]:
    """Work out from the losses what the model needs and gives, and build what training runs on.

    Args:
        train_loss: the loss to train on.
        validation_losses: name to loss, or a list of losses.
        validation_names: names for the losses of a list; their nodes' own names where None.
        plot_maker: plots whose needs count as the losses' needs do.

    Returns:
        `(model, loss, evaluator)` and `{"inputs": [...], "targets": [...]}`, the database columns that the model and
        the loss read, in an order that is the same in every process. Model and loss share their modules with the
        nodes, so assembling the same nodes again shares the weights; the validation losses are copies on the CPU.
    """
    _check_training_loss(train_loss)
    names, losses = _named(validation_losses, validation_names)
    plotted = list(plot_maker.required_nodes) if plot_maker is not None else []
    inputs, outputs, targets = determine_out_in_targ(train_loss, *losses, *plotted)
    model = GraphModule(inputs, outputs)
    _check_penalties([train_loss, *losses], model)
    loss, validation = build_loss_modules(train_loss, losses, outputs, targets)
    evaluator = Evaluator(model, validation, names, outputs, targets, plot_maker)
    return TrainingModules(model, loss, evaluator), generate_database_info(inputs, targets)


def determine_out_in_targ(*nodes_required_for_loss: Node) -> tuple[list[InputNode], list[Node], list[Node]]:
    """The network inputs, the network outputs and the database targets that the given loss nodes need.

    Each list is in order of first sight. Only `.pred` and `.true` connect a loss with a network: a network's or an
    input's node used as it is, is a ValueError that names it.
    """
    order = ordered_ancestors(nodes_required_for_loss)
    plain = [node for node in order if isinstance(node, InputNode)]
    if plain:
        users = [node for node in order if not isinstance(node, LossInput) and set(node.parents) & set(plain)]
        raise ValueError(
            f"The loss uses the input nodes {', '.join(repr(n.name) for n in plain)} as they are"
            f"{' (by way of ' + ', '.join(repr(n.name) for n in users) + ')' if users else ''}. "
            "Use .pred for what the model says and .true for what the database says."
        )
    outputs = list(dict.fromkeys(node.origin for node in order if isinstance(node, PredNode)))
    targets = list(dict.fromkeys(node.origin for node in order if isinstance(node, TrueNode)))
    return input_nodes(outputs), outputs, targets


def build_loss_modules(
    training_loss: Node,
    validation_losses: Sequence[Node],
    network_outputs: Sequence[Node],
    database_inputs: Sequence[Node],
) -> tuple[GraphModule, ValidationLosses]:
    """The training loss, and the validation losses as copies on the CPU.

    Both take the network's outputs and then the database's targets, in the order given.
    """
    inputs = [*(node.pred for node in network_outputs), *(node.true for node in database_inputs)]
    return GraphModule(inputs, [training_loss]), ValidationLosses(inputs, validation_losses)


def generate_database_info(
    inputs: Sequence[Node], targets: Sequence[Node], allow_unfound: bool = False
) -> dict[str, list[str]]:
    """The database columns of the nodes, `{"inputs": [...], "targets": [...]}`.

    A node without a db_name is a ValueError that lists all such nodes; with `allow_unfound` it is left out.
    """
    unfound = [node.name for node in (*inputs, *targets) if node.db_name is None]
    if unfound and not allow_unfound:
        raise ValueError(
            f"The nodes {', '.join(map(repr, unfound))} have no db_name. Give db_name=... when creating them, or pass "
            "allow_unfound=True."
        )
    return {
        "inputs": [node.db_name for node in inputs if node.db_name is not None],
        "targets": [node.db_name for node in targets if node.db_name is not None],
    }


def precompute_pairs(
    model: GraphModule,
    database: Database,
    batch_size: int = 10,
    device: torch.device | str | None = None,
    make_dense: bool = False,
    n_images: int = 1,
) -> None:
    """Compute the pairs of every structure once and let the node graph read them from the database.

    Assemble again afterwards and set `database.inputs = db_info["inputs"]`. Weights are kept. Called a second time
    it finds nothing to do; a further database gets its pairs. When it fails or is interrupted, nothing is changed.

    Args:
        model: an assembled model with a pair finder.
        database: gets the pairs of all its structures, whatever its splits are or will be.
        batch_size: kept for the signature's sake; structures are taken some ten thousand atoms at a time.
        device: where distances are computed, by the fastest finder there; None leaves it to the model's own finder.
        make_dense: keep the pairs as one dense array instead of ragged lists.
        n_images: how many images to each side the dense array reaches; ragged lists need no limit and ignore it.

    Raises:
        ValueError: for a model without pairs, a structure whose pairs are not defined, and a pair outside `n_images`
            of a dense array (with the number that suffices); nothing is ever dropped.
    """
    for name, number in (("batch_size", batch_size), ("n_images", n_images)):
        if number < 1:
            raise ValueError(f"{name} is {number}, expected at least 1.")
    finders: dict[float, Finder | None] = {}
    for node in finder_nodes(model.outputs):
        assert isinstance(node.module, FindPairs)
        finders.setdefault(node.cutoff, node.module.finder)
    # A graph that reads pairs already may meet a database that does not hold them yet.
    cached = [node.cutoff for node in cached_nodes(model.outputs)]
    finders.update({cutoff: None for cutoff in cached if cutoff not in {**database.pairs, **finders}})
    if not finders and not cached:
        raise ValueError("The model has no pair finder: there are no pairs to compute.")
    chosen = make_finder("auto", str(device)) if device is not None else None
    tables: dict[float, PairTable | DensePairTable] = {}
    for cutoff, finder in finders.items():
        table = compute_table(database, cutoff, chosen or finder)
        tables[cutoff] = DensePairTable.of_table(table, n_images) if make_dense else table
    use_cache(model.outputs, database, tables)


def _check_training_loss(loss: Node) -> None:
    if not isinstance(loss, Node):
        raise ValueError(f"The training loss is {loss!r}, expected a node. Join several by +.")
    if loss.axis is not None:
        raise ValueError(
            f"The training loss {loss.name!r} has one value for each {loss.axis.value}, expected one number. Put a "
            "reduction such as MSE or Mean around it."
        )


def _check_penalties(losses: Sequence[Node], model: GraphModule) -> None:
    """Refuse a penalty on a network that the model has not: it would add a constant and pull at nothing."""
    modules = set(model.modules())
    for node in ordered_ancestors(losses):
        if isinstance(node.module, Penalty) and node.module.network not in modules:
            raise ValueError(
                f"The penalty {node.name!r} is on a network that is no part of the model but of another graph. "
                "Give the node of the network that is trained."
            )


def _named(
    losses: Mapping[str, Node] | Sequence[Node], names: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    if not isinstance(losses, (Mapping, list, tuple)) or isinstance(names, str):
        raise ValueError("Validation losses must be a dict of name to loss, or a list of losses; names, a list.")
    if isinstance(losses, Mapping):
        if names is not None:
            raise ValueError("validation_names are for a list of losses; a dict names its losses itself.")
        found, nodes = tuple(losses), tuple(losses.values())
    else:
        nodes = tuple(losses)
        found = tuple(node.name for node in nodes) if names is None else tuple(names)
        if len(found) != len(nodes):
            raise ValueError(f"There are {len(nodes)} validation losses but {len(found)} names.")
    for node in nodes:
        if not isinstance(node, Node):
            raise ValueError(f"A validation loss is {node!r}, expected a node.")
    wrong = [name for name in found if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"Names of validation losses must be strings, got {wrong[0]!r}.")
    if len(set(found)) != len(found):
        raise ValueError(f"Two validation losses have one name among {', '.join(found)}. Give validation_names.")
    return found, nodes
