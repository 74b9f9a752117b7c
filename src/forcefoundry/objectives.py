"""Recipes: inputs, pairs, network, targets and losses wired into what a run optimises and is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forcefoundry.graph import Node
from forcefoundry.inputs import Inputs
from forcefoundry.losses import L2, MAE, R2, RMSE
from forcefoundry.networks.base import Network, NetworkNode
from forcefoundry.pairs import Finder, PairFinderNode, PairVectorsNode
from forcefoundry.plots.base import Quantity
from forcefoundry.targets.energy import EnergyNode, EnergyReadout
from forcefoundry.targets.forces import ForcesNode


@dataclass(frozen=True)
class Objective:
    """What a run needs to know of its graph.

    train_loss, validation_losses: for `assemble_for_training`; a validation loss is called QUANTITY_METRIC.
    quantities: what can be plotted. readout: where E0 goes. outputs: what a trained potential gives, by column name.
    """

    network: Network
    train_loss: Node
    validation_losses: Mapping[str, Node]
    quantities: Mapping[str, Quantity]
    readout: EnergyReadout
    outputs: Mapping[str, Node]


METRICS = {"mae": MAE, "rmse": RMSE, "r2": R2}


def energy_and_forces(
    network: Network,
    finder: Finder | None = None,
    energy_weight: float = 1.0,
    forces_weight: float = 1.0,
    l2: float = 1e-6,
    train_e0: bool = False,
) -> Objective:
    """RMSE + MAE of the energy per atom and of the forces, and an L2 penalty.

    Args:
        network: features of atoms.
        finder: how pairs are found while the model runs.
        energy_weight: weight of RMSE + MAE of the energy per atom, in eV.
        forces_weight: weight of RMSE + MAE of the force components, in eV/Å.
        l2: weight of the sum of squared weights.
        train_e0: whether the energies of the single species are trained as well.
    """
    for name, weight in (("energy_weight", energy_weight), ("forces_weight", forces_weight), ("l2", l2)):
        if not weight >= 0:
            raise ValueError(f"objective.{name} is {weight}, expected 0 or more.")
    if energy_weight == 0 and forces_weight == 0:
        raise ValueError("objective.energy_weight and objective.forces_weight are both 0: nothing is trained on.")
    inputs = Inputs()
    pairs = PairFinderNode(inputs, network.cutoff, finder)
    i, j, S = (pairs.output(key) for key in ("i", "j", "S"))
    vectors = PairVectorsNode(inputs, i, j, S)
    features = NetworkNode(network, inputs.species, i, j, vectors)
    readout = EnergyNode(inputs, features, train_e0)
    energy = readout.output("energy")
    forces = ForcesNode(inputs, energy)

    n_atoms = inputs.n_atoms.true
    quantities = {
        "energy_per_atom": Quantity(
            "energy_per_atom", "energy per atom", "eV", energy.pred / n_atoms, energy.true / n_atoms
        ),
        "forces": Quantity("forces", "force component", "eV/Å", forces.pred, forces.true),
    }
    weights = {"energy_per_atom": energy_weight, "forces": forces_weight}
    terms = [
        weights[name] * (RMSE(q.pred, q.true) + MAE(q.pred, q.true))
        for name, q in quantities.items()
        if weights[name] > 0
    ]
    if l2 > 0:
        terms.append(l2 * L2(features))
    loss = terms[0]
    for term in terms[1:]:
        loss = loss + term
    validation = {
        f"{name}_{metric}": kind(q.pred, q.true) for name, q in quantities.items() for metric, kind in METRICS.items()
    }
    return Objective(network, loss, validation, quantities, readout.readout, {"energy": energy, "forces": forces})
