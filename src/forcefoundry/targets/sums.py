"""Sums over the atoms of each system."""

from __future__ import annotations

import torch


def over_systems(values: torch.Tensor, n_atoms: torch.Tensor, system_of_atom: torch.Tensor) -> torch.Tensor:
    """Sum the atoms' rows (N, ...) within each system to (S, ...), in the precision of `values`."""
    return values.new_zeros((len(n_atoms), *values.shape[1:])).index_add(0, system_of_atom, values)
