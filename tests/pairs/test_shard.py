"""A shard gives back what was written, whatever it was; one whose numbers contradict one another is no shard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forcefoundry.pairs import PairTable
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.native.runs import HOME
from forcefoundry.pairs.store.shard import DamagedShardError, Shard, keys_in, metadata_of, open_shard, rows_of
from forcefoundry.pairs.store.shard import write_shard as written
from forcefoundry.pairs.table import Part
from tests.pairs.store_room import CUTOFF

Columns = dict[str, pa.Array]


def half_list(structures: list[list[list[bool]]]) -> HalfPairs:
    """For each structure its atoms, for each atom its pairs as i, for each pair whether it is a wide one."""
    counts = [len(pairs) for atoms in structures for pairs in atoms]
    wide = np.array([one for atoms in structures for pairs in atoms for one in pairs], dtype=bool)
    offsets = np.cumsum([0, *(len(atoms) for atoms in structures)])
    pair_ends = np.cumsum([0, *(sum(len(pairs) for pairs in atoms) for atoms in structures)])
    shifts = 1 + np.arange(len(wide))[:, None] // np.array([31**2, 31, 1]) % 31
    codes = np.where(wide, 0, shifts @ np.array([1 << 10, 1 << 5, 1])).astype(np.uint32)
    numbers = np.zeros((wide.sum(), 4), np.int32)
    numbers[:, 1] = 100 + np.arange(len(numbers))
    wide_ends = np.concatenate([[0], np.cumsum(wide)])[pair_ends]
    return HalfPairs(offsets, np.array(counts, np.int32), pair_ends, codes, wide_ends, numbers)


def keys_for(half: HalfPairs) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(half.offsets) - 1, 32), dtype=np.uint8)


def check_equal(left: HalfPairs, right: HalfPairs) -> None:
    for name in ("offsets", "counts", "pair_ends", "codes", "wide_ends", "wide"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


def check_round_trip(half: HalfPairs, folder: Path) -> Path:
    """Write, open, read all of it, and each structure alone and backwards; twice the same file."""
    keys = keys_for(half)
    path = written(folder, CUTOFF, keys, half)
    assert written(folder, CUTOFF, keys.copy(), half) == path
    shard, n = open_shard(path), len(keys)
    np.testing.assert_array_equal(shard.keys, keys)
    np.testing.assert_array_equal(keys_in(path), keys)
    for ends, steps in ((shard.count_ends, half.offsets), (shard.code_ends, half.pair_ends)):
        np.testing.assert_array_equal(ends, steps)
        assert ends.dtype == np.int32
    np.testing.assert_array_equal(shard.wide_ends, 4 * half.wide_ends)
    check_equal(rows_of(shard, np.arange(n)), half)
    check_equal(table_of(shard).half(np.arange(n)), half)
    check_equal(table_of(shard).half(np.arange(n)[::-1]), rows_of(shard, np.arange(n)[::-1]))
    return path


def table_of(shard: Shard) -> PairTable:
    spans = [end for ends in (shard.count_ends, shard.code_ends, shard.wide_ends) for end in (ends[:-1], ends[1:])]
    part = Part(shard.counts, shard.codes, shard.wide, str(shard.path))
    return PairTable(CUTOFF, [part], np.zeros(len(shard), dtype=np.int64), *spans)


@given(st.lists(st.lists(st.lists(st.booleans(), max_size=4), max_size=4), max_size=6))
def test_what_was_written_is_read(structures: list[list[list[bool]]]) -> None:
    """All pairs have j = 0, so that the compiled reader takes them for pairs."""
    with TemporaryDirectory() as folder:
        check_round_trip(half_list(structures), Path(folder))


NARROW, WIDE = [False], [True]


@pytest.mark.parametrize(
    "structures",
    [
        pytest.param([], id="no structures"),
        pytest.param([[]], id="no atoms"),
        pytest.param([[], [], [NARROW], [], []], id="no atoms around one that has"),
        pytest.param([[[], []], [[]]], id="no pairs"),
        pytest.param([[[]], [NARROW], [[]]], id="no pairs around one that has"),
        pytest.param([[WIDE], [NARROW], [NARROW]], id="wide first"),
        pytest.param([[NARROW], [[], []], [NARROW, WIDE]], id="wide last"),
        pytest.param([[], [WIDE * 3, WIDE], [WIDE], []], id="all wide"),
        pytest.param([[NARROW * 255], [NARROW * 7]], id="as many pairs as a byte counts"),
        pytest.param([[NARROW * 256], [NARROW * 7]], id="more pairs than a byte counts"),
        pytest.param([[[]] * 255, [NARROW]], id="as many atoms as a byte counts"),
        pytest.param([[[]] * 256, [NARROW]], id="more atoms than a byte counts"),
        pytest.param([[[]] * 65536, [NARROW]], id="more atoms than two bytes count"),
        pytest.param([[NARROW * 65536]], id="more pairs than two bytes count"),
    ],
)
def test_the_least_and_the_most_of_everything(tmp_path: Path, structures: list[list[list[bool]]]) -> None:
    half = half_list(structures)
    path = check_round_trip(half, tmp_path)
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        assert reader.num_record_batches == 1
        said = {field.name: field.type.value_type for field in reader.schema}
    for name, counted in (("n_atoms", np.diff(half.offsets)), ("counts", half.counts)):
        most = int(counted.max(initial=0))
        assert said[name] == pa.uint8() if most < 256 else pa.uint16() if most < 65536 else pa.uint32()


STRUCTURES = [[NARROW * 2, WIDE], [[], NARROW + WIDE], [NARROW]]


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    """The flat columns of a shard of three structures, of which two have a wide pair."""
    half = half_list(STRUCTURES)
    path = written(tmp_path, CUTOFF, keys_for(half), half)
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        batch = reader.get_batch(0)
    return {name: batch.column(name).values for name in batch.schema.names}


def put(path: Path, columns: Columns, rows: int = 1) -> Path:
    """Write columns as they are, whatever they say."""
    lists = {
        name: pa.ListArray.from_arrays(pa.array(np.linspace(0, len(flat), rows + 1).astype(np.int32)), flat)
        for name, flat in columns.items()
    }
    batch = pa.RecordBatch.from_pydict(lists).replace_schema_metadata(metadata_of(CUTOFF))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def numbers(values: list[int], kind: str) -> pa.Array:
    return pa.array(np.array(values, dtype=kind))


CONTRADICTIONS: dict[str, tuple[str, pa.Array, str]] = {
    "fewer atoms": ("n_atoms", numbers([2, 2, 0], "u1"), "structures have 4 atoms, and counts are 5"),
    "more atoms": ("n_atoms", numbers([2, 2, 2], "u1"), "structures have 6 atoms, and counts are 5"),
    "atoms beyond 32 bits": ("n_atoms", numbers([2**32 - 1, 2, 4], "u4"), "structures have 4294967301 atoms"),
    "fewer structures": ("n_atoms", numbers([2, 3], "u1"), "3 keys of 2 structures"),
    "more counts": ("counts", numbers([2, 1, 0, 2, 1, 0], "u1"), "structures have 5 atoms, and counts are 6"),
    "fewer pairs": ("counts", numbers([2, 1, 0, 2, 0], "u1"), "counts make 5 pairs, and codes are 6"),
    "pairs beyond 32 bits": ("counts", numbers([2, 1, 0, 2, 2**32 - 4], "u4"), "counts make 4294967297 pairs"),
    "pairs that wrap": ("counts", numbers([2**32 - 2, 8, 0, 0, 0], "u4"), "counts make 4294967302 pairs"),
    "fewer codes": ("codes", numbers([1, 2, 0, 3, 0], "u4"), "counts make 6 pairs, and codes are 5"),
    "wide out of order": ("wide_of", numbers([1, 0], "u4"), "not in the order of its structures"),
    "wide of no structure": ("wide_of", numbers([0, 3], "u4"), "not in the order of its structures"),
    "wide of none, far": ("wide_of", numbers([0, 2**32 - 1], "u4"), "not in the order of its structures"),
    "fewer wide": ("wide_of", numbers([0], "u4"), "8 numbers of 1 wide pairs"),
    "half a wide pair": ("wide", numbers([0] * 6, "i4"), "6 numbers of 2 wide pairs"),
    "signed counts": ("counts", numbers([2, 1, 0, 2, 1], "i4"), "counts are int32"),
    "codes of 8 bytes": ("codes", numbers([1, 2, 0, 3, 0, 4], "u8"), "codes are uint64"),
    "absent counts": ("counts", pa.array([2, 1, 0, None, 3], pa.uint8()), "null"),
    "short keys": ("key", pa.array([bytes(31)] * 3, pa.binary(31)), "keys are fixed_size_binary"),
    "absent keys": ("key", pa.array([bytes(32), None, bytes(32)], pa.binary(32)), "keys are"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_numbers_that_contradict_one_another_are_no_shard(tmp_path: Path, columns: Columns, what: str) -> None:
    name, flat, told = CONTRADICTIONS[what]
    path = put(tmp_path / "made", columns)
    check_equal(rows_of(open_shard(path), np.arange(3)), half_list(STRUCTURES))
    put(path, {**columns, name: flat})
    with pytest.raises(DamagedShardError, match=f"made is no shard that can be read: .*{told}"):
        open_shard(path)
    if name != "key":
        np.testing.assert_array_equal(keys_in(path), keys_for(half_list(STRUCTURES)))


@pytest.mark.parametrize("name", ["key", "n_atoms", "counts", "codes", "wide_of", "wide"])
def test_what_has_no_such_columns_is_no_shard(tmp_path: Path, columns: Columns, name: str) -> None:
    fewer = {other: flat for other, flat in columns.items() if other != name}
    with pytest.raises(DamagedShardError, match=name):
        open_shard(put(tmp_path / "made", fewer))
    with pytest.raises(DamagedShardError, match="2 rows of list"):
        open_shard(put(tmp_path / "made", columns, rows=2))


BENT: dict[str, Callable[[Any], Any]] = {
    "codes of atoms that are not there": lambda half: half.codes.__setitem__(0, 2 << 15 | HOME),
    "a code of a shift that has no mirror image": lambda half: half.codes.__setitem__(0, HOME - 16),
    "a code of two such shifts": lambda half: half.codes.__setitem__(0, HOME - (16 << 10) - (16 << 5)),
    "a code that stands for no wide pair": lambda half: half.codes.__setitem__(0, 0),
    "a wide pair that no code stands for": lambda half: half.codes.__setitem__(2, HOME),
    "a wide pair with an atom that is not there": lambda half: half.wide.__setitem__((0, 0), 2),
    "a wide pair with an atom before the first": lambda half: half.wide.__setitem__((0, 0), -1),
}


@pytest.mark.parametrize("what", BENT)
def test_numbers_that_are_no_pairs_are_found_when_they_are_read(tmp_path: Path, what: str) -> None:
    half = half_list(STRUCTURES)
    BENT[what](half)
    path = written(tmp_path, CUTOFF, keys_for(half), half)
    for read in (table_of(open_shard(path)).half, lambda rows: table_of(open_shard(path)).batch(rows, rows)):
        with pytest.raises(ValueError, match=rf"structure 0 in .*{path.name} cannot be its own. .* pairs verify"):
            read(np.array([2, 0, 1]))
        read(np.array([2, 1]))


def test_whatever_is_done_to_its_bytes_nothing_crashes(tmp_path: Path) -> None:
    """Shards are hashed before they are believed; who changes one behind that must not bring a run down either."""
    half = half_list([[NARROW * 3, WIDE, []], [[], NARROW + WIDE], [], [NARROW]] * 3)
    right = written(tmp_path, CUTOFF, keys_for(half), half).read_bytes()
    rng = np.random.default_rng(0)
    opened, path = 0, tmp_path / "bent"
    for _ in range(1500):
        content = bytearray(right)
        for at in rng.integers(0, len(right), rng.integers(1, 4)):
            content[at] = rng.choice([0, 1, 127, 128, 255, content[at] ^ (1 << rng.integers(8))])
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            table = table_of(open_shard(path))
            opened += 1
            table.half(np.arange(len(table)))
            table.all_pairs()
    assert opened > 100
