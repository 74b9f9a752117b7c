"""The resolved graph as plain data, so that one process can check that another assembled the same."""

from __future__ import annotations

from typing import Any

from forcefoundry.graph import GraphModule, names_of


def describe(model: GraphModule, db_info: dict[str, list[str]]) -> dict[str, Any]:
    """Nodes with their kinds, parents, axes, shapes and units, the columns read, and every weight's shape and dtype."""
    names = names_of(model.nodes)
    return {
        "nodes": [
            {
                "name": names[node],
                "kind": type(node).__name__,
                "module": type(node.module).__name__ if node.module is not None else None,
                "parents": [names[parent] for parent in node.parents if parent in names],
                "axis": node.axis.value if node.axis is not None else None,
                "unit": node.unit,
                "shape": list(node.shape) if node.shape is not None else None,
                "db_name": node.db_name,
            }
            for node in model.nodes
        ],
        "inputs": db_info["inputs"],
        "outputs": [names[node] for node in model.outputs],
        "targets": db_info["targets"],
        "weights": {
            name: {"shape": list(weight.shape), "dtype": str(weight.dtype).removeprefix("torch.")}
            for name, weight in model.state_dict().items()
        },
    }


def check_same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuse a graph that differs from the one that was written; the first difference is named."""
    for part in ("inputs", "outputs", "targets", "weights", "nodes"):
        if expected[part] == found[part]:
            continue
        if isinstance(expected[part], dict):
            names = sorted(set(expected[part]) ^ set(found[part])) or [
                name for name in expected[part] if expected[part][name] != found[part][name]
            ]
        else:
            names = [str(entry) for entry in expected[part] if entry not in found[part]]
            names += [str(entry) for entry in found[part] if entry not in expected[part]]
        raise ValueError(
            f"The graph does not match the one that assemble wrote: its {part} differ, first in "
            f"{(names or ['their order'])[0]}. "
            "Parameters changed in between; run the assemble step again."
        )
