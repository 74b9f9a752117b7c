"""A network, its graph and its database out of a file of reference numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from forcefoundry.build import seeded
from forcefoundry.databases import Database
from forcefoundry.networks.hipnn import HIPNN
from forcefoundry.networks.layers import Residual
from forcefoundry.objectives import Objective, energy_and_forces
from forcefoundry.targets.energy import EnergyReadout

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """The network with the file's weights, and where each of the file's weights lies."""

    objective: Objective
    weights: dict[str, torch.nn.Parameter]


def fresh_network(d: Arrays) -> HIPNN:
    """The network of the file's settings, before its weights are put in."""
    n_blocks = int(d["hp_n_blocks"])
    with seeded(0):
        return HIPNN(
            species=d["species"].tolist(),
            n_features=d["hp_n_features"][1:].tolist(),
            n_sensitivities=int(d["hp_n_nu"]),
            soft_min=float(d["hp_soft_min"]),
            soft_max=float(d["hp_soft_max"]),
            cutoff=float(d["hp_cutoff"]),
            n_interactions=n_blocks,
            n_atom_layers=int(d["hp_n_atom_layers"]),
            n_inner=d["hp_n_middle"].tolist() if d["hp_resnet"] else None,
            l_max=int(d["hp_l_max"]),
            **({"cusp": float(d["hp_cusp_reg"])} if d["hp_l_max"] else {}),
            resnet=bool(d["hp_resnet"]),
        )


def weights_of(network: HIPNN, readout: EnergyReadout) -> dict[str, torch.nn.Parameter]:
    """Every weight of a network and its readout by the name that the files have for it."""
    weights: dict[str, torch.nn.Parameter] = {}
    for number, block in enumerate(network.blocks, start=1):
        layer, name = block.interaction, f"block{number}_inter"
        weights[f"{name}_V"] = layer.V
        weights[f"{name}_W"], weights[f"{name}_b"] = layer.self_interaction.weight, layer.self_interaction.bias
        weights[f"{name}_mu"], weights[f"{name}_sigma"] = layer.sensitivity.mu, layer.sensitivity.sigma
        for order in range(1, network.l_max + 1):
            weights[f"{name}_t{order}"] = getattr(layer, f"t{order}")
        weights |= _of_residual(name, layer.residual)
        for depth, atom in enumerate(block.atom_layers, start=1):
            name = f"block{number}_atom{depth}"
            weights[f"{name}_W"], weights[f"{name}_b"] = atom.linear.weight, atom.linear.bias
            weights |= _of_residual(name, atom.residual)
    if readout.e0 is not None:
        weights["energy0_w"] = readout.e0
    for level, linear in enumerate(readout.readouts, start=1):
        weights[f"energy{level}_w"], weights[f"energy{level}_b"] = linear.weight, linear.bias
    return weights


def _of_residual(name: str, residual: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    if not isinstance(residual, Residual):
        return {}
    found = {f"{name}_R": residual.output.weight, f"{name}_c": residual.output.bias}
    if not isinstance(residual.skip, torch.nn.Identity):
        found[f"{name}_A"] = residual.skip.weight
    return found


def put_in(d: Arrays, network: HIPNN, readout: EnergyReadout) -> dict[str, torch.nn.Parameter]:
    """Put every weight of the file into a network and its readout; none may be left over on either side."""
    weights = weights_of(network, readout)
    assert set(weights) == {name.removeprefix("w_") for name in d if name.startswith("w_")}
    ours = {id(weight) for weight in [*network.parameters(), *readout.parameters()]}
    assert ours == {id(weight) for weight in weights.values()}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(d[f"w_{name}"]).reshape(weight.shape))
    return weights


def reference(d: Arrays, **objective_options: Any) -> Reference:
    """The usual objective with the file's weights; options go to `energy_and_forces`."""
    options = {"train_e0": True, "first_is_interacting": bool(d["hp_first_is_interacting"])}
    network = fresh_network(d)
    with seeded(0):
        objective = energy_and_forces(network, **options | objective_options)
    return Reference(objective, put_in(d, network, objective.readout))


def packed(d: Arrays, labels: dict[str, np.ndarray]) -> Database:
    """The structures of the file with the given labels."""
    n = len(d["offsets"]) - 1
    periodic = "cell" in d
    columns = {
        "species": d["Z"],
        "positions": d["pos"],
        "cell": d["cell"] if periodic else np.zeros((n, 3, 3)),
        "pbc": np.full((n, 3), periodic),
        "n_atoms": np.diff(d["offsets"]),
        **labels,
    }
    return Database(columns, {"train": np.arange(n)})
