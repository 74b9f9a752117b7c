"""The data card of a run: what `load` counted, with what only the columns and the pairs can tell, as a page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefoundry.files import read_json, written_whole
from pipeline.card_page import page
from pipeline.steps.workspace import LOAD, kept_pairs, load_columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forcefoundry.databases import Database

CARD = LOAD / "card.json"
COLUMNS = LOAD / "columns"

_AT_ONCE = 100_000

logger = logging.getLogger(__name__)


def write_page(params: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Write the page and give the card it shows; memory does not grow with the number of atoms."""
    card: dict[str, Any] = read_json(CARD)
    card["histograms"] |= _of_atoms(params)
    title = f"Data card: {Path(str(params['database']['path'])).name}"
    with written_whole(place) as draft:
        draft.write_text(page(card, title), encoding="utf-8")
    return card


def _of_atoms(params: Mapping[str, Any]) -> dict[str, Any]:
    from forcefoundry.contract.histograms import histogram

    database = load_columns()
    names, split = _splits(database)
    found = {"force_components": _forces(database, names, split)}
    pairs = _pairs(params, database)
    if pairs is not None:
        found["pairs_per_atom"] = histogram(pairs, split, names, "pairs/atom")
    return {name: made for name, made in found.items() if made is not None}


def _splits(database: Database) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the splits that have structures, and (n,) which of them each structure is in."""
    import numpy as np

    from forcefoundry.contract.card import NOWHERE

    names = [name for name, members in database.splits.items() if len(members)]
    split = np.full(len(database), len(names), dtype=np.int64)
    for at, name in enumerate(names):
        split[database.splits[name]] = at
    return [*names, *([NOWHERE] if (split == len(names)).any() else [])], split


def _forces(database: Database, names: Sequence[str], split: NDArray[np.int64]) -> dict[str, Any] | None:
    import numpy as np

    from forcefoundry.contract.histograms import streamed_histogram
    from forcefoundry.databases.mapped import pieces

    if "forces" not in database.columns:
        return None
    n_atoms = database.n_atoms

    def blocks() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        for part in pieces(np.arange(len(database)), n_atoms, _AT_ONCE):
            yield database.columns.take("forces", part).reshape(-1), np.repeat(split[part], 3 * n_atoms[part])

    return streamed_histogram(blocks, names, "eV/Å")


def _pairs(params: Mapping[str, Any], database: Database) -> NDArray[np.float64] | None:
    """(n,) pairs an atom of each structure; None where pairs are not kept."""
    if params["pairs"]["source"] != "cache":
        return None
    try:
        table = kept_pairs(database, float(params["pairs"]["cutoff"]))
    except ValueError as error:
        logger.warning("the data card is without the number of pairs: %s", error)
        return None
    found: NDArray[np.float64] = table.pairs_of_structure / database.n_atoms
    return found
