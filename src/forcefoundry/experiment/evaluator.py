"""Validation losses over a whole split, gathered batch by batch on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch

from forcefoundry.graph import GraphModule, Node, ordered_ancestors
from forcefoundry.losses.counted import Counted
from forcefoundry.losses.reduction import Reduction, Sums
from forcefoundry.plots.maker import PlotMaker


class ValidationLosses(torch.nn.Module):
    """Several losses of one graph, exact over any number of batches.

    The loss graph falls into three layers: what is computed for each batch, the reductions, which are merged over
    batches, and what is computed from their values at the end. All sums are float64. Reductions of the same nodes
    share what they make of a batch.

    The modules are copies that live on the CPU, so later changes to the loss nodes do not reach them.
    """

    def __init__(self, inputs: Sequence[Node], losses: Sequence[Node]):
        super().__init__()
        order = ordered_ancestors(losses)
        nodes = {node: node.module for node in order if isinstance(node.module, Reduction)}
        below = list(dict.fromkeys(parent for node in nodes for parent in node.parents))
        self.rising = tuple(isinstance(n.module, Reduction) and n.module.higher_is_better for n in losses)
        self._check_steady(order)
        self._check_layers(losses, list(nodes), set(inputs))
        self._check_once(below)
        place = {node: at for at, node in enumerate(below)}
        # What a reduction sees of a batch: by way of which class, and of which values.
        self._seen = [(module.sees, tuple(place[parent] for parent in node.parents)) for node, module in nodes.items()]
        self.per_batch = copy.deepcopy(_Runner(GraphModule(inputs, below))).cpu()
        self._reduced = [copy.deepcopy(module).cpu() for module in nodes.values()]
        self.reductions = torch.nn.ModuleList(self._reduced)
        self.at_end = copy.deepcopy(_Runner(GraphModule(list(nodes), losses))).cpu()

    @staticmethod
    def _check_steady(order: Sequence[Node]) -> None:
        for node in order:
            if hasattr(node.module, "set_epoch"):
                raise ValueError(
                    f"A validation loss uses {node.name!r}, which changes with the epoch, so that epochs could not be "
                    "compared by it. Leave it to the training loss."
                )

    @staticmethod
    def _check_once(below: Sequence[Node]) -> None:
        nested = [node for node in ordered_ancestors(below) if isinstance(node.module, Reduction)]
        if nested:
            raise ValueError(
                f"A validation loss reduces {nested[0].name!r}, which is one number already, so it cannot be gathered "
                "over batches. Reduce once, and combine the results."
            )

    @staticmethod
    def _check_layers(losses: Sequence[Node], reductions: Sequence[Node], inputs: set[Node]) -> None:
        final = set(reductions)
        stack, seen = list(losses), set[Node]()
        while stack:
            node = stack.pop()
            if node in final or node in seen:
                continue
            seen.add(node)
            if node in inputs:
                raise ValueError(
                    f"A validation loss uses {node.name!r} without reducing it to one number. "
                    "Put a reduction such as MSE around it."
                )
            stack.extend(node.parents)

    def start(self) -> list[Sums | None]:
        """The states before the first batch."""
        return [None] * len(self.reductions)

    @torch.inference_mode()
    def gather(self, states: list[Sums | None], values: Sequence[torch.Tensor]) -> list[Sums | None]:
        """Merge one batch, given as model outputs and then targets, into the states."""
        on_cpu = [value.cpu().double() for value in values]
        parts = self.per_batch(on_cpu)
        seen: dict[object, Counted] = {}
        merged: list[Sums | None] = []
        for state, module, key in zip(states, self._reduced, self._seen, strict=True):
            if key not in seen:
                seen[key] = module.see(*(parts[at] for at in key[1]))
            new = tuple(part.item() for part in module.state(seen[key]))
            merged.append(new if state is None else module.merge(state, new))
        return merged

    @torch.no_grad()
    def finish(self, states: Sequence[Sums | None]) -> list[float]:
        """The losses over everything gathered; NaN for one of which nothing was labelled."""
        if any(state is None for state in states):
            raise ValueError("No batch was gathered: the split is empty.")
        values = [
            module.value(tuple(torch.tensor(state, dtype=torch.float64)))
            for module, state in zip(self._reduced, states, strict=True)
        ]
        return [float(value.cpu()) for value in self.at_end(values)]

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The losses of one batch, given as model outputs and then targets."""
        losses = self.finish(self.gather(self.start(), values))
        return tuple(torch.tensor(loss, dtype=torch.float64) for loss in losses)


class _Runner(torch.nn.Module):
    """A graph's program and modules without its nodes, so that copying it copies no graph."""

    def __init__(self, graph: GraphModule):
        super().__init__()
        self.program = torch.nn.ModuleList(module for module, _, _ in graph.program if module is not None)
        self._steps = [(module is not None, index, parents) for module, index, parents in graph.program]
        self._output_slots = list(graph.output_slots)

    def forward(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run the program on the inputs."""
        slots = list(values)
        modules = iter(self.program)
        for computed, index, parents in self._steps:
            slots.append(
                next(modules)(*[slots[parent] for parent in parents]) if computed else slots[parents[0]][index]
            )
        return [slots[slot] for slot in self._output_slots]


class Evaluator:
    """Judges a model on a split: validation losses, and what the plots need, batch by batch.

    Args:
        model: the assembled model.
        losses: the validation losses, copies on the CPU.
        names: their names, in the same order.
        outputs, targets: the nodes whose predictions and truths the losses take, in this order.
        plot_maker: plots that can be fed while evaluating.
    """

    def __init__(
        self,
        model: GraphModule,
        losses: ValidationLosses,
        names: Sequence[str],
        outputs: Sequence[Node],
        targets: Sequence[Node],
        plot_maker: PlotMaker | None = None,
    ):
        self.model = model
        self.losses = losses
        self.names = tuple(names)
        self.higher_is_better = frozenset(name for name, rises in zip(names, losses.rising, strict=True) if rises)
        self.plot_maker = plot_maker
        self._columns = [str(node.db_name) for node in model.inputs], [str(node.db_name) for node in targets]
        given = [*(node.pred for node in outputs), *(node.true for node in targets)]
        self._plotted = _Runner(GraphModule(given, plot_maker.required_nodes)) if plot_maker else None

    def evaluate(self, batches: Iterable[Mapping[str, torch.Tensor]], plot_as: str | None = None) -> dict[str, float]:
        """The validation losses over all batches together, by name; needs no memory beyond one batch.

        Args:
            batches: packed batches that hold the model's inputs and the losses' targets.
            plot_as: feed the plots as well, under this name.
        """
        inputs, targets = self._columns
        was_training = self.model.training
        self.model.eval()
        states = self.losses.start()
        if plot_as is not None and self.plot_maker is not None:
            self.plot_maker.forget(plot_as)  # pictures show the model as it is now
        try:
            for batch in batches:
                values = [*self.model(*(batch[name] for name in inputs)), *(batch[name] for name in targets)]
                if plot_as is not None and self.plot_maker is not None and self._plotted is not None:
                    values = [value.detach().cpu() for value in values]  # once, for losses and plots
                    self.plot_maker.gather(plot_as, self._plotted(values))
                states = self.losses.gather(states, values)
                del batch, values  # so that the next ones can have their memory
        finally:
            self.model.train(was_training)
        return dict(zip(self.names, self.losses.finish(states), strict=True))
