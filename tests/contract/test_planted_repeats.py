"""Rows that repeat each other, and files that are not what the configuration says, planted into a real set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.door import ContractError
from tests.contract import test_planted_faults, test_planted_set_faults
from tests.contract.planting import (
    BASE,
    Brought,
    brought,
    check_found,
    clean,
    info,
    joined,
    needed,
    numbers,
    planted_config,
    texts,
    told,
    vectors,
    with_atom,
    with_info,
    with_numbers,
    with_vectors,
)
from tests.contract.real_sets import set_config


def turned(frame: str, seed: int = 0) -> str:
    """The same structure, turned, shifted, wrapped into its cell, and its atoms in another order; forces turn along."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(int(frame.split()[0]))
    lattice = numbers(frame, "Lattice").reshape(3, 3)
    scaled = vectors(frame) @ np.linalg.inv(lattice) + rng.uniform(size=3)
    lines = frame.splitlines(keepends=True)
    frame = "".join([*lines[:2], *(lines[2 + atom] for atom in order)])
    frame = with_vectors(frame, vectors(frame, forces=True) @ rotation, forces=True)
    stress = rotation.T @ numbers(frame, "stress").reshape(3, 3) @ rotation
    frame = with_numbers(with_numbers(frame, "stress", stress), "Lattice", lattice @ rotation)
    return with_vectors(frame, (scaled % 1.0)[order] @ lattice @ rotation)


def with_more(folder: Path, name: str, *more: str, **changes: Any) -> tuple[Brought, Path]:
    """What comes of a set whose file of a split has more frames at its end."""
    config, path = planted_config(BASE, {name: joined([*texts(BASE, name), *more])}, folder / "data", **changes)
    after = brought(config, folder / "out")
    assert after.summary["rows"]["in"] == clean(BASE).summary["rows"]["in"] + len(more)
    assert not Counter(clean(BASE).rows) - Counter(after.rows)  # none of the others is lost
    return after, path


def only(after: Brought, check: str, path: Path, at: int) -> str:
    """What the one finding of a check got, which is of that frame."""
    (found,) = after.found(check)
    assert (found["file"], found["where"]) == (str(path), f"frame {at}")
    assert all(found[part] for part in ("what", "got", "expected", "remedy"))
    return str(found["got"])


def test_a_frame_that_is_there_twice(tmp_path: Path) -> None:
    after, path = with_more(tmp_path, "train", texts(BASE, "train")[30])
    assert f"that of {path}, frame 30, to the last bit" in only(after, "exact_duplicate", path, 194)
    assert set(after.summary["findings"]) == {"exact_duplicate"}
    assert after.summary["rows"]["quarantined"] == 0


def test_a_frame_that_is_there_twice_turned_and_renumbered(tmp_path: Path) -> None:
    after, path = with_more(tmp_path, "train", turned(texts(BASE, "train")[30]))
    assert f"nearly that of {path}, frame 30" in only(after, "near_duplicate", path, 194)
    assert set(after.summary["findings"]) == {"near_duplicate"}
    assert after.summary["rows"]["quarantined"] == 0


def test_a_frame_that_is_there_twice_with_another_energy(tmp_path: Path) -> None:
    frame = texts(BASE, "train")[30]
    after, path = with_more(tmp_path, "train", with_info(frame, "energy", float(info(frame, "energy")) + 0.2))
    assert f"{path}, frame 30" in only(after, "duplicate_labels_differ", path, 194)
    assert after.apart == [(str(path), "frame 194", ("duplicate_labels_differ",))]
    assert Counter(after.rows) == Counter(clean(BASE).rows)


def test_a_frame_that_is_there_twice_turned_and_with_another_energy(tmp_path: Path) -> None:
    frame = turned(texts(BASE, "train")[30])
    after, path = with_more(tmp_path, "train", with_info(frame, "energy", float(info(frame, "energy")) + 0.5))
    said = only(after, "duplicate_labels_differ", path, 194)
    assert f"that of nearly the same structure in {path}, frame 30" in said
    assert after.apart == [(str(path), "frame 194", ("duplicate_labels_differ",))]
    assert Counter(after.rows) == Counter(clean(BASE).rows)


def test_a_frame_of_training_in_the_test(tmp_path: Path) -> None:
    after, path = with_more(tmp_path, "test", texts(BASE, "train")[30])
    said = only(after, "split_overlap", path, 23)
    assert said.startswith("that of ")
    assert "Mo_train.xyz, frame 30" in said


def test_a_frame_of_training_in_the_test_turned_and_renumbered(tmp_path: Path) -> None:
    after, path = with_more(tmp_path, "test", turned(texts(BASE, "train")[30]))
    said = only(after, "split_overlap", path, 23)
    assert said.startswith("nearly that of ")
    assert "Mo_train.xyz, frame 30" in said


