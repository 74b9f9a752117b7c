"""Recipes: inputs, pairs, network, targets and losses wired into what a run optimises and is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from forcefoundry.graph import InputNode, Node
from forcefoundry.inputs import Inputs
from forcefoundry.losses import L2, MAE, R2, RMSE, Mean, per_atom
from forcefoundry.networks.base import Network, NetworkNode
from forcefoundry.pairs import Finder
from forcefoundry.plots.base import Quantity
from forcefoundry.targets.atoms import ChargesNode
from forcefoundry.targets.dipole import DipoleNode
from forcefoundry.targets.energy import EnergyNode, EnergyReadout
from forcefoundry.targets.forces import ForcesNode
from forcefoundry.targets.hierarchicality import HierarchicalityNode
from forcefoundry.targets.stress import ForcesAndStressNode


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
    stress_weight: float = 0.0,
    hierarchicality: float = 0.0,
    first_is_interacting: bool = False,
) -> Objective:
    """RMSE + MAE of the energy per atom and of the forces, of the stress where asked, and penalties.

    Args:
        network: features of atoms.
        finder: how pairs are found while the model runs.
        energy_weight: weight of RMSE + MAE of the energy per atom, in eV.
        forces_weight: weight of RMSE + MAE of the force components, in eV/Å.
        l2: weight of the sum of squared weights.
        train_e0: whether the energies of the single species are trained as well.
        stress_weight: weight of RMSE + MAE of the stress components, in eV/Å³; at 0 there is no stress at all, and
            its labels are not needed.
        hierarchicality: weight of the mean over systems of the hierarchicality per atom.
        first_is_interacting: leave the energies of the single species out.
    """
    weights = {"energy_per_atom": energy_weight, "forces": forces_weight, "stress": stress_weight}
    _check(energy_weight=energy_weight, forces_weight=forces_weight, stress_weight=stress_weight)
    if not any(weights.values()):
        raise ValueError(
            "objective.energy_weight, objective.forces_weight and objective.stress_weight are all 0: nothing is "
            "trained on."
        )
    base = _Energy(network, finder, train_e0, first_is_interacting, strained=stress_weight > 0)
    return base.objective(weights, l2, hierarchicality, {})


def energy_forces_charges(
    network: Network,
    finder: Finder | None = None,
    energy_weight: float = 1.0,
    forces_weight: float = 1.0,
    charges_weight: float = 1.0,
    dipole_weight: float = 1.0,
    l2: float = 1e-6,
    train_e0: bool = False,
    hierarchicality: float = 0.0,
    first_is_interacting: bool = False,
    conserve_charge: bool = True,
    total_charge: bool = False,
) -> Objective:
    """RMSE + MAE of the energy per atom, the forces, partial charges and the dipole moments that follow from them.

    Args:
        network: features of atoms.
        finder: how pairs are found while the model runs.
        energy_weight: weight of RMSE + MAE of the energy per atom, in eV.
        forces_weight: weight of RMSE + MAE of the force components, in eV/Å.
        charges_weight: weight of RMSE + MAE of the partial charges, in e; at 0 their labels are not needed.
        dipole_weight: weight of RMSE + MAE of the dipole components, in e·Å; at 0 their labels are not needed. Systems
            that are periodic in any direction have no dipole moment.
        l2: weight of the sum of squared weights.
        train_e0: whether the energies of the single species are trained as well.
        hierarchicality: weight of the mean over systems of the hierarchicality per atom.
        first_is_interacting: leave the energies of the single species out.
        conserve_charge: whether the charges of a system sum to its total charge.
        total_charge: whether the column `charge` says what they sum to; else it is 0.
    """
    given = {"energy_per_atom": energy_weight, "forces": forces_weight}
    asked = {"charges": charges_weight, "dipole": dipole_weight}
    _check(**{f"{name.removesuffix('_per_atom')}_weight": weight for name, weight in (given | asked).items()})
    if not any(asked.values()):
        raise ValueError(
            "objective.charges_weight and objective.dipole_weight are both 0: no charges are trained. Give one, or use "
            "objective=energy_forces."
        )
    base = _Energy(network, finder, train_e0, first_is_interacting)
    charges = ChargesNode(base.features, conserve_charge, InputNode("charge") if total_charge else None)
    return base.objective(given | asked, l2, hierarchicality, {"charges": charges, "dipole": DipoleNode(charges)})


LABELS = {
    "energy_per_atom": ("energy per atom", "eV"),
    "forces": ("force component", "eV/Å"),
    "stress": ("stress component", "eV/Å³"),
    "charges": ("partial charge", "e"),
    "dipole": ("dipole component", "e·Å"),
}
"""What axes of plots say of each quantity, and its unit."""


class _Energy:
    """What every recipe begins with: a network, its energy, and the forces, with the stress in a strained graph."""

    def __init__(
        self,
        network: Network,
        finder: Finder | None,
        train_e0: bool,
        first_is_interacting: bool,
        strained: bool = False,
    ):
        self.inputs = Inputs.new().strained() if strained else Inputs.new()
        self.features = NetworkNode(network, self.inputs, finder)
        self.node = EnergyNode(self.features, train_e0, first_is_interacting)
        energy = self.node.output("energy")
        self.outputs: dict[str, Node] = {"energy": energy}
        if strained:
            derivatives = ForcesAndStressNode(energy)
            self.outputs |= {key: derivatives.output(key) for key in derivatives.outputs}
        else:
            self.outputs["forces"] = ForcesNode(energy)

    def objective(
        self, weights: Mapping[str, float], l2: float, hierarchicality: float, more: Mapping[str, Node]
    ) -> Objective:
        """Losses of the quantities and penalties; `more` are outputs beside energy, forces and stress."""
        _check(l2=l2, hierarchicality=hierarchicality)
        outputs = {**self.outputs, **more}
        quantities = {}
        # Energy and forces are always judged; what else weighs nothing needs no labels.
        for name in [name for name in weights if weights[name] > 0 or name in ("energy_per_atom", "forces")]:
            label, unit = LABELS[name]
            node = outputs[name.removesuffix("_per_atom")]
            sides: tuple[Node, Node] = (node.pred, node.true)
            if name == "energy_per_atom":
                sides = (per_atom(node.pred), per_atom(node.true))
            quantities[name] = Quantity(name, label, unit, *sides)
        terms = [
            weights[name] * (RMSE(q.pred, q.true) + MAE(q.pred, q.true))
            for name, q in quantities.items()
            if weights[name] > 0
        ]
        if l2 > 0:
            terms.append(l2 * L2(self.features))
        if hierarchicality > 0:
            terms.append(hierarchicality * Mean(per_atom(HierarchicalityNode(self.node).pred)))
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        validation = {
            f"{name}_{metric}": kind(q.pred, q.true)
            for name, q in quantities.items()
            for metric, kind in METRICS.items()
        }
        network = self.features.network
        return Objective(network, loss, validation, quantities, self.node.readout, outputs)


def _check(**weights: float) -> None:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"objective.{name} is {weight}, expected a number of 0 or more.")
