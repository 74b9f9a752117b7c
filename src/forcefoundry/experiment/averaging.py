"""The exponential average of weights over training steps, which often predicts better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


class AveragedWeights:
    """Keeps an average of weights beside them; with `decay` None it is the weights themselves.

    The first steps are averaged evenly (the decay of step n is at most n / (n + 1)), so the start does not linger.
    """

    def __init__(self, weights: Sequence[torch.Tensor], decay: float | None):
        self._weights = list(weights)
        self._decay = decay
        self._steps = 0
        self._average = [weight.detach().clone() for weight in weights] if decay is not None else []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        if self._decay is None:
            return
        keep = min(self._decay, self._steps / (self._steps + 1))
        torch._foreach_lerp_(self._average, [weight.detach() for weight in self._weights], 1.0 - keep)
        self._steps += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the weights be the average for a while."""
        if self._decay is None:
            yield
            return
        saved = [weight.detach().clone() for weight in self._weights]
        self._put(self._average)
        try:
            yield
        finally:
            self._put(saved)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"steps": self._steps, "average": self._average}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state over."""
        self._steps = state["steps"]
        for mine, saved in zip(self._average, state["average"], strict=True):
            mine.copy_(saved)

    @torch.no_grad()
    def _put(self, values: Sequence[torch.Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)
