"""Hierarchicality in all its forms and the energy's terms, against stored numbers and plain loops, and at 0/0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forcefoundry.columns import Axis
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.graph import GraphModule, Node
from forcefoundry.losses import Mean
from forcefoundry.targets.energy import EnergyNode
from forcefoundry.targets.hierarchicality import EnergyTermsNode, Hierarchicality, HierarchicalityNode
from tests.builders import batch, database
from tests.networks.reference import Arrays, packed, reference
from tests.outside import arrays, files, oracles
from tests.targets.graphs import energy_node, features, reference_energy, values

FORWARD = files(oracles(), "forward_*.npz")
LOSSES = files(oracles(), "loss_grad_*.npz")
FORMS = {"atom": "hier_atom", "system": "hier_sys", "molecule": "hier_mol", "batch": "hier_batch"}


@pytest.mark.parametrize("path", FORWARD)
def test_as_stored(path: Path) -> None:
    d = arrays(path)
    energy = reference_energy(d)
    forms, terms = HierarchicalityNode(energy), EnergyTermsNode(energy)
    nodes: list[Node] = [forms.output(key) for key in FORMS]
    nodes += [energy.output("atom_terms"), terms.output("system_terms"), terms.output("cumulative")]
    found = [value.numpy() for value in values(nodes, packed(d, {}))]
    expected = [d[f"out_{name}"] for name in FORMS.values()]
    expected += [d[f"out_{name}"].T for name in ("atom_energy_terms", "sys_energy_terms", "sys_energy_cumulative")]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-11


def model_and_loss(d: Arrays, **options: float) -> tuple[list[torch.Tensor], dict[str, torch.nn.Parameter], dict]:
    """What a loss takes, the weights, and each form's loss as a module; the recipe's own loss is `total`."""
    ref = reference(d, **options)
    forms = HierarchicalityNode(_energy_of(ref.objective.outputs["energy"]), name="forms")
    n_atoms = ref.objective.quantities["energy_per_atom"].true.parents[1]
    losses = {
        "hier_peratom_mean": Mean(forms.pred / n_atoms),
        "hier_sum_mean": Mean.of_node(forms.output("system")),
        "hier_mol_mean": Mean.of_node(forms.output("molecule")),
        "hier_batch": Mean.of_node(forms.output("batch")),
    }
    everything: Node = ref.objective.train_loss
    for loss in losses.values():
        everything = everything + loss
    base = packed(d, {"energy": d["target_energy"], "forces": d["target_forces"]})
    (model, module, _), info = assemble_for_training(everything, ref.objective.validation_losses)
    columns = batch(base, names=[*info["inputs"], *info["targets"]])
    taken = [*model.train()(*(columns[name] for name in info["inputs"])), *(columns[name] for name in info["targets"])]
    nodes = {"total": ref.objective.train_loss, **losses}
    return taken, ref.weights, {name: GraphModule(module.inputs, [node]) for name, node in nodes.items()}


def _energy_of(energy: Node) -> EnergyNode:
    (node,) = energy.parents
    assert isinstance(node, EnergyNode)
    return node


@pytest.mark.parametrize("path", LOSSES)
def test_losses_and_their_gradients_by_every_weight_as_stored(path: Path) -> None:
    """The total is the recipe's own: its options are the file's coefficients."""
    d = arrays(path)
    taken, weights, modules = model_and_loss(
        d,
        energy_weight=float(d["coef_e"]),
        forces_weight=float(d["coef_f"]),
        l2=float(d["coef_l2"]),
        hierarchicality=float(d["coef_hier"]),
    )
    compared = 0
    for name, module in modules.items():
        (value,) = module(*taken)
        expected = float(d[f"term_{name}"])
        assert abs(float(value.detach()) - expected) <= 1e-11 * abs(expected)
        stored = {key: d[f"grad_{name}__{key}"] for key in weights if f"grad_{name}__{key}" in d}
        gradients = torch.autograd.grad(
            value, list(weights.values()), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        largest = max((np.abs(entry).max() for entry in stored.values()), default=0.0)
        for (key, weight), gradient in zip(weights.items(), gradients, strict=True):
            if key in stored:
                assert gradient.shape == weight.shape
                assert np.abs(gradient.numpy().reshape(stored[key].shape) - stored[key]).max() <= 1e-9 * largest
                compared += 1
    assert compared == 4 * len(weights)  # total, per-atom mean, molecule mean and batch by every weight


def by_loops(terms: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each form from its definition, with 0 for 0/0."""

    def share(upper: float, both: float) -> float:
        return upper / both if both else 0.0

    squares = terms**2
    levels = range(1, terms.shape[1])
    atom = np.array([sum(share(row[n], row[n] + row[n - 1]) for n in levels) for row in squares])
    systems = np.split(np.arange(len(terms)), np.cumsum(counts)[:-1])

    def of_sums(rows: np.ndarray) -> float:
        total = squares[rows].sum(axis=0)
        return sum(share(total[n], total[n] + total[n - 1]) for n in levels)

    return {
        "system": np.array([atom[rows].sum() for rows in systems]),
        "atom": atom,
        "molecule": np.array([of_sums(rows) for rows in systems]),
        "batch": np.array(of_sums(np.arange(len(terms)))),
    }


