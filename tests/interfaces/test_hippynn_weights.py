"""Models that were trained with hippynn, as files of weights that bear its names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from forcefoundry.files import read_json
from forcefoundry.graph import GraphModule, input_nodes
from forcefoundry.interfaces.hippynn import read_hippynn
from forcefoundry.interfaces.hippynn_settings import ENERGY_UNITS
from forcefoundry.interfaces.model_folder import build_objective, load_weights
from tests.builders import batch
from tests.interfaces.hippynn_names import ENCODER, ENERGY, NETWORK, PENALTY, their_settings, their_state
from tests.networks.reference import Arrays, packed
from tests.outside import arrays, files, oracles

CUSP = "_extra_state"
FORWARD = files(oracles(), "forward_*.npz")
FEW = files(oracles(), "forward_variant_*.npz", lambda path: "atom_layers" not in path.name)
ONE = files(oracles(), "forward_hipnn_quad_molecules.npz")


def written(folder: Path, state: Any, settings: Any) -> tuple[Path, Path]:
    """Both files, as a user has them."""
    torch.save(state, folder / "best_model.pt")
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "best_model.pt", folder / "settings.yaml"


def predicted(model: GraphModule, d: Arrays) -> dict[str, np.ndarray]:
    """What the model gives for the file's structures, by the outputs' columns."""
    columns = batch(packed(d, {}), names=[str(node.db_name) for node in model.inputs])
    values = model(*(columns[str(node.db_name)] for node in model.inputs))
    return {str(node.db_name): value.numpy() for node, value in zip(model.outputs, values, strict=True)}


@pytest.mark.parametrize("path", FORWARD)
def test_energies_and_forces_are_those_of_the_file(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    moved = read_hippynn(*written(tmp_path, their_state(d), their_settings(d)))
    found = predicted(moved.model, d)
    np.testing.assert_allclose(found["energy"], d["out_sys_energy"], rtol=0, atol=1e-11)
    assert np.abs(found["forces"] - d["out_forces"]).max() <= 1e-9 * np.abs(d["out_forces"]).max()


@pytest.mark.parametrize("path", FORWARD)
def test_everything_that_weights_tell_may_be_said_again(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    widths, inner = d["hp_n_features"][1:].tolist(), d["hp_n_middle"].tolist()
    said = {
        "possible_species": [0, *d["species"].tolist()],
        "n_input_features": len(d["species"]),
        "n_features": widths,
        "n_sensitivities": int(d["hp_n_nu"]),
        "n_interaction_layers": int(d["hp_n_blocks"]),
        "n_atom_layers": int(d["hp_n_atom_layers"]),
        "resnet": bool(d["hp_resnet"]) and (True if inner == widths else inner),
        "l_max": int(d["hp_l_max"]),
        "first_is_interacting": bool(d["hp_first_is_interacting"]),
        "sensitivity_type": "inverse",
        "activation": "Softplus",
    }
    said |= {"cusp_reg": float(d["hp_cusp_reg"])} if d["hp_l_max"] else {}
    weights, settings = written(tmp_path, their_state(d), their_settings(d) | said)
    network = read_hippynn(weights, settings).params["network"]
    assert network == read_hippynn(weights, their_settings(d)).params["network"]
    assert network["species"] == d["species"].tolist()
    for name, wrong in {
        "possible_species": [0, *range(80, 80 + len(d["species"]))],
        "n_input_features": len(d["species"]) + 1,
        "n_features": [width + 1 for width in widths],
        "n_sensitivities": int(d["hp_n_nu"]) + 1,
        "n_interaction_layers": int(d["hp_n_blocks"]) + 1,
        "n_atom_layers": int(d["hp_n_atom_layers"]) + 1,
        "resnet": not d["hp_resnet"],
        "l_max": (int(d["hp_l_max"]) + 1) % 3,
        "first_is_interacting": not d["hp_first_is_interacting"],
        "sensitivity_type": "linear",
        "activation": "relu",
    }.items():
        with pytest.raises(ValueError, match=f"{name} is "):
            read_hippynn(weights, their_settings(d) | said | {name: wrong})


@pytest.mark.parametrize("path", ONE)
def test_the_folder_that_it_saves_is_a_model_like_any_other(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    moved = read_hippynn(*written(tmp_path, their_state(d), their_settings(d)))
    moved.save(tmp_path / "model")
    config = read_json(tmp_path / "model" / "model.json")
    objective = build_objective(config, config["species"])
    outputs = list(objective.outputs.values())
    again = GraphModule(input_nodes(outputs), outputs).eval()
    load_weights(tmp_path / "model" / "model.safetensors", again)
    for name, values in predicted(moved.model, d).items():
        np.testing.assert_array_equal(predicted(again, d)[name], values)


@pytest.mark.parametrize("path", ONE)
def test_energy_units(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    weights, _ = written(tmp_path, their_state(d), {})
    for unit, eV in ENERGY_UNITS.items():
        found = predicted(read_hippynn(weights, their_settings(d) | {"energy_unit": unit}).model, d)
        expected = d["out_sys_energy"] * eV
        assert np.abs(found["energy"] - expected).max() <= 1e-13 * np.abs(expected).max()
    assert ENERGY_UNITS["kcal/mol"] == pytest.approx(0.0433641, rel=1e-6)
    assert ENERGY_UNITS["kJ/mol"] == pytest.approx(0.01036427, rel=1e-6)
    assert ENERGY_UNITS["Hartree"] == pytest.approx(27.211386, rel=1e-7)


@pytest.mark.parametrize("path", ONE)
def test_precision_is_that_of_the_file(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    single = {name: value.float() if _is_number(value) else value for name, value in their_state(d).items()}
    moved = read_hippynn(*written(tmp_path, single, their_settings(d)))
    assert moved.params["training"]["dtype"] == "float32"
    dtypes = {name: weight.dtype for name, weight in moved.model.named_parameters()}
    assert {name for name, dtype in dtypes.items() if dtype == torch.float64} == {"moduledict.energy_readout.e0"}
    found = predicted(moved.model, d)
    assert found["energy"].dtype == np.float64
    assert np.abs(found["energy"] - d["out_sys_energy"]).max() <= 1e-5 * np.abs(d["out_sys_energy"]).max()
    name = f"{ENERGY}layers.1.weight"
    with pytest.raises(ValueError, match="expected all weights in float32 or all in float64"):
        read_hippynn(written(tmp_path, single | {name: single[name].double()}, {})[0], their_settings(d))


def _is_number(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


@pytest.mark.parametrize("path", ONE)
@pytest.mark.parametrize("prefix", ["", "module.", "model.of.mine."])
def test_nodes_may_stand_in_any_order_and_under_any_number(path: Path, prefix: str, tmp_path: Path) -> None:
    d = arrays(path)
    state = dict(reversed(their_state(d).items()))
    renumbered = {
        ENCODER: "moddict.node4.",
        NETWORK: "moddict.node12.",
        ENERGY: "moddict.node3.",
        PENALTY: "moddict.x.",
    }
    moved = {
        f"{prefix}{new}{name.removeprefix(old)}": value
        for name, value in state.items()
        for old, new in renumbered.items()
        if name.startswith(old)
    }
    assert len(moved) == len(state)
    found = predicted(read_hippynn(written(tmp_path, moved, {})[0], their_settings(d)).model, d)
    np.testing.assert_allclose(found["energy"], d["out_sys_energy"], rtol=0, atol=1e-11)


def without_penalty(d: Arrays) -> dict[str, Any]:
    """What a run without an L2 penalty writes."""
    return {name: value for name, value in their_state(d).items() if not name.startswith(PENALTY)}


def refused(folder: Path, state: Any, settings: Any) -> str:
    """What is said of a model that cannot be moved."""
    weights, _ = written(folder, state, {})
    with pytest.raises(ValueError, match=r".") as caught:
        read_hippynn(weights, settings)
    assert str(weights) in str(caught.value) or "the settings" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", FEW)
def test_a_missing_weight_is_named(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    state, settings = without_penalty(d), their_settings(d) | {"l_max": int(d["hp_l_max"])}
    for name in state:
        told = refused(tmp_path, {other: value for other, value in state.items() if other != name}, settings)
        # What only one layer has, leaves the weights of a smaller network when it is gone.
        smaller = (name.endswith("scales") and "l_max is" in told) or (CUSP in name and "lacks cusp_reg" in told)
        assert f"lacks {name!r}" in told or ("no species encoder" in told and name.startswith(ENCODER)) or smaller


@pytest.mark.parametrize("path", FEW)
def test_a_weight_of_another_shape_is_named(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    state, settings = without_penalty(d), their_settings(d)
    for name in state:
        if name.startswith(ENCODER) or CUSP in name:
            continue
        told = refused(tmp_path, state | {name: torch.cat([state[name], state[name][:1]])}, settings)
        # These tell how wide a network is; the next weight then does not fit.
        tells = name.endswith((".int_weights", ".0.res_layer.weight"))
        assert (repr(name) in told and "has shape" in told) or (tells and ("has shape" in told or "lacks" in told))
        assert repr(name) in refused(tmp_path, state | {name: state[name][None]}, settings)


@pytest.mark.parametrize("path", ONE)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"{NETWORK}blocks.0.0.base_layer.mixing_weights", "has no place"),
        (f"{NETWORK}blocks.0.0.adjust_layer.bias", "has no place"),
        (f"{NETWORK}blocks.7.0.base_layer.int_weights", r"lacks 'moddict.node16.blocks.\d.0.base_layer.int_weights'"),
        (f"{NETWORK}blocks.0.1.base_layer._extra_state", "has no place"),
        (f"{ENERGY}layers.0.bias", "has no place"),
        (f"{ENERGY}layers.9.weight", r"layers are 10, but the network has \d blocks"),
        (f"{ENERGY}scale", "is no weight of a HIP-NN energy"),
        (f"{NETWORK}species_map", "is no weight of a HIP-NN energy"),
        ("moddict.node40.value", "is no weight of a HIP-NN energy"),
        ("moddict.node40.layers.0.weight", r"holds 2 energy \(moddict.node17, moddict.node40\)"),
        ("moddict.node40.blocks.0.0.weight", "holds 2 network"),
        ("moddict.node40.species_map", "holds 2 species encoder"),
        ("controller", "expected names like moddict"),
    ],
)
def test_a_weight_without_a_place_is_named(path: Path, name: str, told: str, tmp_path: Path) -> None:
    d = arrays(path)
    extra: Any = {"cusp_reg": 1e-6} if name.endswith(CUSP) else torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=told) as caught:
        read_hippynn(written(tmp_path, their_state(d) | {name: extra}, {})[0], their_settings(d))
    assert name.rpartition(".")[0].removesuffix(".blocks.0.0").removesuffix(".layers.0")[:14] in str(caught.value)


@pytest.mark.parametrize("path", ONE)
def test_species_that_do_not_fit_the_network(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    state, settings = without_penalty(d), their_settings(d)
    name = f"{ENCODER}species_map"
    known = state[name]
    for wrong in (
        torch.where(known == known.max(), 0, known),  # one element fewer
        torch.cat([known, known.max()[None] + 1]),  # one more
        torch.where(known == known.max(), 1, known),  # two in one place
    ):
        told = refused(tmp_path, state | {name: wrong}, settings)
        assert "species_map knows" in told
        assert f"the network was made for {len(d['species'])}" in told
    other = torch.where(known == 0, 0, known.max() + 1 - known)  # the species in reverse
    moved = read_hippynn(written(tmp_path, state | {name: other}, {})[0], settings)
    assert moved.params["network"]["species"] == d["species"].tolist()[::-1]


@pytest.mark.parametrize("path", ONE)
def test_numbers_that_cannot_be_right(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    state, settings = their_state(d), their_settings(d)
    name = f"{NETWORK}blocks.0.1.base_layer.weight"
    for bad in (float("nan"), float("inf")):
        spoilt = state[name].clone()
        spoilt[0, 0] = bad
        copies = {name: spoilt, f"{PENALTY}network.blocks.0.1.base_layer.weight": spoilt}
        assert "NaN or Inf" in refused(tmp_path, without_penalty(d) | {name: spoilt}, settings)
        assert refused(tmp_path, state | copies, settings)
    told = refused(tmp_path, state | {name: state[name] + 1e-9}, settings)
    assert f"'{PENALTY}network.blocks.0.1.base_layer.weight' is a penalty's copy" in told
    cusp = f"{NETWORK}blocks.0.0.base_layer._extra_state"
    assert "expected one for all" in refused(tmp_path, without_penalty(d) | {cusp: {"cusp_reg": 1e-7}}, settings)


@pytest.mark.parametrize("path", ONE)
def test_old_weights_do_not_tell_the_cusp(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    old = {name: value for name, value in without_penalty(d).items() if CUSP not in name}
    assert "lacks cusp_reg" in refused(tmp_path, old, their_settings(d))
    text = yaml.safe_dump(their_settings(d)) + f"cusp_reg: {float(d['hp_cusp_reg']):.0e}\n"  # 1e-06: text, to yaml
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
    found = predicted(read_hippynn(tmp_path / "best_model.pt", tmp_path / "settings.yaml").model, d)
    np.testing.assert_allclose(found["energy"], d["out_sys_energy"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("path", ONE)
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dist_hard_mx": 4.0}, "'dist_hard_mx' is not a setting of a hippynn network. Did you mean dist_hard_max"),
        ({"colour": 4.0}, "'colour' is not a setting .* Known are dist_soft_min"),
        ({"dist_hard_max": None}, "dist_hard_max is None, expected a number"),
        ({"dist_hard_max": 1.0}, "soft_max <= cutoff"),
        ({"energy_unit": "Ry"}, "energy_unit is 'Ry', expected one of eV"),
        ({"activation": "ReLU"}, "activation is 'relu'"),
        ({"cusp_reg": 1e-7}, "cusp_reg is 1e-07, but the weights are those of a network with cusp_reg = "),
    ],
)
def test_settings_that_mean_nothing(path: Path, settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    d = arrays(path)
    with pytest.raises(ValueError, match=told):
        read_hippynn(*written(tmp_path, their_state(d), their_settings(d) | settings))


@pytest.mark.parametrize("path", ONE)
def test_settings_that_are_missing_or_no_settings(path: Path, tmp_path: Path) -> None:
    d = arrays(path)
    weights, settings = written(tmp_path, their_state(d), {})
    for name in their_settings(d):
        with pytest.raises(ValueError, match=f"lacks {name}"):
            read_hippynn(weights, {key: value for key, value in their_settings(d).items() if key != name})
    for text, told in (("- 1\n", "holds list"), ("", "holds NoneType"), ("a: [", "not a file of plain yaml")):
        settings.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=told):
            read_hippynn(weights, settings)
    settings.write_text("a: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not a file of plain yaml"):
        read_hippynn(weights, settings)


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    settings = {"dist_soft_min": 1.0, "dist_soft_max": 2.0, "dist_hard_max": 3.0, "energy_unit": "eV"}
    assert "not a file of weights alone" in refused(tmp_path, {"moddict.node0.species_map": Trap(mark)}, settings)
    assert not mark.exists()
    torch.load(tmp_path / "best_model.pt", weights_only=False)
    assert mark.exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 neither"])
def test_files_that_are_no_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "best_model.pt").write_bytes(content)
    settings = {"dist_soft_min": 1.0, "dist_soft_max": 2.0, "dist_hard_max": 3.0, "energy_unit": "eV"}
    with pytest.raises(ValueError, match="not a file of weights alone"):
        read_hippynn(tmp_path / "best_model.pt", settings)
    for state in ({}, [torch.ones(1)], torch.ones(1)):
        assert "expected a state_dict" in refused(tmp_path, state, settings)
    checkpoint = {"model": {"moddict.node0.species_map": torch.ones(1)}, "controller": {}}
    assert "holds 'model', expected names like" in refused(tmp_path, checkpoint, settings)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_hippynn(tmp_path / "absent.pt", settings)
