"""dvc.yaml as text, made from the steps' definitions alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import yaml

from pipeline.step import Step

_HEADER = """\
# Rendered by `python -m pipeline render` from the steps in pipeline/steps: change those, not this file.
"""


def render(steps: Sequence[Step]) -> str:
    """The text of dvc.yaml for `steps`: one stage each, in their order, equal text for equal steps.

    Metrics and plots are ordinary cached outs (artifacts/ is not in git), so `dvc metrics diff` and `dvc plots diff`
    find the older side through the committed dvc.lock in DVC's cache.
    """
    stages = {step.name: _stage(step) for step in steps}
    text = yaml.safe_dump({"stages": stages}, sort_keys=False, default_flow_style=False, width=sys.maxsize)
    return _HEADER + text


def _stage(step: Step) -> dict[str, Any]:
    stage: dict[str, Any] = {"cmd": f"python -m pipeline {step.name}"}
    for key, paths in (("deps", step.deps), ("params", step.params), ("outs", step.outs), ("metrics", step.metrics)):
        if paths:
            stage[key] = list(paths)
    if step.plots:
        stage["plots"] = [_plot(path) for path in step.plots]
    return stage


def _plot(path: str) -> str | dict[str, Any]:
    # A table is drawn over its epochs; pictures are shown as they are.
    return {path: {"x": "epoch"}} if path.endswith((".csv", ".tsv")) else path
