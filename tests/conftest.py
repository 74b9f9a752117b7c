"""What holds for every test: one thread, no deadline for drawn examples, and the shapes of nodes checked."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import torch

from forcefoundry.columns import COLUMNS, Axis
from forcefoundry.graph import GraphModule, Node

hypothesis.settings.register_profile("forcefoundry", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("forcefoundry")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _shapes_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node with an axis must have one row a system, an atom or a pair, whatever graph a test runs."""
    run = GraphModule._run

    def checked(self: GraphModule, slots: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        results = run(self, slots)
        lengths: dict[object, tuple[Node, int]] = {}
        for node, value in zip(self.nodes, slots, strict=True):
            if node.axis is None or not isinstance(value, torch.Tensor):
                continue
            # Two finders give different numbers of pairs; what one finder gives belongs together.
            which = (node.axis, (node.parents or getattr(node, "cutoff", None)) if node.axis is Axis.PAIR else None)
            first, rows = lengths.setdefault(which, (node, len(value)))
            assert len(value) == rows, f"{node} has {len(value)} rows, {first} has {rows}; both are per {node.axis}"
            _check_row(node, value)
        return results

    monkeypatch.setattr(GraphModule, "_run", checked)


def _check_row(node: Node, value: Any) -> None:
    known = COLUMNS.get(node.db_name or "")
    if known is not None:
        shape = tuple(value.shape[1:])
        assert shape == known.shape or (known.shape == () and shape == (1,)), f"{node} has rows of shape {shape}"
