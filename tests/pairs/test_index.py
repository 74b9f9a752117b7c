"""The index is a convenience: whatever is wrong with it, no wrong pair comes out, and nothing stale."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.cache import compute_table, read_table
from forcefoundry.pairs.store.index import Index, Layer, extended, first_of_each, make_index, stamp_of
from forcefoundry.pairs.store.index_files import read_index, write_index
from tests.builders import database, subset
from tests.pairs.store_room import CUTOFF, filled, same, store_at


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    """As after a power cut: the name reached the disk and the bytes did not."""
    path.unlink()
    path.touch()


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    path.write_bytes(content)


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_format(path: Path) -> None:
    """A whole index with its right name that is of another format."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        batch = reader.get_batch(0)
        said = {**reader.schema.metadata, b"format": b"2"}
    renamed(path, batch.replace_schema_metadata(said))


def renamed(path: Path, batch: pa.RecordBatch) -> None:
    """Write an index under the name that its bytes have."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue().to_pybytes()
    path.unlink()
    path.with_name(f"index-{hashlib.sha256(content).hexdigest()}.arrow").write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, emptied, one_bit, unreadable, other_format])
def test_an_index_that_is_no_good_is_said_and_made_again(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    base = database(6)
    filled(base, store_at(tmp_path))
    (index,) = store_at(tmp_path).folder.glob("index-*.arrow")
    damage(index)
    with caplog.at_level(logging.WARNING):
        assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert any("cannot be used" in said and "made again from the shards" in said for said in caplog.messages)
    caplog.clear()
    if damage is not unreadable:  # a folder of that name is not ours to remove
        with caplog.at_level(logging.WARNING):
            assert filled(base, store_at(tmp_path)) == 0
        assert caplog.messages == []


def test_an_index_that_names_shards_that_are_gone(tmp_path: Path) -> None:
    base = database(6)
    for rows in (range(3), range(3, 6)):
        filled(subset(base, rows), store_at(tmp_path))
    gone = store_at(tmp_path).shards_of(keys_of(subset(base, range(3)).columns))
    gone[0].unlink()
    with pytest.raises(ValueError, match="lacks 3 of 6 structures"):
        read_table(base, store_at(tmp_path))
    assert filled(base, store_at(tmp_path)) == 3
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def rows_swapped(layer: Layer) -> Layer:
    return Layer(layer.names, layer.stamps, layer.keys, layer.shard, np.ascontiguousarray(layer.row[::-1]))


def rows_beyond(layer: Layer) -> Layer:
    return Layer(layer.names, layer.stamps, layer.keys, layer.shard, layer.row + np.uint32(10**6))


def shards_swapped(layer: Layer) -> Layer:
    return Layer(layer.names, layer.stamps, layer.keys, 1 - layer.shard, layer.row)


def keys_made_up(layer: Layer) -> Layer:
    keys = layer.keys.copy()
    keys[-1] += 1
    return Layer(layer.names, layer.stamps, keys, layer.shard, layer.row)


@pytest.mark.parametrize("lie", [rows_swapped, rows_beyond, shards_swapped, keys_made_up])
def test_an_index_that_lies_gives_no_wrong_pairs(
    tmp_path: Path, lie: Callable[[Layer], Layer], caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, of the right format and name, and yet not what the shards say."""
    base = database(8)
    for rows in (range(4), range(4, 8)):
        filled(subset(base, rows), store_at(tmp_path))
    store = store_at(tmp_path)
    (layer,) = store.index.layers
    write_index(store.folder, Index((lie(layer),)))
    with caplog.at_level(logging.WARNING):
        filled(base, store_at(tmp_path))
        assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))
    assert lie is keys_made_up or any("does not agree with the shards" in said for said in caplog.messages)


def test_an_index_that_cannot_be_kept_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(4)
    filled(base, store_at(tmp_path))
    for path in store_at(tmp_path).folder.glob("index-*.arrow"):
        path.unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("forcefoundry.pairs.store.index_files.named_by_content", refuse)
    assert same(read_table(base, store_at(tmp_path)), compute_table(base, CUTOFF))


def places(index: Index, keys: np.ndarray) -> list[tuple[str, int] | None]:
    """In which row of which shard each key is."""
    return [(index.names[index.shard[at]], int(index.row[at])) if at >= 0 else None for at in index.find(keys)]


