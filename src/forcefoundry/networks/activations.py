"""Activation functions by name. All have a continuous derivative, so that forces do not jump."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

import torch
from torch.nn import functional

Activation = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: Mapping[str, Activation] = {
    "softplus": functional.softplus,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "mish": functional.mish,
    "celu": functional.celu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def activation_of(name: str) -> Activation:
    """The function of that name; a wrong name is a ValueError that says the nearest."""
    if name not in ACTIVATIONS:
        near = get_close_matches(str(name), ACTIVATIONS, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Functions with a kink are left out: forces would jump."
        raise ValueError(f"activation is {name!r}, expected one of {', '.join(ACTIVATIONS)}. {hint}")
    return ACTIVATIONS[name]
