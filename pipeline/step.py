"""What a step is: one definition that DVC and Prefect both read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One piece of the line: files in, files out.

    `run` takes the resolved parameters (the whole of params.yaml as plain dicts), works in the current directory,
    which is the workspace's root, and returns nothing. `deps` and `outs` are paths relative to that root;
    `${section.key}` in a dep is filled from params.yaml. `params` are the dotted sections of params.yaml that a change
    of must re-run the step. `metrics` and `plots` are outs that `dvc metrics` and `dvc plots` show; they need not be
    listed in `outs` again. `retries` is above 0 only where trying again can help.
    """

    name: str
    run: Callable[[Mapping[str, Any]], None]
    deps: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    gpu: bool = False
    retries: int = 0

    @property
    def all_outs(self) -> tuple[str, ...]:
        """Every file or folder that the step writes."""
        return (*self.outs, *self.metrics, *self.plots)
