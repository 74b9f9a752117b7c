"""Layers on each atom alone, with and without the residual form."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from forcefoundry.networks.activations import Activation


class Residual(torch.nn.Module):
    """out = R · f(a) + c + skip(z), the residual form of one layer; the skip is A z where the widths differ."""

    def __init__(self, n_in: int, n_inner: int, n_out: int, activation: Activation):
        super().__init__()
        self.activation = activation
        self.output = torch.nn.Linear(n_inner, n_out)
        self.skip = torch.nn.Identity() if n_in == n_out else torch.nn.Linear(n_in, n_out, bias=False)

    def forward(self, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Combine the pre-activation a (N, n_inner) with the layer's input z (N, n_in) to (N, n_out)."""
        result: torch.Tensor = self.output(self.activation(a)) + self.skip(z)
        return result


class Direct(torch.nn.Module):
    """out = f(a), one layer without the residual form."""

    def __init__(self, activation: Activation):
        super().__init__()
        self.activation = activation

    def forward(self, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Turn the pre-activation a (N, n_out) into (N, n_out); the layer's input z has no other way."""
        return self.activation(a)


@dataclass(frozen=True)
class Form:
    """What all layers of a network have in common: the activation f, and whether they take the residual form."""

    activation: Activation
    resnet: bool = True

    def closing(self, n_in: int, n_inner: int, n_out: int) -> torch.nn.Module:
        """What makes a layer's output (N, n_out) of its pre-activation (N, n_inner) and its input (N, n_in)."""
        return Residual(n_in, n_inner, n_out, self.activation) if self.resnet else Direct(self.activation)


class AtomLayer(torch.nn.Module):
    """A layer on each atom alone."""

    def __init__(self, n_features: int, n_inner: int, form: Form):
        super().__init__()
        self.linear = torch.nn.Linear(n_features, n_inner)
        self.residual = form.closing(n_features, n_inner, n_features)
        torch.nn.init.xavier_normal_(self.linear.weight)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Features (N, n_features) from features (N, n_features)."""
        result: torch.Tensor = self.residual(self.linear(z), z)
        return result