@pytest.mark.parametrize("shared", [0, 1, 9])
def test_an_index_that_grew_finds_what_one_made_anew_finds(shared: int) -> None:
    """Also where shards hold structures of each other, and keys that begin alike."""
    rng = np.random.default_rng(shared)
    every = rng.integers(0, 256, (400, 32), dtype=np.uint8)
    every[50:60, :8] = every[350:360, :8] = every[0, :8]
    parts = [every[:100], every[100:300], np.concatenate([every[300:], every[40 : 40 + shared]])]
    stamps = [(at, at, at) for at in range(3)]
    grown = make_index(["a"], stamps[:1], parts[:1])
    for at, name in ((1, "b"), (2, "c")):
        grown = extended(grown, [name], [stamps[at]], [parts[at]])
    anew = make_index(["a", "b", "c"], stamps, parts)
    asked = rng.permutation(np.concatenate([every, rng.integers(0, 256, (50, 32), dtype=np.uint8)]))
    where = [places(one, asked) for one in (grown, anew)]
    assert where[0] == where[1]
    assert where[0].count(None) == 50
    for at, name in enumerate("abc"):
        np.testing.assert_array_equal(grown.keys[grown.rows_of(name)], parts[at])
        assert grown.stamps[grown.names.index(name)] == stamps[at]


@pytest.mark.parametrize("n", [1, 2, 3, 31, 32, 33, 1000, 70_000])
def test_keys_are_found_where_they_are(n: int) -> None:
    """Against a dictionary; the lowest and the highest key that there can be, and neighbours of those held, too."""
    rng = np.random.default_rng(n)
    keys = np.unique(rng.integers(0, 256, (n, 32), dtype=np.uint8), axis=0)
    keys[0], keys[-1] = 0, 255
    near = keys[rng.integers(0, len(keys), 200)].copy()
    near[np.arange(200), rng.integers(0, 32, 200)] ^= 1
    index = make_index(["a"], [(1, 1, 1)], [keys[rng.permutation(len(keys))]])
    held = {key.tobytes(): at for at, key in enumerate(index.keys)}
    asked = np.concatenate([keys, near, np.full((1, 32), 255, np.uint8), np.zeros((1, 32), np.uint8), keys[:5]])
    wanted = [held.get(key.tobytes(), -1) for key in asked]
    assert index.find(asked).tolist() == wanted
    assert index.find(asked[:0]).tolist() == []
    first = first_of_each(asked)
    assert first.tolist() == sorted({key.tobytes(): at for at, key in reversed(list(enumerate(asked)))}.values())


def test_an_index_of_nothing_is_read_back(tmp_path: Path) -> None:
    empty = make_index((), (), ())
    write_index(tmp_path, empty)
    assert len(read_index(tmp_path).keys) == 0
    (path,) = tmp_path.glob("index-*.arrow")
    assert stamp_of(path)[0] > 0


@pytest.mark.parametrize("what", ["positions", "cell", "pbc", "species", "cutoff"])
@pytest.mark.parametrize("bit", [0, 31, 52])
def test_a_stale_hit_cannot_be_had(tmp_path: Path, what: str, bit: int) -> None:
    """One bit of whatever decides on pairs is another key or another folder."""
    base = database(3, periodic=True)
    filled(base, store_at(tmp_path))
    cutoff, columns = CUTOFF, dict(base.columns)
    if what == "cutoff":
        cutoff = float((np.array([CUTOFF]).view("u8") ^ np.uint64(1 << bit)).view("f8")[0])
    elif what == "pbc":
        columns[what] = columns[what].copy()
        columns[what].reshape(-1)[bit % 9] ^= True
    elif what == "species":
        columns[what] = columns[what].copy()
        columns[what][bit % len(columns[what])] += 1
    else:
        words = columns[what].copy().view("u8")
        words.reshape(-1)[bit % 9] ^= np.uint64(1 << bit)
        columns[what] = words.view("f8")
    changed = Database(columns, base.splits)
    store = store_at(tmp_path, cutoff)
    with pytest.raises(ValueError, match=r"lacks \d of 3 structures"):
        read_table(changed, store)
    filled(changed, store)
    assert same(read_table(changed, store_at(tmp_path, cutoff)), compute_table(changed, cutoff))
