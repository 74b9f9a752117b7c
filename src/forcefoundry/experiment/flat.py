"""Weights as one vector, so that a training step touches them once and not weight by weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_ALIGNMENT = 64  # bytes, as torch aligns what it allocates


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
            # Each weight begins where a fresh tensor would: matrix products of others round differently, and a model
            # that was trained would not agree to the bit with the same one loaded.
            step = _ALIGNMENT // same[0].element_size()
            places = [0]
            for weight in same:
                places.append(places[-1] + -(-weight.numel() // step) * step)
            vector = torch.nn.Parameter(same[0].new_zeros(places[-1]))
            vector.grad = torch.zeros_like(vector)
            for weight, start in zip(same, places, strict=False):
                part = vector.data[start : start + weight.numel()].view_as(weight)
                weight.data = part.copy_(weight.detach())
                self._views.append((weight, vector.grad[start : start + weight.numel()].view_as(weight)))
            self.vectors.append(vector)

    def zero_grad(self) -> None:
        """Set all gradients to zero, and let backward passes add into the vectors."""
        for vector in self.vectors:
            assert vector.grad is not None
            vector.grad.zero_()
        for weight, gradient in self._views:
            weight.grad = gradient
