"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forcefoundry import files as files_module
from forcefoundry.databases import Database
from forcefoundry.experiment.checkpoint import load_checkpoint, save_checkpoint
from forcefoundry.files import DiskFullError, read_json, write_json, written_whole
from forcefoundry.interfaces.model_folder import save_weights
from forcefoundry.pairs import PairStore
from forcefoundry.pairs.cache import fill_cache
from forcefoundry.plots.maker import PlotMaker
from forcefoundry.plots.parity import Parity
from tests.builders import database, objective, tree_bytes
from tests.outside import ROOT

OLD = {"file": {"place": b"old"}, "folder": {"place/a": b"old", "place/b": b"old too"}, "absent": {}}


def prepare(folder: Path, kind: str) -> Path:
    """Put something of a kind at a place."""
    place = folder / "place"
    if kind == "file":
        place.write_bytes(b"old")
    elif kind == "folder":
        place.mkdir()
        (place / "a").write_bytes(b"old")
        (place / "b").write_bytes(b"old too")
    return place


def write_new(draft: Path, kind: str) -> None:
    """Write something new of the same kind."""
    if kind == "folder":
        draft.mkdir()
        (draft / "a").write_bytes(b"new")
    else:
        draft.write_bytes(b"new")


@pytest.mark.parametrize("kind", OLD)
def test_what_was_written_takes_the_place(tmp_path: Path, kind: str) -> None:
    place = prepare(tmp_path, kind)
    with written_whole(place) as draft:
        write_new(draft, kind)
        assert tree_bytes(tmp_path).items() >= OLD[kind].items()  # the old stays until the end
    assert tree_bytes(tmp_path) == ({"place/a": b"new"} if kind == "folder" else {"place": b"new"})


@pytest.mark.parametrize("kind", OLD)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, kind: str, error: type[BaseException]) -> None:
    place = prepare(tmp_path, kind)

    def interrupted() -> None:
        with written_whole(place) as draft:
            write_new(draft, kind)
            raise error

    with pytest.raises(error):
        interrupted()
    assert tree_bytes(tmp_path) == OLD[kind]
    assert [entry.name for entry in tmp_path.iterdir()] == (["place"] if OLD[kind] else [])


@pytest.mark.parametrize("kind", OLD)
@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_rename_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, failing: int, error: BaseException
) -> None:
    """Also between the two renames that a folder takes."""
    place = prepare(tmp_path, kind)
    real, calls = os.replace, 0

    def rename(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise error
        real(source, target)

    def write() -> None:
        with written_whole(place) as draft:
            write_new(draft, kind)

    monkeypatch.setattr(os, "replace", rename)
    if failing == 2 and kind != "folder":
        write()  # one rename is all that a file takes
        assert tree_bytes(tmp_path) == {"place": b"new"}
        return
    with pytest.raises(type(error)):
        write()
    assert tree_bytes(tmp_path) == OLD[kind]


def test_folders_on_the_way_are_made_and_permissions_are_ordinary(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b" / "c.json", {"x": 1})
    assert read_json(tmp_path / "a" / "b" / "c.json") == {"x": 1}
    (tmp_path / "plain").write_text("")
    (tmp_path / "plain_folder").mkdir()
    with written_whole(tmp_path / "folder") as draft:
        draft.mkdir()
    for made, plain in (("a/b/c.json", "plain"), ("folder", "plain_folder")):
        assert (tmp_path / made).stat().st_mode == (tmp_path / plain).stat().st_mode


def test_a_killed_process_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_bytes(b"old")
    code = (
        "import sys, time; from forcefoundry.files import written_whole\n"
        "with written_whole(sys.argv[1]) as draft:\n"
        "    draft.write_bytes(b'new' * 1000); print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(place)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert place.read_bytes() == b"old"


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None], "a": "Å"})
    write_json(tmp_path / "b.json", {"a": "Å", "b": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n")


def test_json_that_is_no_json_is_not_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    for wrong in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a.json", wrong)
    assert read_json(tmp_path / "a.json") == 1


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.json does not exist: run the step that writes it first"):
        read_json(tmp_path / "a.json")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        for _ in range(20):
            if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)


def test_a_full_disk_is_told_and_nothing_half_written_stays(small_disk: Path) -> None:
    write_json(small_disk / "kept.json", {"kept": True})
    before = tree_bytes(small_disk)

    def full(name: str) -> str:
        return rf"The disk is full: {small_disk / name} could not be written.*Free some space"

    with pytest.raises(DiskFullError, match=full("kept.json")):
        write_json(small_disk / "kept.json", "x" * 1_000_000)
    with pytest.raises(DiskFullError, match=full("columns")):
        big(20_000).save(small_disk / "columns")
    with pytest.raises(DiskFullError, match=full("c.pt")):
        save_checkpoint(small_disk / "c.pt", {"weights": torch.zeros(100_000)})
    with pytest.raises(DiskFullError, match=full("model.safetensors")):
        save_weights(small_disk / "model.safetensors", torch.nn.Linear(300, 300))
    with pytest.raises(DiskFullError, match=full("plots")):
        noisy_plots().save(small_disk / "plots")
    assert tree_bytes(small_disk) == before
    assert [entry.name for entry in small_disk.iterdir()] == ["kept.json"]
    assert load_checkpoint(small_disk / "c.pt") is None


def test_a_full_disk_under_the_pair_store(small_disk: Path) -> None:
    store = PairStore(small_disk, 12.0)
    with pytest.raises(DiskFullError, match=r"The disk is full: .*\.arrow could not be written"):
        fill_cache(database(120, periodic=True), store)
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []
    few = database(2, periodic=False)
    assert fill_cache(few, PairStore(small_disk, 12.0)).structures == 2  # with some space it goes on


def big(n: int) -> Database:
    """Columns of some megabytes."""
    return Database(
        {
            "n_atoms": np.ones(n, dtype=np.int64),
            "species": np.ones(n, dtype=np.int64),
            "positions": np.zeros((n, 3)),
            "cell": np.zeros((n, 3, 3)),
            "pbc": np.zeros((n, 3), dtype=bool),
        }
    )


def noisy_plots() -> PlotMaker:
    """Plots that take a good deal of space."""
    quantity = objective().quantities["forces"]
    kinds = [Parity(f"q{number}", {f"q{number}": replace(quantity, name=f"q{number}")}) for number in range(8)]
    maker = PlotMaker(kinds)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1, 4000))
    maker.gather("test", [noise, noise.flip(0)] * len(kinds))
    return maker


def test_a_full_disk_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files_module.tempfile, "mkdtemp", full)
    with pytest.raises(DiskFullError, match=r"The disk is full: .*a\.json"):
        write_json(tmp_path / "a.json", 1)


def test_other_errors_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as told:
        write_json(tmp_path / "file" / "a.json", 1)
    assert not isinstance(told.value, DiskFullError)
