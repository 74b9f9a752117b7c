"""A state_dict as hippynn 0.1.3 writes it, from the weights of a file of reference numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.networks.reference import Arrays

NETWORK, ENERGY, ENCODER, PENALTY = (f"moddict.node{number}." for number in (16, 17, 0, 25))


def their_state(d: Arrays) -> dict[str, Any]:
    """Every name that a trained model's state_dict holds, the L2 penalty's second copy of the network included."""
    network = _network(d)
    place = torch.zeros(int(d["species"].max()) + 1, dtype=torch.int64)
    place[torch.from_numpy(d["species"].astype(np.int64))] = torch.arange(1, len(d["species"]) + 1)
    energy: dict[str, torch.Tensor] = {}
    first = int(d["hp_first_is_interacting"])
    for level in range(first, int(d["hp_n_blocks"]) + 1):
        energy[f"layers.{level - first}.weight"] = _tensor(d[f"w_energy{level}_w"])[None]
        if level:
            energy[f"layers.{level - first}.bias"] = _tensor(d[f"w_energy{level}_b"]).reshape(1)
    state: dict[str, Any] = {f"{ENCODER}species_map": place}
    state |= {NETWORK + name: value for name, value in network.items()}
    state |= {ENERGY + name: value for name, value in energy.items()}
    return state | {f"{PENALTY}network.{name}": value for name, value in network.items()}


def their_settings(d: Arrays) -> dict[str, Any]:
    """What has to be said beside the weights."""
    distances = {name: float(d[f"hp_{ours}"]) for name, ours in DISTANCES.items()}
    return {**distances, "energy_unit": "eV"}


DISTANCES = {"dist_soft_min": "soft_min", "dist_soft_max": "soft_max", "dist_hard_max": "cutoff"}


def _network(d: Arrays) -> dict[str, Any]:
    found: dict[str, Any] = {}
    inner = ".base_layer" if d["hp_resnet"] else ""
    for block in range(int(d["hp_n_blocks"])):
        ours, theirs = f"w_block{block + 1}_inter", f"blocks.{block}.0"
        found[f"{theirs}{inner}.int_weights"] = _tensor(d[f"{ours}_V"])
        if d["hp_l_max"] >= 1:
            found[f"{theirs}{inner}.vecscales"] = _tensor(d[f"{ours}_t1"])
            found[f"{theirs}{inner}._extra_state"] = {"cusp_reg": float(d["hp_cusp_reg"])}
        if d["hp_l_max"] >= 2:
            found[f"{theirs}{inner}.quadscales"] = _tensor(d[f"{ours}_t2"])
        for name in ("mu", "sigma"):
            found[f"{theirs}{inner}.sensitivity.{name}"] = _tensor(d[f"{ours}_{name}"])[None]
        found |= _layer(d, ours, theirs, f"{inner}.selfint")
        for depth in range(1, int(d["hp_n_atom_layers"]) + 1):
            found |= _layer(d, f"w_block{block + 1}_atom{depth}", f"blocks.{block}.{depth}", inner)
    return found


def _layer(d: Arrays, ours: str, theirs: str, linear: str) -> dict[str, torch.Tensor]:
    names = {"W": f"{linear}.weight", "b": f"{linear}.bias", "R": ".res_layer.weight", "c": ".res_layer.bias"}
    names["A"] = ".adjust_layer.weight"
    return {theirs + name: _tensor(d[f"{ours}_{key}"]) for key, name in names.items() if f"{ours}_{key}" in d}


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))