def test_an_element_that_is_never_trained_on_ends_the_run(tmp_path: Path) -> None:
    frame = with_atom(texts(BASE, "test")[4], 0, s="W")
    config, path = planted_config(BASE, {"test": joined([*texts(BASE, "test"), frame])}, tmp_path / "data")
    with pytest.raises(ContractError, match=rf"{path.name}, frame 23: .* with W, .*\[unseen_element\]"):
        brought(config, tmp_path / "out")
    (found,) = [one for one in told(tmp_path / "out") if one["check"] == "unseen_element"]
    assert (found["policy"], found["file"], found["where"]) == ("error", str(path), "frame 23")


def test_a_near_duplicate_of_two_splits_is_set_apart(tmp_path: Path) -> None:
    """Whole groups are drawn, and a frame of one comes back, turned, in a group that was drawn into another split."""
    frames = texts(BASE, "train")
    drawn = {"group": "config_type", "split": {**set_config(BASE)["split"], "by": "group", "valid": 0.4, "seed": 2}}
    before = brought(set_config(BASE) | drawn, tmp_path / "before")
    side = {info(frames[row], "config_type"): name for name in ("train", "valid") for row in before.splits[name]}
    assert (side["AIMD-NVT"], side["Elastic"]) == ("train", "valid")
    assert info(frames[30], "config_type") == "AIMD-NVT"
    after, path = with_more(tmp_path, "train", with_info(turned(frames[30]), "config_type", "Elastic"), **drawn)
    assert "frame 30 and of others" in only(after, "bridges_splits", path, 194)
    assert after.apart == [(str(path), "frame 194", ("bridges_splits",))]
    assert Counter(after.rows) == Counter(before.rows)


# What the configuration says, and the files do not.


def test_a_frozen_test_set_that_changed_ends_the_run(tmp_path: Path) -> None:
    split = set_config(BASE)["split"]
    digest = clean(BASE).summary["split_report"]["digests"]["test"]
    files = {"test": joined(texts(BASE, "test"))}
    config, _ = planted_config(BASE, files, tmp_path / "data", split=split | {"frozen": {"test": digest}})
    assert brought(config, tmp_path / "out").summary["rows"] == clean(BASE).summary["rows"]
    config, _ = planted_config(
        BASE, {"test": joined(texts(BASE, "test")[:-1])}, tmp_path / "data", split=split | {"frozen": {"test": digest}}
    )
    with pytest.raises(ValueError, match=f"The frozen split 'test' changed: .*expected {digest}; 22 structures"):
        brought(config, tmp_path / "out")


def test_a_key_that_is_misspelled_ends_the_run(tmp_path: Path) -> None:
    needed("solvent_xtb")
    config = set_config("solvent_xtb") | {"keys": {"energy": "energy_xbt", "forces": None}}
    with pytest.raises(ValueError, match=r"the key 'energy_xbt' that .* Did you mean energy_xtb"):
        brought(config, tmp_path / "out")


def test_a_group_that_no_row_has_ends_the_run(tmp_path: Path) -> None:
    needed(BASE)
    with pytest.raises(ValueError, match=r"No row carries the key 'config_typ' that database\.group names"):
        brought(set_config(BASE) | {"group": "config_typ"}, tmp_path / "out")


def test_a_row_without_its_group_is_told(tmp_path: Path) -> None:
    frame = with_info(turned(texts(BASE, "train")[30]), "config_type", None)
    after, path = with_more(tmp_path, "train", frame, group="config_type")
    assert only(after, "missing_group", path, 194) == "absent"
    assert after.summary["rows"]["quarantined"] == 0
    held = brought(set_config(BASE) | {"group": "config_type"}, tmp_path / "held", {"missing_group": {"policy": "off"}})
    assert held.findings == []


def test_a_row_without_its_weight_is_set_apart(tmp_path: Path) -> None:
    frames = [with_info(frame, "config_weight", 2.0) for frame in texts(BASE, "train")]
    test = [with_info(frame, "config_weight", 1.0) for frame in texts(BASE, "test")]
    keys = set_config(BASE)["keys"] | {"weight": None}
    files = {"test": joined(test), "train": joined(frames)}
    before = brought(planted_config(BASE, files, tmp_path / "data", keys=keys)[0], tmp_path / "before")
    files["train"] = joined([*frames[:17], texts(BASE, "train")[17], *frames[18:]])
    config, path = planted_config(BASE, files, tmp_path / "data", keys=keys)
    after = brought(config, tmp_path / "out")
    check_found(before, after, "missing_weight", (str(path), "frame 17"), apart=True)


def test_no_check_is_without_a_planted_fault() -> None:
    planted = {fault.check for fault in test_planted_faults.FAULTS} | {one[0] for one in test_planted_set_faults.WHOLE}
    repeats = {"exact_duplicate", "near_duplicate", "duplicate_labels_differ", "split_overlap", "bridges_splits"}
    assert planted | repeats | {"unseen_element", "missing_weight", "missing_group"} == set(known_checks())
