"""Models of hippynn and what they say of structures; run by an interpreter that has hippynn and needs nothing else.

python hippynn_side.py models FOLDER      one subfolder a case: weights.pt, settings.yaml, answers.npz
python hippynn_side.py steps FOLDER       trains a few steps as job.json says, on data.npz, and writes what came out
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

SMALL = {
    "possible_species": [0, 1, 6, 8],
    "n_features": 6,
    "n_sensitivities": 7,
    "dist_soft_min": 0.8,
    "dist_soft_max": 3.2,
    "dist_hard_max": 3.9,
    "n_interaction_layers": 2,
    "n_atom_layers": 2,
}
KINDS = ("Hipnn", "HipnnVec", "HipnnQuad")
VARIANTS: dict[str, dict[str, Any]] = {
    "no_resnet": {"resnet": False},
    "inner_width": {"resnet": 9},
    "inner_widths": {"resnet": [9, 4], "n_features": [6, 5]},
    "widths": {"n_features": [5, 8, 5], "n_interaction_layers": 3, "n_atom_layers": 1},
    "no_atom_layers": {"n_atom_layers": 0},
    "one_block": {"n_interaction_layers": 1},
    "species_order": {"possible_species": [0, 8, 1, 6]},
    "silu": {"activation": "SiLU"},
    "cusp": {"cusp_reg": 1e-4},
    "first_is_interacting": {"first_is_interacting": True},
    "float32": {"dtype": "float32"},
    "pairs_precomputed": {"precompute": True},
}


def cases() -> dict[str, dict[str, Any]]:
    """Name of each case: what it has beside `SMALL`."""
    found = {f"{kind}_{where}": {"kind": kind, "where": where} for kind in KINDS for where in ("open", "periodic")}
    return found | {name: {"kind": "HipnnQuad", "where": "periodic", **changes} for name, changes in VARIANTS.items()}


def structures(where: str) -> dict[str, np.ndarray]:
    """Padded species and positions, and cells of either hand; one atom alone, one cell smaller than the cutoff."""
    rng = np.random.default_rng(5)
    sizes = (1, 2, 5, 9, 4, 7)
    found = {"Z": np.zeros((len(sizes), 9), dtype=np.int64), "R": np.zeros((len(sizes), 9, 3))}
    cells = np.array([np.eye(3) * size + rng.normal(0, 0.3, (3, 3)) for size in (2.2, 3.0, 4.5, 5.5, 4.4, 5.0)])
    cells[3] = cells[3][[1, 0, 2]]  # left-handed
    for at, size in enumerate(sizes):
        corners = np.array(list(np.ndindex(3, 3, 2)))[rng.permutation(18)[:size]] / np.array([3, 3, 2])
        found["Z"][at, :size] = rng.choice([1, 6, 8], size)
        found["R"][at, :size] = corners @ cells[at] + rng.normal(0, 0.08, (size, 3)) + rng.integers(-1, 2, (size, 1))
    return found | ({"C": cells} if where == "periodic" else {})


def wired(
    kind: str, where: str, network: dict[str, Any], first_is_interacting: bool = False, peratom: bool = False
) -> dict[str, Any]:
    """The nodes of an energy model, by the columns that they read or give; `E` is the energy, or that per atom."""
    from hippynn.graphs import inputs, networks, physics, targets

    nodes: dict[str, Any] = {"Z": inputs.SpeciesNode(db_name="Z"), "R": inputs.PositionsNode(db_name="R")}
    if where == "periodic":
        nodes["C"] = inputs.CellNode(db_name="C")
    arguments = dict(network)
    if "activation" in arguments:
        arguments["activation"] = getattr(torch.nn, arguments["activation"])
    nodes["network"] = getattr(networks, kind)(
        "HIPNN", tuple(nodes.values()), module_kwargs=arguments, periodic=where == "periodic"
    )
    nodes["readout"] = targets.HEnergyNode("HEnergy", nodes["network"], first_is_interacting=first_is_interacting)
    nodes["E"] = nodes["total"] = nodes["readout"].mol_energy
    if peratom:
        nodes["E"] = physics.PerAtom("EperAtom", nodes["total"])
    nodes["F"] = physics.GradientNode("forces", (nodes["total"], nodes["R"]), sign=-1)
    nodes["E"].db_name, nodes["F"].db_name = "E", "F"
    return nodes


def losses(
    nodes: dict[str, Any], energy: float, forces: float, l2: float, hierarchicality: float, peratom: bool
) -> Any:
    """RMSE and MAE of energies and forces and the usual penalties, each with its weight."""
    from hippynn.graphs import loss, physics

    terms = []
    for weight, node in ((energy, nodes["E"]), (forces, nodes["F"])):
        if weight:
            terms.append(weight * (loss.MSELoss.of_node(node) ** 0.5 + loss.MAELoss.of_node(node)))
    if l2:
        terms.append(l2 * loss.l2reg(nodes["network"]))
    if hierarchicality:
        node = nodes["readout"].hierarchicality
        terms.append(hierarchicality * loss.Mean((physics.PerAtom("RperAtom", node) if peratom else node).pred))
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def tensors(arrays: dict[str, np.ndarray], names: list[str], rows: Any = slice(None)) -> list[torch.Tensor]:
    """Columns of some structures, floats in the default dtype."""
    found = [torch.from_numpy(arrays[name][rows]) for name in names]
    return [value.to(torch.get_default_dtype()) if value.is_floating_point() else value for value in found]


def models(folder: Path) -> None:
    """Write every case."""
    for name, case in cases().items():
        write_case(folder / name, **case)


def write_case(
    folder: Path,
    kind: str,
    where: str,
    first_is_interacting: bool = False,
    dtype: str = "float64",
    precompute: bool = False,
    **changes: Any,
) -> None:
    """Weights that are drawn at random, and what hippynn makes of them."""
    from hippynn.experiment.assembly import assemble_for_training
    from hippynn.graphs import GraphModule

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    network = SMALL | changes
    nodes = wired(kind, where, network, first_is_interacting)
    training_loss = losses(nodes, 1.0, 1.0, 1e-6, 1.0, peratom=False)
    modules, _ = assemble_for_training(training_loss, {"loss": training_loss})
    with torch.no_grad():
        for weight in modules[0].parameters():
            if weight.is_floating_point():
                weight *= 1.0 + 0.2 * torch.rand_like(weight)
    arrays = structures(where)
    columns = [name for name in ("Z", "R", "C") if name in arrays]
    wanted = [nodes["total"], nodes["F"]]
    values = GraphModule([nodes[name] for name in columns], wanted)(*tensors(arrays, columns))
    answers = dict(zip(("energy", "forces"), values, strict=True))
    if precompute:
        modules = with_pairs(modules, training_loss, arrays)
    torch.save(modules[0].state_dict(), folder / "weights.pt")
    if where == "periodic" and not precompute:
        answers["stress"] = stress(nodes, tensors(arrays, columns))
    more = {"first_is_interacting": first_is_interacting, "energy_unit": "eV"}
    (folder / "settings.yaml").write_text(json.dumps(network | more))
    np.savez(folder / "answers.npz", **arrays, **{key: value.detach().numpy() for key, value in answers.items()})


def stress(nodes: dict[str, Any], values: list[torch.Tensor]) -> torch.Tensor:
    """By strain, as hippynn's ASE calculator does it; the nodes are of no other use afterwards."""
    from hippynn.graphs import GraphModule, replace_node
    from hippynn.graphs.nodes.misc import StrainInducer
    from hippynn.graphs.nodes.physics import StressForceNode

    strained = StrainInducer("strained", (nodes["R"], nodes["C"]))
    both = StressForceNode("both", (nodes["total"], strained.strain, nodes["R"], nodes["C"]))
    replace_node(nodes["R"], strained.strained_coordinates)
    replace_node(nodes["C"], strained.strained_cell)
    return GraphModule([nodes["Z"], nodes["R"], nodes["C"]], [both.stress])(*values)[0]


