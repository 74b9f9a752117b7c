"""HIP-NN against reference numbers of an independent implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.graph import GraphModule, PredNode, ordered_ancestors
from forcefoundry.losses import L2, MAE, MSE, R2, RMSE
from forcefoundry.networks.base import NetworkNode
from forcefoundry.pairs import ReferenceFinder
from forcefoundry.targets.energy import EnergyNode
from tests.builders import batch
from tests.networks.reference import Arrays, fresh_network, packed, reference
from tests.outside import arrays, files, oracles

FORWARD = files(oracles(), "forward_*.npz")
LOSSES = files(oracles(), "loss_grad_*.npz")


def near(found: torch.Tensor, expected: np.ndarray, absolute: float = 0.0, relative: float = 0.0) -> None:
    """Within a tolerance, relative to the largest entry."""
    difference = np.abs(found.detach().numpy().reshape(expected.shape) - expected).max()
    assert difference <= absolute + relative * np.abs(expected).max()


@pytest.mark.parametrize("path", FORWARD)
def test_initial_sensitivities(path: Path) -> None:
    d = arrays(path)
    for block in fresh_network(d).blocks:
        near(block.interaction.sensitivity.mu, d["init_mu"], relative=1e-14)
        near(block.interaction.sensitivity.sigma, d["init_sigma"], relative=1e-14)


@pytest.mark.parametrize("path", [*FORWARD, *LOSSES])
def test_pairs_are_those_of_the_file(path: Path) -> None:
    d = arrays(path)
    base = packed(d, {}).columns
    found = ReferenceFinder()(base["positions"], base["cell"], base["pbc"], float(d["hp_cutoff"]), d["offsets"])
    np.testing.assert_array_equal(found.i, d["pair_i"])
    np.testing.assert_array_equal(found.j, d["pair_j"])
    np.testing.assert_array_equal(found.S, d["pair_S"])
    system = d["pair_sys"]
    shift = np.einsum("pa,pab->pb", found.S.astype(float), base["cell"][system])
    distance = np.linalg.norm(d["pos"][found.j] - d["pos"][found.i] + shift, axis=1)
    np.testing.assert_allclose(distance, d["pair_dist"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", FORWARD)
def test_features_energies_and_forces(path: Path) -> None:
    d = arrays(path)
    ref = reference(d)
    base = packed(d, {})
    energy, forces = ref.objective.outputs["energy"], ref.objective.outputs["forces"]
    order = ordered_ancestors([energy])
    (features,) = (node for node in order if isinstance(node, NetworkNode))
    (readout,) = (node for node in order if isinstance(node, EnergyNode))
    inputs = [node for node in ordered_ancestors([forces]) if node.db_name in {*base.columns, "system_of_atom"}]
    inputs = [node for node in inputs if not node.parents]
    wanted = [energy, forces, readout.output("atom_energy"), readout.output("atom_terms"), *features.levels]
    model = GraphModule(inputs, wanted).eval()
    columns = batch(base, names=[str(node.db_name) for node in inputs])
    found = model(*(columns[str(node.db_name)] for node in inputs))
    near(found[0], d["out_sys_energy"], absolute=1e-11)
    near(found[1], d["out_forces"], relative=1e-9)
    near(found[2], d["out_atom_energy"], absolute=1e-11)
    near(found[3].T, d["out_atom_energy_terms"], absolute=1e-11)
    n_levels = int(d["hp_n_blocks"]) + 1
    assert len(features.levels) == n_levels
    for level in range(n_levels):
        near(found[4 + level], d[f"out_feat{level}"], absolute=1e-11)
    if "fd_force" in d:  # taken from energies alone, so no derivative of anybody's code is trusted
        numeric = found[1].numpy()[d["fd_atom"], d["fd_comp"]]
        assert np.abs(numeric - d["fd_force"]).max() <= 1e-8 * max(1.0, np.abs(d["out_forces"]).max())


def terms_of(
    d: Arrays,
) -> tuple[GraphModule, dict[str, GraphModule], list[torch.Tensor], dict[str, torch.nn.Parameter]]:
    """The model, each term as a module, what a loss takes, and the weights."""
    ref = reference(d)
    per_atom, forces = (ref.objective.quantities[name] for name in ("energy_per_atom", "forces"))
    (features,) = (
        node for node in ordered_ancestors([ref.objective.outputs["energy"]]) if isinstance(node, NetworkNode)
    )
    nodes = {
        f"{letter}_{name}": kind(quantity.pred, quantity.true)
        for letter, quantity in (("e", per_atom), ("f", forces))
        for name, kind in {"rmse": RMSE, "mae": MAE, "mse": MSE, "rsq": R2}.items()
    }
    nodes["l2"] = L2(features)
    base = packed(d, {"energy": d["target_energy"], "forces": d["target_forces"]})
    total = nodes["e_rmse"]
    for node in list(nodes.values())[1:]:
        total = total + node
    (model, loss, _), info = assemble_for_training(total, {"l2": nodes["l2"]})
    columns = batch(base, names=[*info["inputs"], *info["targets"]])
    model.train()
    values = [*model(*(columns[name] for name in info["inputs"])), *(columns[name] for name in info["targets"])]
    assert all(isinstance(node, PredNode) for node in loss.inputs[: len(model.outputs)])
    modules = {name: GraphModule(loss.inputs, [node]) for name, node in nodes.items()}
    return model, modules, values, ref.weights


@pytest.mark.parametrize("path", LOSSES)
def test_loss_terms_and_their_gradients(path: Path) -> None:
    d = arrays(path)
    _, modules, values, weights = terms_of(d)
    compared = 0
    for name, module in modules.items():
        (value,) = module(*values)
        expected_value = float(d[f"term_{name}"])
        assert abs(float(value.detach()) - expected_value) <= 1e-11 * abs(expected_value)
        gradients = torch.autograd.grad(value, list(weights.values()), retain_graph=True, allow_unused=True)
        expected = {key: d[f"grad_{name}__{key}"] for key in weights if f"grad_{name}__{key}" in d}
        largest = max((np.abs(entry).max() for entry in expected.values()), default=0.0)
        for (key, weight), gradient in zip(weights.items(), gradients, strict=True):
            if key in expected:
                ours = torch.zeros_like(weight) if gradient is None else gradient
                assert np.abs(ours.numpy().reshape(expected[key].shape) - expected[key]).max() <= 1e-9 * largest
                compared += 1
    assert compared >= 5 * len(weights)  # e_rmse, e_mae, f_rmse, f_mae and l2 by every weight


@pytest.mark.parametrize("path", LOSSES)
def test_total_without_hierarchicality(path: Path) -> None:
    """The file's total less its hierarchicality, value and gradient, from one backward pass."""
    d = arrays(path)
    _, modules, values, weights = terms_of(d)
    coefficients = {"e_rmse": "e", "e_mae": "e", "f_rmse": "f", "f_mae": "f", "l2": "l2"}
    total = sum(float(d[f"coef_{which}"]) * modules[name](*values)[0] for name, which in coefficients.items())
    assert isinstance(total, torch.Tensor)
    rest = float(d["coef_hier"])
    expected = float(d["term_total"]) - rest * float(d["term_hier_peratom_mean"])
    assert abs(float(total.detach()) - expected) <= 1e-11 * abs(expected)
    total.backward()
    gradients = {key: d[f"grad_total__{key}"] - rest * d[f"grad_hier_peratom_mean__{key}"] for key in weights}
    largest = max(np.abs(entry).max() for entry in gradients.values())
    for key, weight in weights.items():
        assert weight.grad is not None
        assert np.abs(weight.grad.numpy().reshape(gradients[key].shape) - gradients[key]).max() <= 1e-9 * largest
