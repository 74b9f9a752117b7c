"""From configuration to objects: only what stands in the rooms, and only what is meant to be built."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from forcefoundry.build import ROOMS, build, cast, dtype_of, find, seeded
from forcefoundry.networks.hipnn import HIPNN
from forcefoundry.objectives import Objective

HIPNN_CONFIG = {"_target_": "forcefoundry.networks.hipnn.HIPNN", "species": [1, 6], "n_interactions": 1}


def test_a_network_and_an_objective() -> None:
    network = build(HIPNN_CONFIG | {"n_features": 4})
    assert isinstance(network, HIPNN)
    assert network.feature_sizes == (2, 4)
    made = build({"_target_": "forcefoundry.objectives.energy_and_forces"}, network=network)
    assert isinstance(made, Objective)
    assert made.network is network
    nested = build({"_target_": "forcefoundry.objectives.energy_and_forces", "network": HIPNN_CONFIG})
    assert nested.network.species == (1, 6)


def test_what_is_null_gives_way_to_what_is_known() -> None:
    assert build(HIPNN_CONFIG | {"species": None}, species=[8]).species == (8,)
    assert build(HIPNN_CONFIG, species=[8]).species == (1, 6)
    assert build(HIPNN_CONFIG, nothing_it_takes=1).species == (1, 6)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "torch.nn.Linear",
        "forcefoundry.files.written_whole",
        "forcefoundry.experiment.checkpoint.load_checkpoint",
        "pipeline.steps.train.run",
        "system",
        "",
    ],
)
def test_nothing_outside_the_rooms_can_be_named(target: str) -> None:
    with pytest.raises(ValueError, match=r"names no module of the library's rooms \(networks, objectives"):
        build({"_target_": target, "command": "true"})


@pytest.mark.parametrize(
    "target",
    [
        "forcefoundry.networks.hipnn.torch",
        "forcefoundry.networks.hipnn.Network",  # imported there, defined elsewhere
        "forcefoundry.networks.hipnn._one_a_block",
        "forcefoundry.pairs.store.os",
        "forcefoundry.pairs.store.link_or_copy",  # a helper that writes files
        "forcefoundry.pairs.store.shutil",
        "forcefoundry.objectives.__builtins__",
        "forcefoundry.plots.base.dataclass",
    ],
)
def test_nothing_that_a_room_only_uses_can_be_named(target: str) -> None:
    with pytest.raises(ValueError, match="defines no"):
        find(target)


def test_every_configuration_of_the_rooms_can_be_named() -> None:
    for target in (
        "forcefoundry.networks.hipnn.HIPNN",
        "forcefoundry.objectives.energy_and_forces",
        "forcefoundry.plots.parity.Parity",
        "forcefoundry.plots.errors.ErrorHistogram",
        "forcefoundry.pairs.reference.ReferenceFinder",
    ):
        assert target.split(".")[1] in ROOMS
        assert find(target).__module__ == target.rpartition(".")[0]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "needs a _target_, got the keys none"),
        ({"target": 1}, "needs a _target_, got the keys target"),
        ({"_target_": "forcefoundry.networks.hippnn.HIPNN"}, r"Did you mean forcefoundry\.networks\.hipnn\.HIPNN"),
        ({"_target_": "forcefoundry.networks.hipnn.HIPPN"}, "defines no 'HIPPN'. Did you mean HIPNN"),
        (HIPNN_CONFIG | {"n_feature": 3}, "takes no argument 'n_feature'. Did you mean n_features"),
        ({"_target_": "forcefoundry.networks.hipnn.HIPNN"}, "needs species"),
        (HIPNN_CONFIG | {"cutoff": -1}, "soft_max <= cutoff, got .* -1"),
        (HIPNN_CONFIG | {"species": []}, r"species are \[\], expected different atomic numbers"),
        (HIPNN_CONFIG | {"species": [1, 1]}, r"species are \[1, 1\]"),
        (HIPNN_CONFIG | {"species": [119]}, r"species are \[119\]"),
        (HIPNN_CONFIG | {"n_features": [3, 4]}, "n_features is .* expected one positive width or 1"),
        (HIPNN_CONFIG | {"n_sensitivities": 0}, "n_sensitivities is 0"),
        (HIPNN_CONFIG | {"n_atom_layers": -1}, "n_atom_layers is -1"),
    ],
)
def test_what_does_not_fit_is_one_clear_message(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(config)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"l2": -1.0}, "objective.l2 is -1.0"),
        ({"forces_weight": float("nan")}, "objective.forces_weight is nan"),
        ({"forces_weight": 0, "energy_weight": 0}, "nothing is trained on"),
    ],
)
def test_objectives_that_mean_nothing(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build({"_target_": "forcefoundry.objectives.energy_and_forces", **changes}, network=build(HIPNN_CONFIG))


def test_seeds_decide_weights_and_disturb_nothing() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    made = []
    for seed in (0, 0, 1):
        with seeded(seed):
            made.append(build(HIPNN_CONFIG).blocks[0].interaction.V)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32
    assert made[0].dtype == torch.float64
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    with pytest.raises(KeyError), seeded(0):
        raise KeyError
    assert torch.get_default_dtype() == torch.float32


def test_float32_weights_are_the_float64_ones_rounded() -> None:
    made = []
    for _ in range(2):
        with seeded(0):
            made.append(build(HIPNN_CONFIG))
    cast(made[1], torch.float32)
    rounded = dict(made[1].named_parameters())
    for name, weight in made[0].named_parameters():
        assert weight.dtype == torch.float64
        assert torch.equal(rounded[name], weight.float())


def test_unknown_dtypes() -> None:
    assert dtype_of("float32") is torch.float32
    with pytest.raises(ValueError, match="dtype is 'half', expected float32 or float64"):
        dtype_of("half")
