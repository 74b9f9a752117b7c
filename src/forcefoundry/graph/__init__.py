"""The grammar: nodes, how to search and change them, and how to run them."""

from forcefoundry.graph.module import GraphModule
from forcefoundry.graph.node import (
    AlgebraNode,
    InputNode,
    LossInput,
    MultiNode,
    Node,
    Output,
    OutputNode,
    PredNode,
    TrueNode,
)
from forcefoundry.graph.search import input_nodes, names_of, ordered_ancestors
from forcefoundry.graph.surgery import replace_node

__all__ = [
    "AlgebraNode",
    "GraphModule",
    "InputNode",
    "LossInput",
    "MultiNode",
    "Node",
    "Output",
    "OutputNode",
    "PredNode",
    "TrueNode",
    "input_nodes",
    "names_of",
    "ordered_ancestors",
    "replace_node",
]
