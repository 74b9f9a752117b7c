"""docs/pair-store.md is enough to read a store: the programs in it run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs import ReferenceFinder
from forcefoundry.pairs.store.shard import FORMAT
from tests.builders import database
from tests.outside import ROOT
from tests.pairs.store_room import CUTOFF, filled, shards_in, store_at

TEXT = (ROOT / "docs" / "pair-store.md").read_text(encoding="utf-8")
KEY, READER = re.findall(r"^```py\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def base() -> Database:
    """Open and periodic structures, one of them unwrapped by hundreds of cells."""
    plain = database(6)
    positions = plain.columns["positions"].copy()
    positions[plain.offsets[3]] += 300 * plain.columns["cell"][3, 1] - 20 * plain.columns["cell"][3, 2]
    return Database({**plain.columns, "positions": positions}, plain.splits)


def test_the_reader_reads_what_the_finder_finds(tmp_path: Path, base: Database) -> None:
    filled(base, store_at(tmp_path))
    (shard,) = shards_in(tmp_path)
    assert np.any(store_at(tmp_path).shard(shard.name).wide)
    for row, key in enumerate(keys_of(base.columns)):
        command = [sys.executable, "-I", "-c", READER, str(shard), key.tobytes().hex()]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        read = np.array([line.split() for line in printed.splitlines()], dtype=np.int64).reshape(-1, 5)
        found = ReferenceFinder()(*base.take(np.array([row]))[:3], CUTOFF, base.take(np.array([row]))[3])
        np.testing.assert_array_equal(read, np.column_stack([found.i, found.j, found.S]))


def test_the_reader_is_short_and_needs_none_of_our_code() -> None:
    assert len([line for line in READER.splitlines() if line.strip()]) <= 15
    assert set(re.findall(r"^import (\w+)", READER, re.M)) == {"sys", "numpy", "pyarrow"}


def test_the_key_is_made_as_the_page_says(base: Database) -> None:
    said: dict[str, object] = {}
    exec(KEY, said)
    columns = {**base.columns, "positions": base.columns["positions"].copy(), "cell": base.columns["cell"].copy()}
    columns["positions"][0, 0] = -0.0
    columns["cell"][0] = 7.0  # of an open structure: it counts for nothing
    changed = Database(columns, base.splits)
    for row, key in enumerate(keys_of(changed.columns)):
        positions, cell, pbc, _ = changed.take(np.array([row]))
        made = said["key"](changed.columns["species"][changed.atoms(row)], positions, cell[0], pbc[0])  # type: ignore[operator]
        assert made == key.tobytes().hex()


def test_the_page_tells_of_the_format_that_is_written(tmp_path: Path, base: Database) -> None:
    filled(base, store_at(tmp_path, 6.0))
    (shard,) = shards_in(tmp_path)
    folders = re.findall(r"^ +((?:pairs|contract|cutoff)-[^ /]+)/", TEXT, re.M)
    assert shard.parent.relative_to(tmp_path).parts == tuple(folders)
    assert f"`format` (`{FORMAT}`)" in TEXT
