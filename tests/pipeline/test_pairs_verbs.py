"""`python -m pipeline pairs ...` on a store that two workspaces share: verify, repair, stats, archive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.cache import compute_table, read_table
from forcefoundry.pairs.store.folders import register_workspace
from forcefoundry.pairs.store.shard import digest_of_file
from forcefoundry.pairs.store.view import write_view
from pipeline.listings import cache_folder, files_of
from pipeline.pairs import in_bytes
from pipeline.references import VIEW
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, shards_in, store_at
from tests.pipeline.pairs_room import Room, damage, typed

pytestmark = pytest.mark.usefixtures("here")


def test_verify_names_what_is_damaged_and_repair_puts_it_right(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    base = database(12)
    here.use(subset(base, range(5)))
    here.use(base)
    one, other = shards_in(here.store)
    size = in_bytes(one.stat().st_size + other.stat().st_size)
    assert typed(capsys, "verify") == f"2 of 2 shards verified, {size}\n"
    right = damage(one)
    said = typed(capsys, "verify", code=1)
    told = f"damaged: {one}: its bytes are not those of its name ({len(right)} bytes)\n1 of 2 shards verified, "
    assert said.startswith(told)
    assert "pairs repair` puts right what can be put right" in said
    said = typed(capsys, "repair")
    assert re.fullmatch(rf"put right: {re.escape(str(one))}: [57] structures were computed again\n", said)
    assert one.read_bytes() == (here.folder / VIEW / one.name).read_bytes() == right
    md5 = here.cached(one)
    assert (here.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).samefile(one)
    assert typed(capsys, "verify") == typed(capsys, "repair") == f"2 of 2 shards verified, {size}\n"
    assert same(read_table(base, store_at(here.store)), compute_table(base, CUTOFF))


def test_repair_takes_bytes_from_a_copy_in_another_workspace(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    base = database(8)
    here.use(base)
    there = here.folder.parent / "there"
    (there / VIEW).mkdir(parents=True)
    register_workspace(here.store, there)
    (path,) = shards_in(here.store)
    copy = there / VIEW / path.name
    shutil.copyfile(path, copy)
    shutil.rmtree(here.folder / "artifacts/load")
    right = damage(path)
    assert typed(capsys, "repair") == f"put right: {path}: its bytes were taken from {copy}\n"
    assert path.read_bytes() == right
    assert typed(capsys, "verify").endswith("; and 1 of 1 copies in workspaces and DVC's cache\n")
    damage(copy)
    assert f"damaged: {copy}: its bytes are not" in typed(capsys, "verify", code=1)
    assert f"put right: {copy}: its bytes were taken from {path}\n" in typed(capsys, "repair")
    assert copy.read_bytes() == path.read_bytes() == right


def test_a_damaged_copy_that_nobody_else_has_goes(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """DVC's cache came damaged to a machine whose store is empty."""
    here.use(database(5))
    (path,) = shards_in(here.store)
    damage(path)
    md5 = here.folder / ".dvc/cache/files/md5"
    (place,) = (one for one in md5.rglob("*") if one.is_file() and one.samefile(path))
    shutil.rmtree(here.store)
    shutil.rmtree(here.folder / VIEW)
    assert f"damaged: {place}: " in typed(capsys, "verify", code=1)
    assert f"removed: {place}: nobody has its bytes" in typed(capsys, "repair")
    assert not place.exists()
    assert typed(capsys, "verify") == "0 of 0 shards verified, 0 B\n"


def test_what_is_lost_is_said(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    base = database(9)
    filled(base, store_at(here.store))
    here.use(subset(base, range(4)))
    (path,) = shards_in(here.store)
    damage(path)
    said = typed(capsys, "repair")
    assert said.startswith(f"set aside: {path}: 4 structures were computed again; it was set aside as {path.name}.dam")
    assert "5 structures of other data sets are no longer in the cache and are computed when asked for" in said
    assert f"removed: {here.folder / VIEW / path.name}: nobody has its bytes" in said
    assert not (here.folder / VIEW / path.name).exists()
    assert "1 of 1 shards verified" in typed(capsys, "verify")


def test_stats_say_how_much_there_is(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    base = database(12)
    here.use(base)
    filled(base, store_at(here.store, 5.5))
    (here.store / "v1").mkdir()
    n_pairs = compute_table(base, CUTOFF).n_pairs
    (path,) = shards_in(store_at(here.store).folder)
    size = path.stat().st_size
    said = typed(capsys, "stats")
    line = f"  3.2 Å     12 structures, {n_pairs} pairs, {in_bytes(size)} in 1 shards (1 small), {size / n_pairs:.2f} B"
    assert line in said
    assert "\n  5.5 Å     12 structures, " in said
    assert f"workspace   {here.folder}\n" in said
    assert f"old format  {here.store / 'v1'} (`python -m pipeline pairs gc --old-formats` removes it)" in said


def test_an_archive_goes_and_comes_back(
    here: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = database(30, periodic=True)
    here.use(base)
    said = typed(capsys, "archive", "sent")
    assert re.fullmatch(r"1 shards, \d+\.\d kB, are \d+\.\d kB in sent\n", said)
    content = [path.read_bytes() for path in shards_in(here.store)]
    other = here.folder.parent / "other store"
    monkeypatch.setenv("FORCEFOUNDRY_STORE", str(other))
    assert typed(capsys, "archive", "--restore", "sent").endswith(f"are in {store_at(other).folder}\n")
    assert [path.read_bytes() for path in shards_in(other)] == content
    assert filled(base, store_at(other)) == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "python -m pipeline pairs: the following arguments are required: verify|stats|repair|gc|archive."),
        (["verfiy"], 2, "invalid choice: 'verfiy'"),
        (["gc", "--wet-run"], 2, "unrecognized arguments: --wet-run"),
        (["archive"], 2, "python -m pipeline pairs archive: the following arguments are required: FOLDER."),
        (["archive", "x"], 1, "manifest.json does not exist: run the step that writes it first."),
        (["archive", "--restore", "x"], 1, "x/archive.json does not exist"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = typed(capsys, *words, code=code)
    assert said.startswith("forcefoundry: ")
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_100_000, "9.1 MB"), (64_000_000_000, "64.0 GB")],
)
def test_bytes_are_told_as_people_read_them(count: int, text: str) -> None:
    assert in_bytes(count) == text


def test_listings_are_where_dvc_puts_them(here: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """The real DVC, with a cache somewhere else; the store gone, its shards are known and damage to them is found."""
    base = database(5)
    filled(base, store_at(here.store))
    write_view(store_at(here.store), keys_of(base.columns), Path("made"))
    copy = f"mkdir -p {VIEW.parent} && cp -rl made {VIEW}"
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"precompute_pairs": {"cmd": copy, "outs": [str(VIEW)]}}}))
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    for words in (["init", "-q", "--no-scm"], ["cache", "dir", "../dvc cache"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], env=environment, check=True, capture_output=True)
    assert cache_folder(here.folder).resolve() == here.folder.parent / "dvc cache"
    lock = (here.folder / "dvc.lock").read_text()
    files = files_of(lock, VIEW, cache_folder(here.folder), "dvc.lock")
    (path,) = shards_in(here.store)
    assert sorted(files) == [path.name, "manifest.json"]
    place = files[path.name]
    assert place is not None
    assert place.read_bytes() == path.read_bytes()
    damage(place)
    assert "damaged: " in typed(capsys, "verify", code=1)
    assert "put right: " in typed(capsys, "repair")
    typed(capsys, "verify")
    for found in (place, path, here.folder / VIEW / path.name):
        assert digest_of_file(found) + ".arrow" == path.name
