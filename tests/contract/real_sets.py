"""The real sets that lie outside the repository, measured as the door measures them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from forcefoundry.contract.measures import Measures
from forcefoundry.contract.measuring import measure
from forcefoundry.databases.formats import read_rows
from forcefoundry.databases.loading import load_database
from tests.outside import ROOT, data

_ENERGY = {"energy": None, "forces": None}
_ALL = {**_ENERGY, "stress": None}

SETS: dict[str, tuple[str, dict[str, str], dict[str, str | None]]] = {
    "mlearn_Li": ("mlearn", {"train": "Li_train.xyz", "test": "Li_test.xyz"}, _ALL),
    "mlearn_Mo": ("mlearn", {"train": "Mo_train.xyz", "test": "Mo_test.xyz"}, _ALL),
    "mlearn_Si": ("mlearn", {"train": "Si_train.xyz", "test": "Si_test.xyz"}, _ALL),
    "nbmotaw_MoTa": ("nbmotaw", {"train": "MoTa_SS.xyz", "test": "MoTa_Test.xyz"}, _ALL),
    "nbmotaw_NbW": ("nbmotaw", {"train": "NbW_SS.xyz", "test": "NbW_Test.xyz", "held_out": "Multinary_Test.xyz"}, _ALL),
    "nbmotaw_Ta": (
        "nbmotaw",
        {"train": "Ta_AIMD.xyz", "valid": "Ta_Elastic.xyz", "held_out": "Ta_Surface.xyz", "test": "Ta_Test.xyz"},
        _ALL,
    ),
    "solvent_xtb": (
        "solvent_xtb",
        {"train": "solvent_xtb_train_200.xyz", "test": "solvent_xtb_test.xyz"},
        _ENERGY,
    ),
    "acac_300K": (
        "acac",
        {
            "train": "train_300K.xyz",
            "valid": "test_dihedral.xyz",
            "test": "test_MD_300K.xyz",
            "held_out": "isolated_atoms.xyz",
        },
        _ENERGY,
    ),
    "acac_600K": (
        "acac",
        {"train": "train_600K.xyz", "valid": "test_H_transfer.xyz", "test": "test_MD_600K.xyz"},
        _ENERGY,
    ),
    **{
        f"rmd17_{name}": ("rmd17", {part: f"rmd17_{name}_{part}_01.npz" for part in ("train", "test")}, _ENERGY)
        for name in ("aspirin", "benzene", "ethanol")
    },
    "h2co": ("h2co", {}, {**_ENERGY, "charge": None, "dipole": "D"}),
}
"""Name of the set to its folder, its files by split, and the labels that are read."""

_LIKE = {"rmd17": "rmd17_ethanol", "h2co": "h2co"}


def real_sets() -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: the name of every set; one whose folder is absent is skipped."""
    return [
        pytest.param(name, id=name, marks=[] if (data() / folder).is_dir() else [_absent(folder)])
        for name, (folder, _, _) in SETS.items()
    ]


def _absent(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skip(reason=f"{data() / folder} is absent")


def set_config(name: str) -> dict[str, Any]:
    """The `database` section that reads a set."""
    folder, files, keys = SETS[name]
    like = ROOT / "conf" / "database" / f"{_LIKE.get(folder, 'mlearn_si')}.yaml"
    text = like.read_text(encoding="utf-8").replace("${oc.env:FORCEFOUNDRY_DATA,../shared/data}", str(data()))
    config: dict[str, Any] = yaml.safe_load(text)
    if folder == "h2co":
        return config | {"keys": config["keys"] | keys}
    if folder == "rmd17":
        return config | {"files": files}
    drawn = {"valid": 0.0} if "valid" in files else {}  # nothing is drawn beside a file
    split = config["split"] | drawn
    return config | {"path": str(data() / folder), "files": files, "keys": keys, "split": split, "group": None}


@cache
def read_set(name: str) -> tuple[dict[str, Any], list[str | None], list[str | None]]:
    """Packed columns in canonical units, and each row's config_type and official split."""
    config = set_config(name)
    database, _ = load_database(config)
    kinds: list[str | None] = []
    given: list[str | None] = []
    path = data() / SETS[name][0]
    files = {split: path / file for split, file in SETS[name][1].items()} or {None: _only(config["path"])}
    for split, file in files.items():
        for _, atoms in read_rows(config["format"], file):
            kinds.append(atoms.info.get("config_type"))
            given.append(split)
    return dict(database.columns), kinds, given


def _only(path: str) -> Any:
    from forcefoundry.databases.formats import place

    return place(path)


@cache
def measured(name: str) -> Measures:
    """A set's rows, measured."""
    return measure(*read_set(name))