def test_as_defined_with_terms_that_vanish() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([1, 4, 2, 7, 1])
    terms = rng.normal(size=(15, 4)) * 10.0 ** rng.integers(-6, 7, (15, 4))
    terms[rng.random((15, 4)) < 0.3] = 0.0
    terms[5:7] = 0.0  # a whole system
    system_of_atom = torch.from_numpy(np.repeat(np.arange(5), counts))
    found = Hierarchicality()(torch.from_numpy(terms), torch.from_numpy(counts), system_of_atom)
    expected = by_loops(terms, counts)
    for ours, theirs in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-13, atol=0)
    assert expected["molecule"][2] == expected["atom"][5] == 0.0


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [0.0, 1e-200, 1e-160, 1e-30, 1e-14, 1.0, 1e100])
def test_nothing_over_nothing_is_no_nan_nor_are_its_derivatives(kind: int, size: float) -> None:
    terms = torch.zeros((3, 3), dtype=torch.float64)
    terms[1] = size
    terms[2, 1] = size
    terms.requires_grad_(True)
    counts, system_of_atom = torch.tensor([1, 2]), torch.tensor([0, 1, 1])
    value = Hierarchicality()(terms, counts, system_of_atom)[kind]
    assert bool(((value >= 0) & (value <= 6)).all())
    (first,) = torch.autograd.grad(value.sum(), terms, create_graph=True)
    assert bool(torch.isfinite(first).all())
    (second,) = torch.autograd.grad((first * torch.ones_like(first)).sum(), terms)
    assert bool(torch.isfinite(second).all())
    if size == 0.0:
        assert all(float(tensor.detach().abs().sum()) == 0.0 for tensor in (value, first, second))


def test_a_term_that_is_no_number_stays_to_be_seen() -> None:
    terms = torch.ones((2, 3), dtype=torch.float64)
    terms[1, 0] = torch.nan
    system, atom, _, batch_form = Hierarchicality()(terms, torch.tensor([1, 1]), torch.tensor([0, 1]))
    assert bool(torch.isfinite(system[0]))
    assert bool(system[1].isnan() & atom[1].isnan() & batch_form.isnan())


def test_a_model_that_starts_from_nothing_can_be_trained() -> None:
    """E0 and all readouts at 0, as before any fit: every term of every atom is 0/0."""
    energy = energy_node()
    with torch.no_grad():
        for weight in energy.readout.parameters():
            weight.zero_()
    (value,) = values([HierarchicalityNode(energy)], database(3), training=True)
    weights = list(energy.readout.readouts.parameters())
    gradients = torch.autograd.grad(value.sum(), weights)
    assert float(value.detach().abs().max()) == 0.0
    assert all(float(gradient.abs().max()) == 0.0 for gradient in gradients)


def test_terms_add_up_to_the_energy() -> None:
    energy = energy_node()
    terms = EnergyTermsNode(energy.output("atom_energy"))  # any output of the energy will do
    total, system_terms, cumulative = values([energy, terms, terms.output("cumulative")], database(4))
    assert terms.main_output.shape == (3,)
    torch.testing.assert_close(system_terms.sum(dim=1), total, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(cumulative[:, -1], total, rtol=1e-14, atol=1e-14)
    assert bool((cumulative[:, 0] == system_terms[:, 0]).all())


def test_what_the_outputs_are_called_and_stand_for() -> None:
    node = HierarchicalityNode(energy_node())
    known = {key: (node.output(key).name, node.output(key).axis) for key in node.outputs}
    assert known == {
        "system": ("hierarchicality", Axis.SYSTEM),
        "atom": ("atom_hierarchicality", Axis.ATOM),
        "molecule": ("molecule_hierarchicality", Axis.SYSTEM),
        "batch": ("batch_hierarchicality", None),
    }
    assert node.main_output is node.output("system")
    assert all(output.db_name is None for output in node.outputs.values())


def test_mistakes_are_told_where_they_are_made() -> None:
    network = features(n_interactions=1)
    EnergyTermsNode(EnergyNode(network, first_is_interacting=True))
    with pytest.raises(ValueError, match=r"'energy_readout' has one term.*first_is_interacting"):
        HierarchicalityNode(EnergyNode(network, first_is_interacting=True))
    with pytest.raises(ValueError, match=r"Hierarchicality is computed from .* an EnergyNode, got .*'network'"):
        HierarchicalityNode(network)
    with pytest.raises(ValueError, match="Energy terms are computed from the terms of an EnergyNode"):
        EnergyTermsNode(network.levels[0])
