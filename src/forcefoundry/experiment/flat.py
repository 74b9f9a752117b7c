"""Weights as one vector, so that a training step touches them once and not weight by weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class FlatWeights:
    """Lays weights and their gradients out as views of one vector a dtype.

    A small network has dozens of weights of a few hundred numbers each; clipping, Adam and averaging them one by one
    costs more than the arithmetic. The weights stay ordinary parameters of their modules.

    Attributes:
        vectors: the parameters to optimise, one a dtype, with `.grad` in place.
    """

    def __init__(self, weights: Sequence[torch.nn.Parameter]):
        self.vectors: list[torch.nn.Parameter] = []
        self._views: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        for dtype in dict.fromkeys(weight.dtype for weight in weights):
            same = [weight for weight in weights if weight.dtype == dtype]
            vector = torch.nn.Parameter(torch.cat([weight.detach().reshape(-1) for weight in same]))
            vector.grad = torch.zeros_like(vector)
            start = 0
            for weight in same:
                stop = start + weight.numel()
                weight.data = vector.data[start:stop].view_as(weight)
                self._views.append((weight, vector.grad[start:stop].view_as(weight)))
                start = stop
            self.vectors.append(vector)

    def zero_grad(self) -> None:
        """Set all gradients to zero, and let backward passes add into the vectors."""
        for vector in self.vectors:
            assert vector.grad is not None
            vector.grad.zero_()
        for weight, gradient in self._views:
            weight.grad = gradient
