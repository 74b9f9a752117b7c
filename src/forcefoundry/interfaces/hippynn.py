"""An energy model that was trained with hippynn: its weights, put into the same network here.

hippynn (0.1.3) saves a state_dict and, for all else, a pickled graph. The graph is never opened: the weights say what
the network looks like, and a few settings say what weights cannot. `docs/coming-from-hippynn.md` shows how to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forcefoundry.graph import GraphModule, input_nodes
from forcefoundry.interfaces.hippynn_settings import Settings
from forcefoundry.interfaces.hippynn_weights import Weights
from forcefoundry.interfaces.model_folder import build_objective, save_model
from forcefoundry.networks.hipnn import HIPNN, Block, Interaction
from forcefoundry.networks.layers import AtomLayer, Residual
from forcefoundry.objectives import Objective
from forcefoundry.targets.energy import EnergyReadout

TENSOR_SCALES = {1: "vecscales", 2: "quadscales"}
"""Their names for t_1 and t_2."""


@dataclass(frozen=True)
class MovedModel:
    """A trained potential that came from hippynn.

    params: the sections that a model folder holds, of which the network is built again. objective: network, energy and
    forces, with losses over them, to go on training with.
    """

    params: Mapping[str, Any]
    objective: Objective

    @property
    def model(self) -> GraphModule:
        """Gives energies (S,), eV, forces (N, 3), eV/Å, and where asked the stress (S, 3, 3), eV/Å³.

        `model.inputs` and `model.outputs` say by their `db_name` which columns it takes and gives.
        """
        outputs = list(self.objective.outputs.values())
        return GraphModule(input_nodes(outputs), outputs).eval()

    def save(self, folder: Path | str) -> None:
        """Write the folder that a training run would have written."""
        save_model(folder, self.model, self.params, self.objective.network.species)


def read_hippynn(weights: Path | str, settings: Path | str | Mapping[str, Any], **objective_options: Any) -> MovedModel:
    """Load the energy model of hippynn's Hipnn, HipnnVec or HipnnQuad.

    Args:
        weights: a state_dict, `best_model.pt` of a run or `torch.save(model.state_dict(), ...)`.
        settings: what weights do not say, by hippynn's names, as a yaml file or a mapping. Needed are `dist_soft_min`,
            `dist_soft_max`, `dist_hard_max` (Å) and `energy_unit` (which hippynn does not know); `activation` and
            `sensitivity_type` where they are not hippynn's own. All else that is given must agree with the weights.
        objective_options: of `objectives.energy_and_forces`: weights of the losses, or `stress_weight=1` for a model
            that gives the stress as well.

    Raises:
        ValueError: for a file that holds anything but weights, a name that is missing or has no place here, another
            shape, and a setting that is unknown, missing or at odds with the weights; each is named.
    """
    given = Settings.read(settings)
    found = Weights.read(weights)
    architecture = found.architecture()
    given.check(architecture)
    params = _params(given, architecture, found.dtype, objective_options)
    objective = build_objective(params, architecture["species"])
    assert isinstance(objective.network, HIPNN)
    places = dict(_places(objective.network, objective.readout))
    found.check({name: place[0] for name, place in places.items()})
    with torch.no_grad():
        for name, (_, weight) in places.items():
            # Scaled in float64, and rounded once to what the network is in.
            unit = given.energy_unit if name.startswith("layers.") else 1.0
            weight.copy_((found.values[name].double() * unit).reshape(weight.shape))
    return MovedModel(params, objective)


def _params(
    given: Settings, architecture: Mapping[str, Any], dtype: str, objective_options: Mapping[str, Any]
) -> dict[str, Any]:
    network = {
        "_target_": "forcefoundry.networks.hipnn.HIPNN",
        **{name: value for name, value in architecture.items() if name != "first_is_interacting"},
        **given.network(architecture),
    }
    return {
        "network": network,
        "objective": {
            "_target_": "forcefoundry.objectives.energy_and_forces",
            **objective_options,
            "first_is_interacting": architecture["first_is_interacting"],
        },
        "pairs": {"finder": "auto", "cutoff": network["cutoff"]},
        "training": {"seed": 0, "dtype": dtype},
    }


Place = tuple[tuple[int, ...], torch.nn.Parameter]


def _places(network: HIPNN, readout: EnergyReadout) -> Iterator[tuple[str, Place]]:
    """Their names within a node, each with the shape it has there and the weight that it is here."""
    for number, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        yield from _interaction(f"blocks.{number}.0", block.interaction, network.l_max)
        for depth, layer in enumerate(block.atom_layers, start=1):
            assert isinstance(layer, AtomLayer)
            name = f"blocks.{number}.{depth}"
            yield from _linear(_inner(name, layer.residual), layer.linear)
            yield from _residual(name, layer.residual)
    if readout.e0 is not None:
        yield "layers.0.weight", _as_one_row(readout.e0)
    for level, linear in enumerate(readout.readouts, start=0 if readout.e0 is None else 1):
        yield from _linear(f"layers.{level}", linear)


def _interaction(name: str, layer: Interaction, l_max: int) -> Iterator[tuple[str, Place]]:
    inner = _inner(name, layer.residual)
    yield f"{inner}.int_weights", _as_it_is(layer.V)
    yield f"{inner}.sensitivity.mu", _as_one_row(layer.sensitivity.mu)
    yield f"{inner}.sensitivity.sigma", _as_one_row(layer.sensitivity.sigma)
    for order in range(1, l_max + 1):
        yield f"{inner}.{TENSOR_SCALES[order]}", _as_it_is(layer.get_parameter(f"t{order}"))
    yield from _linear(f"{inner}.selfint", layer.self_interaction)
    yield from _residual(name, layer.residual)


def _inner(name: str, residual: torch.nn.Module) -> str:
    return f"{name}.base_layer" if isinstance(residual, Residual) else name


def _residual(name: str, residual: torch.nn.Module) -> Iterator[tuple[str, Place]]:
    if isinstance(residual, Residual):
        yield from _linear(f"{name}.res_layer", residual.output)
        # Nothing where widths agree: the skip is the identity then, there as here.
        yield from _linear(f"{name}.adjust_layer", residual.skip)


def _linear(name: str, linear: torch.nn.Module) -> Iterator[tuple[str, Place]]:
    for part, weight in linear.named_parameters():
        yield f"{name}.{part}", _as_it_is(weight)


def _as_it_is(weight: torch.nn.Parameter) -> Place:
    return tuple(weight.shape), weight


def _as_one_row(weight: torch.nn.Parameter) -> Place:
    return (1, *weight.shape), weight