def with_pairs(modules: Any, training_loss: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The same model assembled again, reading its pairs from a database."""
    from hippynn.databases import Database
    from hippynn.experiment.assembly import assemble_for_training, precompute_pairs

    n = len(arrays["Z"])
    labelled = arrays | {"E": np.zeros((n, 1)), "F": np.zeros_like(arrays["R"])}
    database = Database(labelled, ["Z", "R", "C"], ["Z", "E", "F"], seed=0, quiet=True)
    database.make_random_split("train", n)
    precompute_pairs(modules[0], database, device="cpu")
    return assemble_for_training(training_loss, {"loss": training_loss})[0]


def steps(folder: Path) -> None:
    """Adam from the weights that E0's least squares leave; weights and gradients are written under their own names."""
    from hippynn.databases import Database
    from hippynn.experiment.assembly import assemble_for_training
    from hippynn.pretraining import hierarchical_energy_initialization

    job = json.loads((folder / "job.json").read_text())
    arrays = dict(np.load(folder / "data.npz"))
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    peratom = job["losses"]["peratom"]
    nodes = wired(job["kind"], job["where"], job["network"], peratom=peratom)
    training_loss = losses(nodes, **job["losses"])
    (model, loss, _), info = assemble_for_training(training_loss, {"loss": training_loss})
    torch.save(model.state_dict(), folder / "drawn.pt")
    database = Database(arrays, info["inputs"], info["targets"], seed=0, quiet=True)
    database.make_random_split("train", len(arrays["Z"]))
    hierarchical_energy_initialization(nodes["readout"], database, energy_name="E", species_name="Z", peratom=peratom)
    torch.save(model.state_dict(), folder / "start.pt")
    optimiser = torch.optim.Adam(model.parameters(), lr=job["learning_rate"])
    found = []
    for number, rows in enumerate(job["batches"]):
        given = model(*tensors(arrays, info["inputs"], rows))
        value = loss(*given, *tensors(arrays, info["targets"], rows))[0]
        optimiser.zero_grad()
        value.backward()
        found.append(float(value))
        if number == 0:
            gradients = {id(weight): weight.grad for weight in model.parameters()}
            named = {name: gradients[id(weight)] for name, weight in model.named_parameters(remove_duplicate=False)}
            zeros = {name: torch.zeros_like(weight) for name, weight in model.named_parameters(remove_duplicate=False)}
            kept = {name: value for name, value in model.state_dict().items() if name.endswith("species_map")}
            torch.save(zeros | {k: v for k, v in named.items() if v is not None} | kept, folder / "gradients.pt")
        optimiser.step()
        if number == 0:
            torch.save(model.state_dict(), folder / "one_step.pt")
    torch.save(model.state_dict(), folder / "all_steps.pt")
    (folder / "losses.json").write_text(json.dumps(found))


if __name__ == "__main__":
    import hippynn

    # Its plain kernel: numba's leaves out every sensitivity below 1e-10.
    hippynn.custom_kernels.set_custom_kernels("_pytorch_raw")
    {"models": models, "steps": steps}[sys.argv[1]](Path(sys.argv[2]))
