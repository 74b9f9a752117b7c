"""A trained model on disk: weights and the plain configuration from which its graph is built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from forcefoundry.build import build, cast, dtype_of, seeded
from forcefoundry.files import read_json, write_json, written_whole
from forcefoundry.graph import ordered_ancestors
from forcefoundry.objectives import Objective
from forcefoundry.pairs.finders import AUTO, make_finder

MADE_BY = ("network", "objective", "pairs", "training")
"""The sections of the parameters that a trained model is a result of, beside the data."""

CHANGES_NOTHING = {"finder"}
"""Keys of these sections that do not count: every finder finds the same pairs, to the last bit."""


def build_objective(params: Mapping[str, Any], species: Sequence[int]) -> Objective:
    """Network and objective from resolved parameters, with fresh weights from `training.seed`.

    `species` are the atomic numbers of the data; `network.species` may name more, in an order of its own.
    """
    network_config = dict(params["network"])
    listed = network_config.get("species")
    if listed:
        lacking = sorted(set(species) - set(listed))
        if lacking:
            raise ValueError(f"network.species lacks the atomic numbers {lacking}, which the data contain. Add them.")
    with seeded(int(params["training"]["seed"])):
        network = build(network_config, species=list(species))
        name = str(params["pairs"]["finder"])
        # Which of auto and gpu it is depends on where a batch lies: the model may be used on another machine.
        finder = None if name in (AUTO, "gpu") else make_finder(name)
        objective = build(params["objective"], network=network, finder=finder)
    assert isinstance(objective, Objective)
    dtype = dtype_of(str(params["training"]["dtype"]))
    for node in ordered_ancestors(objective.outputs.values()):
        if node.module is not None:
            cast(node.module, dtype)
    return objective


def save_weights(path: Path | str, model: torch.nn.Module) -> None:
    """Write a state_dict as safetensors."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    # Serialised in memory first: safetensors' own writer reports a full disk as an error of its own kind.
    content = save(weights)
    with written_whole(path) as draft:
        draft.write_bytes(content)


def load_weights(path: Path | str, model: torch.nn.Module) -> None:
    """Read a state_dict; names, shapes and dtypes must be those of the model."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist: run the step that writes it first.")
    weights = load_file(path)
    expected = model.state_dict()
    names = sorted(set(weights) ^ set(expected)) or [
        name
        for name in weights
        if (weights[name].shape, weights[name].dtype) != (expected[name].shape, expected[name].dtype)
    ]
    if names:
        raise ValueError(
            f"The weights in {path} do not fit the model: {names[0]} differs. Run assemble and train again."
        )
    model.load_state_dict(weights)


def save_model(folder: Path | str, model: torch.nn.Module, params: Mapping[str, Any], species: Sequence[int]) -> None:
    """Write model.safetensors and model.json, from which the potential can be built anywhere."""
    config = {name: params[name] for name in MADE_BY}
    with written_whole(folder) as draft:
        draft.mkdir()
        save_weights(draft / "model.safetensors", model)
        write_json(draft / "model.json", {**config, "species": list(species), "units": {"length": "Å", "energy": "eV"}})


def check_model(folder: Path | str, params: Mapping[str, Any]) -> None:
    """Refuse a saved model that was made with other parameters than these; the first that differs is named."""
    made = read_json(Path(folder) / "model.json")
    for section in MADE_BY:
        for key in sorted({*made[section], *params[section]} - CHANGES_NOTHING):
            if made[section].get(key) != params[section].get(key):
                raise ValueError(
                    f"The model in {folder} was made with {section}.{key} = {made[section].get(key)!r}, but it is "
                    f"{params[section].get(key)!r} now. Run the train step again."
                )
