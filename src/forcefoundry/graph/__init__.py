"""The grammar: nodes, how to search and change them, and how to run them."""

from forcefoundry.graph.drawing import as_mermaid, as_text
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
    check_axes,
)
from forcefoundry.graph.search import (
    connected_nodes,
    find_relatives,
    find_unique_relative,
    input_named,
    input_nodes,
    names_of,
    ordered_ancestors,
    search_by_name,
)
from forcefoundry.graph.surgery import copy_subgraph, replace_node

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
    "as_mermaid",
    "as_text",
    "check_axes",
    "connected_nodes",
    "copy_subgraph",
    "find_relatives",
    "find_unique_relative",
    "input_named",
    "input_nodes",
    "names_of",
    "ordered_ancestors",
    "replace_node",
    "search_by_name",
]
