"""Cached, whatever the cache's history, or found anew in each batch: training ends in the same weights, to the bit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml

from forcefoundry.databases import Database
from forcefoundry.interfaces.model_folder import check_model
from pipeline.steps import assemble, load, precompute_pairs, train
from pipeline.steps.workspace import ASSEMBLE, LOAD, PAIRS, TRAIN
from tests.builders import subset
from tests.outside import ROOT, data, files
from tests.pairs.store_room import shards_in

CUTOFF = 5.0


def params(path: Path, source: str) -> dict[str, Any]:
    """Two epochs with a small network on real structures."""
    chosen = {
        name: yaml.safe_load((ROOT / "conf" / name).read_text(encoding="utf-8"))
        for name in ("objective/energy_forces.yaml", "training/default.yaml")
    }
    small = {"n_features": 4, "n_sensitivities": 5, "n_interactions": 1, "n_atom_layers": 1}
    return {
        "database": {
            "path": str(path),
            "format": "extxyz",
            "keys": {"energy": None, "forces": None},
            "group": None,
            "files": None,
            "split": {"seed": 0, "valid": 0.3, "test": 0.0, "held_out": []},
        },
        "contract": {},
        "network": {"_target_": "forcefoundry.networks.hipnn.HIPNN", "cutoff": CUTOFF, "soft_max": 4.0, **small},
        "objective": chosen["objective/energy_forces.yaml"],
        "pairs": {"finder": "cpu", "source": source, "cutoff": CUTOFF},
        "training": {**chosen["training/default.yaml"], "max_epochs": 2, "batch_size": 4, "seed": 1},
        "hardware": {"device": "cpu", "threads": 1, "workers": 0},
    }


def at_once(whole: Database, chosen: dict[str, Any]) -> None:
    """The store is empty when the step runs."""


def bit_by_bit(whole: Database, chosen: dict[str, Any]) -> None:
    """The store has seen parts of these structures before, in another order."""
    for part in ([7, 3], [3, 11, 0, 5]):
        subset(whole, part).save(LOAD / "columns")
        precompute_pairs.run(chosen)
    whole.save(LOAD / "columns")


@pytest.mark.parametrize("path", files(data(), "mlearn/Si_test.xyz"))
def test_all_sources_train_to_the_same_bits(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (assemble, train):
        monkeypatch.setattr(step, "prepare_process", lambda params: None)  # leaves this process's memory alone
    histories: dict[str, tuple[str, Callable[[Database, dict[str, Any]], None]]] = {
        "at once": ("cache", at_once),
        "bit by bit": ("cache", bit_by_bit),
        "on the fly": ("on_the_fly", at_once),
    }
    few = tmp_path / "few.xyz"
    ase.io.write(few, ase.io.read(path, ":12"), format="extxyz")
    weights, digests, shards = {}, {}, {}
    for name, (source, history) in histories.items():
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("FORCEFOUNDRY_STORE", str(tmp_path / name / "store"))
        (tmp_path / name / "src").symlink_to(ROOT / "src")  # a checkpoint is named after the code too
        chosen = params(few, source)
        load.run(chosen)
        history(Database.load(LOAD / "columns"), chosen)
        for step in (precompute_pairs, assemble, train):
            step.run(chosen)
        weights[name] = (TRAIN / "model" / "model.safetensors").read_bytes()
        digests[name] = (PAIRS / "digest.json").read_bytes()
        shards[name] = len(shards_in(PAIRS))
        assert (ASSEMBLE / "initial.safetensors").read_bytes() != weights[name]
    assert shards == {"at once": 1, "bit by bit": 3, "on the fly": 0}
    assert digests["at once"] == digests["bit by bit"] != digests["on the fly"]
    assert weights["at once"] == weights["bit by bit"] == weights["on the fly"]
    # A model and a job that was interrupted belong to whichever finder runs next, and to no other cutoff.
    for name, value, fits in (("finder", "reference", True), ("cutoff", 4.5, False)):
        other = {**chosen, "pairs": {**chosen["pairs"], name: value}}
        assert (train._job(other) == train._job(chosen)) is fits
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match=r"made with pairs\.cutoff = 5\.0"):
            check_model(TRAIN / "model", other)
