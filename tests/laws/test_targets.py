"""The laws of targets: every quantity in the room turns, moves and reorders with its structure, and knows no neighbour.

A new target gets a line in MAKERS; one without is told.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from forcefoundry import targets as room
from forcefoundry.batches import Packer
from forcefoundry.build import cast, seeded
from forcefoundry.databases import Database
from forcefoundry.graph import GraphModule, MultiNode, Node, OutputNode, input_nodes
from forcefoundry.inputs import Inputs
from forcefoundry.networks.base import NetworkNode
from forcefoundry.networks.hipnn import HIPNN
from forcefoundry.targets.atoms import AtomQuantityNode, ChargesNode
from forcefoundry.targets.coulomb import CoulombNode
from forcefoundry.targets.dipole import DipoleNode
from forcefoundry.targets.energy import EnergyNode
from forcefoundry.targets.forces import ForcesNode
from forcefoundry.targets.hierarchicality import EnergyTermsNode, HierarchicalityNode
from forcefoundry.targets.screened import ScreenedCoulombNode
from forcefoundry.targets.stress import ForcesAndStressNode
from tests.laws.rooms import CUTOFF, SPECIES, changed, structures
from tests.laws.test_drawn_structures import close

MAKERS: dict[type[Node], Callable[[NetworkNode], Node]] = {
    EnergyNode: EnergyNode,
    ForcesNode: lambda features: ForcesNode(EnergyNode(features)),
    ForcesAndStressNode: lambda features: ForcesAndStressNode(EnergyNode(features)),
    HierarchicalityNode: lambda features: HierarchicalityNode(EnergyNode(features)),
    EnergyTermsNode: lambda features: EnergyTermsNode(EnergyNode(features)),
    AtomQuantityNode: lambda features: AtomQuantityNode(features, "moment", size=2),
    ChargesNode: ChargesNode,
    DipoleNode: lambda features: DipoleNode(ChargesNode(features)),
    CoulombNode: lambda features: ForcesAndStressNode(CoulombNode(ChargesNode(features))),
    ScreenedCoulombNode: lambda features: ForcesAndStressNode(ScreenedCoulombNode(ChargesNode(features), CUTOFF)),
}


def in_the_room() -> list[type[Node]]:
    """Every kind of node that the files of the room define."""
    modules = [importlib.import_module(f"{room.__name__}.{info.name}") for info in pkgutil.iter_modules(room.__path__)]
    found = [(module, kind) for module in modules for kind in vars(module).values() if inspect.isclass(kind)]
    return [kind for module, kind in found if issubclass(kind, Node) and kind.__module__ == module.__name__]


KINDS = [pytest.param(kind, id=kind.__name__) for kind in in_the_room()]


class Quantities:
    """All outputs of a target over one small network."""

    def __init__(self, kind: type[Node], dtype: torch.dtype = torch.float64):
        with seeded(0):
            network = HIPNN(SPECIES, 6, 6, 0.9, 4.0, CUTOFF, n_interactions=1, n_atom_layers=1, l_max=2)
            node = MAKERS[kind](NetworkNode(network, Inputs.new().strained()))
        self.nodes = [node.output(key) for key in node.outputs] if isinstance(node, MultiNode) else [node]
        self.model = GraphModule(input_nodes(self.nodes), self.nodes).eval()
        cast(self.model, dtype)

    def __call__(self, base: Database, rows: list[int] | None = None) -> dict[str, np.ndarray]:
        """Values by the name of their node."""
        at = np.arange(len(base)) if rows is None else np.array(rows)
        packed = Packer(base, [str(node.db_name) for node in self.model.inputs]).pack(at)
        values = self.model(*(packed[str(node.db_name)] for node in self.model.inputs))
        return {node.name: value.numpy() for node, value in zip(self.nodes, values, strict=True)}


def open_and_periodic() -> Database:
    """Structures that are open or periodic in all directions, where every quantity is defined or NaN."""
    base = structures(6)
    pbc = base.columns["pbc"].all(axis=1)
    return changed(base, pbc=np.repeat(pbc[:, None], 3, axis=1))


def turned(values: np.ndarray, node: Node, turn: np.ndarray) -> np.ndarray:
    """What a scalar, a vector or a tensor becomes when the structure is turned."""
    if node.shape == (3,):
        return np.asarray(values @ turn)
    return np.asarray(turn.T @ values @ turn) if node.shape == (3, 3) else values


def test_every_target_in_the_room_is_held_to_the_laws() -> None:
    assert [kind.__name__ for kind in in_the_room() if kind not in MAKERS] == []
    assert len(KINDS) >= 9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reflected", [False, True])
def test_turned_moved_and_reordered(kind: type[Node], reflected: bool) -> None:
    judge, base = Quantities(kind), open_and_periodic()
    turn = Rotation.random(random_state=7).as_matrix() * (-1.0 if reflected else 1.0)
    rng = np.random.default_rng(1)
    order = np.concatenate([base.offsets[at] + rng.permutation(base.columns["n_atoms"][at]) for at in range(len(base))])
    moved = (base.columns["positions"] @ turn + np.array([3.0, -8.0, 1.0]))[order]
    other = changed(base, positions=moved, cell=base.columns["cell"] @ turn, species=base.columns["species"][order])
    before, after = judge(base), judge(other)
    for node in judge.nodes:
        expected = turned(before[node.name], node, turn)
        close(
            after[node.name], expected[order] if len(expected.shape) and len(expected) == len(order) else expected, 1e-9
        )
    finite = [np.abs(value[np.isfinite(value)]).max() for value in before.values()]
    assert min(finite) > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_many_is_each_alone(kind: type[Node]) -> None:
    judge, base = Quantities(kind), open_and_periodic()
    together = judge(base)
    for at in range(len(base)):
        alone = judge(base, [at])
        for node in judge.nodes:
            if node.axis is None:
                continue  # one number for the batch: what a batch is, it depends on
            own = base.atoms(at) if len(together[node.name]) == base.offsets[-1] else slice(at, at + 1)
            close(alone[node.name], together[node.name][own], 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_axes_are_those_that_the_node_says(kind: type[Node]) -> None:
    judge, base = Quantities(kind), open_and_periodic()
    rows = {"system": len(base), "atom": int(base.offsets[-1])}
    for node, value in zip(judge.nodes, judge(base).values(), strict=True):
        assert node.shape is not None
        assert value.shape == ((rows[node.axis.value], *node.shape) if node.axis is not None else node.shape)
        assert value.dtype == np.float64
        assert isinstance(node, OutputNode) or node.unit or kind is AtomQuantityNode


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_near_float64(kind: type[Node]) -> None:
    exact, rounded, base = Quantities(kind), Quantities(kind, torch.float32), open_and_periodic()
    for found, expected in zip(rounded(base).values(), exact(base).values(), strict=True):
        close(found, expected, 1e-4)
        assert found.dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_the_weights_are_finite_also_for_one_atom_and_no_pair(kind: type[Node]) -> None:
    judge, base = Quantities(kind), open_and_periodic()
    lonely = Database({"n_atoms": [1, 2], "species": [6, 8, 8], "positions": [[0, 0, 0], [0, 0, 0], [90, 0, 0]],
                       "cell": np.zeros((2, 3, 3)), "pbc": np.zeros((2, 3), dtype=bool)})  # fmt: skip
    for data in (base, lonely):
        packed = Packer(data, [str(node.db_name) for node in judge.model.inputs]).pack(np.arange(len(data)))
        values = judge.model.train()(*packed.values())
        total = sum(value[~value.isnan()].square().sum() for value in values)
        assert isinstance(total, torch.Tensor)
        weights = [weight for weight in judge.model.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
