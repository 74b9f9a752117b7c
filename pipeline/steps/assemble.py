"""assemble: the graph that training will run, resolved, with its initial weights by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forcefoundry.files import write_json, written_whole
from pipeline.step import Step
from pipeline.steps.workspace import (
    ASSEMBLE,
    LOAD,
    MODEL_CODE,
    PAIR_PARAMS,
    PAIRS,
    assembled_with_pairs,
    load_columns,
    prepare_process,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forcefoundry.databases import Database
    from forcefoundry.objectives import Objective

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/assemble/: graph.json, graph.md for people, initial.safetensors and e0.json."""
    from forcefoundry.experiment.resolved import describe
    from forcefoundry.interfaces.model_folder import build_objective, save_weights

    prepare_process(params)
    database = load_columns()
    _check_species(database)
    objective = build_objective(params, database.species)
    modules, info = assembled_with_pairs(params, database, objective)
    _check_columns(database, [*info["inputs"], *info["targets"]])
    write_json(ASSEMBLE / "e0.json", _initialised(database, objective, (params.get("database") or {}).get("e0")))
    save_weights(ASSEMBLE / "initial.safetensors", modules.model)
    write_json(ASSEMBLE / "graph.json", describe(modules.model, info))
    with written_whole(ASSEMBLE / "graph.md") as draft:
        draft.write_text(_drawn(objective), encoding="utf-8")
    logger.info("the model reads %s; the loss reads %s", ", ".join(info["inputs"]), ", ".join(info["targets"]))


def _initialised(database: Database, objective: Objective, e0: Any = None) -> dict[str, float]:
    """Start from energies of single species, by symbol, eV: fitted to the energies of `train`, or as `e0` says.

    `e0` is that of the `database` section: null or least_squares, isolated_atoms, or energies by symbol. An objective
    whose energy starts at the first interaction has none.
    """
    from ase.data import chemical_symbols

    from forcefoundry.targets.e0 import initialise_energy

    if objective.readout.e0 is None:
        return {}
    species = objective.network.species
    energies = _e0(database, species, e0)
    initialise_energy(objective.readout, energies)
    return {chemical_symbols[z]: value for z, value in zip(species, energies.tolist(), strict=True)}


def _e0(database: Database, species: Sequence[int], asked: Any) -> NDArray[np.float64]:
    from forcefoundry.databases.isolated import given_e0, isolated_e0
    from forcefoundry.targets.e0 import least_squares_e0, species_counts

    if isinstance(asked, Mapping):
        return given_e0(asked, species)
    if asked == "isolated_atoms":
        return isolated_e0(database, species)
    if asked not in (None, "least_squares"):
        raise ValueError(f"database.e0 is {asked!r}, expected least_squares, isolated_atoms or {{H: -13.6}} in eV.")
    train = database.split("train")
    return least_squares_e0(species_counts(database, train, species), database.columns.take("energy", train))


def _drawn(objective: Objective) -> str:
    from forcefoundry.graph import as_mermaid, as_text

    nodes = [objective.train_loss, *objective.outputs.values()]
    return (
        "# What is trained\n\nS systems, N atoms, P pairs.\n\n"
        f"```\n{as_text(nodes)}\n```\n\n```mermaid\n{as_mermaid(nodes)}```\n"
    )


def _check_columns(database: Database, names: Sequence[str]) -> None:
    """Refuse an objective that reads what was not loaded: labels, or the total charge."""
    from forcefoundry.columns import COLUMNS, DERIVED

    lacking = [name for name in names if name in COLUMNS and name not in {*database.columns, *DERIVED}]
    if lacking:
        raise ValueError(
            f"The objective needs {', '.join(lacking)}, and the data were loaded without. Load them with "
            f"{' '.join(f'+database.keys.{name}=null' for name in lacking)} (null: under one of the usual keys), or "
            "choose another objective."
        )


def _check_species(database: Database) -> None:
    """Refuse an element that is judged but never trained on: nothing could be learned of it, not even its E0."""
    from ase.data import chemical_symbols

    from forcefoundry.targets.e0 import species_counts

    def of(split: str) -> set[int]:
        counts = species_counts(database, database.split(split), database.species).sum(axis=0)
        return {z for z, count in zip(database.species, counts.tolist(), strict=True) if count}

    trained = of("train")
    for split in database.splits:
        lacking = sorted(of(split) - trained)
        if lacking:
            raise ValueError(
                f"The split {split!r} contains {', '.join(chemical_symbols[z] for z in lacking)}, which no structure "
                "that is trained on does. Add such structures to training, or take them out of the data."
            )


STEP = Step(
    "assemble",
    run,
    deps=(
        "pipeline/steps/assemble.py",
        "pipeline/steps/workspace.py",
        *MODEL_CODE,
        str(LOAD / "columns"),
        str(PAIRS / "digest.json"),
    ),
    params=("database.e0", "network", "objective", *PAIR_PARAMS, "training.seed", "training.dtype"),
    outs=tuple(str(ASSEMBLE / name) for name in ("graph.json", "graph.md", "initial.safetensors", "e0.json")),
)
