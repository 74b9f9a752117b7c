"""A graph made to run: one torch module that takes the inputs and gives the outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forcefoundry.graph.node import Node, OutputNode
from forcefoundry.graph.search import names_of, ordered_ancestors


class GraphModule(torch.nn.Module):
    """Computes output nodes from input nodes.

    Modules, and with them weights, are registered under the names of their nodes, so a state_dict written in one
    process fits the same graph assembled in another. The modules are the nodes' own: two graph modules over the same
    nodes share weights.

    Args:
        inputs: the nodes whose values `forward` takes, in this order.
        outputs: the nodes whose values `forward` returns as a tuple, in this order.

    Raises:
        ValueError: when an output needs a node that is neither an input nor computable, or names collide.
    """

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]):
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        order = _needed(self.outputs, set(self.inputs))
        names = names_of([*self.inputs, *order])
        self.moduledict = torch.nn.ModuleDict({names[node]: node.module for node in order if node.module is not None})
        self._nodes = (*self.inputs, *order)
        slots = {node: slot for slot, node in enumerate(self.inputs)}
        self.program: list[tuple[torch.nn.Module | None, int, tuple[int, ...]]] = []
        for node in order:
            index = node.index if isinstance(node, OutputNode) else -1
            self.program.append((node.module, index, tuple(slots[parent] for parent in node.parents)))
            slots[node] = len(slots)
        self.output_slots = [slots[node] for node in self.outputs]
        # Differentiating modules name the parents that they differentiate by; these carry gradients from the start.
        marked = {node.parents[index] for node in order for index in getattr(node.module, "differentiates_by", ())}
        self._derivatives = [node.module for node in order if getattr(node.module, "differentiates_by", ())]
        self._leaf_slots = [slots[node] for node in self.inputs if node in marked]
        if len(self._leaf_slots) != len(marked):
            wrong = ", ".join(node.name for node in marked if node not in self.inputs)
            raise ValueError(f"Derivatives can be taken with respect to input nodes only, not {wrong}.")

    @property
    def nodes(self) -> list[Node]:
        """Every node that takes part, inputs first, in order of evaluation."""
        return list(self._nodes)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the outputs; `values` are the inputs in the order of `self.inputs`.

        In evaluation mode the results carry no gradient graph, also where a derivative was taken on the way.
        """
        if len(values) != len(self.inputs):
            raise ValueError(f"The graph takes {len(self.inputs)} inputs ({self._input_names()}), got {len(values)}.")
        slots = list(values)
        if not self._leaf_slots:
            with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
                return self._run(slots)
        for module in self._derivatives:
            # Graphs over the same nodes share modules: the one that runs says whether it trains.
            module.training = self.training  # type: ignore[union-attr]
        with torch.inference_mode(False), torch.enable_grad():
            slots = [value.clone() if value.is_inference() else value for value in slots]
            for slot in self._leaf_slots:
                if not slots[slot].requires_grad:
                    slots[slot] = slots[slot].detach().requires_grad_(True)
            results = self._run(slots)
        return results if self.training else tuple(result.detach() for result in results)

    def _run(self, slots: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        for module, index, parents in self.program:
            if module is None:
                slots.append(slots[parents[0]][index])
            else:
                slots.append(module(*[slots[parent] for parent in parents]))
        return tuple(slots[slot] for slot in self.output_slots)

    def _input_names(self) -> str:
        return ", ".join(node.name for node in self.inputs)


def _needed(outputs: Sequence[Node], given: set[Node]) -> list[Node]:
    """The nodes to compute, in order; the walk stops at what is given."""
    order = ordered_ancestors(outputs, given)
    for node in order:
        if node.module is None and not isinstance(node, OutputNode):
            raise ValueError(f"Node {node.name!r} is not among the inputs and nothing computes it.")
    return order
