"""assemble: the graph that training will run, resolved, with its initial weights by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forcefoundry.files import write_json
from pipeline.step import Step
from pipeline.steps.workspace import (
    ASSEMBLE,
    LOAD,
    MODEL_CODE,
    PAIRS,
    assembled_with_pairs,
    load_columns,
    prepare_process,
)

if TYPE_CHECKING:
    from forcefoundry.databases import Database

logger = logging.getLogger(__name__)


def run(params: Mapping[str, Any]) -> None:
    """Write artifacts/assemble/: graph.json, initial.safetensors and e0.json."""
    from ase.data import chemical_symbols

    from forcefoundry.experiment.resolved import describe
    from forcefoundry.interfaces.model_folder import build_objective, save_weights
    from forcefoundry.targets.e0 import initialise_energy, least_squares_e0, species_counts

    prepare_process(params)
    database = load_columns()
    _check_species(database)
    objective = build_objective(params, database.species)
    species = objective.network.species
    modules, info = assembled_with_pairs(params, database, objective)
    train = database.split("train")
    counts = species_counts(database, train, species)
    e0 = least_squares_e0(counts, database.columns["energy"][train])
    initialise_energy(objective.readout, e0)
    save_weights(ASSEMBLE / "initial.safetensors", modules.model)
    write_json(
        ASSEMBLE / "e0.json", {chemical_symbols[z]: value for z, value in zip(species, e0.tolist(), strict=True)}
    )
    write_json(ASSEMBLE / "graph.json", describe(modules.model, info))
    logger.info("the model reads %s; the loss reads %s", ", ".join(info["inputs"]), ", ".join(info["targets"]))


def _check_species(database: Database) -> None:
    """Refuse an element that is judged but never trained on: nothing could be learned of it, not even its E0."""
    from ase.data import chemical_symbols

    def of(split: str) -> set[int]:
        return {int(z) for at in database.split(split) for z in database.columns["species"][database.atoms(at)]}

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
    params=("network", "objective", "pairs", "training.seed", "training.dtype"),
    outs=tuple(str(ASSEMBLE / name) for name in ("graph.json", "initial.safetensors", "e0.json")),
)
