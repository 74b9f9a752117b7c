"""Packed batches equal, to the bit, what NumPy's plain indexing makes of the columns."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefoundry.batches import Packer
from forcefoundry.columns import COLUMNS, Axis
from forcefoundry.databases import Database
from forcefoundry.pairs.cache import compute_table
from forcefoundry.pairs.reference import ReferenceFinder
from tests.builders import database

CUTOFF = 3.2
PAIR_COLUMNS = {key: f"pairs_{CUTOFF}_{key}" for key in "ijS"}


def every_column(n: int = 14) -> Database:
    """A database with a column of each name that one can hold, and cached pairs."""
    base = database(n, seed=3)
    rng = np.random.default_rng(1)
    rows = {Axis.SYSTEM: n, Axis.ATOM: int(base.offsets[-1])}
    more = {
        name: rng.normal(size=(rows[column.axis], *column.shape))
        for name, column in COLUMNS.items()
        if name not in base.columns and column.dtype is np.float64 and name != "strain"
    }
    # Read column by column from the memory, as a transposed array has it: packing may not depend on that.
    more["positions"] = np.asfortranarray(base.columns["positions"])
    whole = Database({**base.columns, **more})
    whole.pairs[CUTOFF] = compute_table(whole, CUTOFF)
    return whole


BASE = every_column()
NAMES = [*BASE.columns, "system_of_atom", "strain", *PAIR_COLUMNS.values()]


def plainly(base: Database, structures: np.ndarray) -> dict[str, np.ndarray]:
    """The batch put together structure by structure; pairs found anew by brute force."""
    spans = [base.atoms(at) for at in structures]
    counts = [span.stop - span.start for span in spans]
    batch = {
        name: np.concatenate([values[span] for span in spans])
        if COLUMNS[name].axis is Axis.ATOM
        else np.stack([values[at] for at in structures])
        for name, values in base.columns.items()
    }
    batch["system_of_atom"] = np.concatenate([np.full(count, at) for at, count in enumerate(counts)])
    batch["strain"] = np.zeros((len(structures), 3, 3))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    pairs = ReferenceFinder()(batch["positions"], batch["cell"], batch["pbc"], CUTOFF, offsets)
    return batch | {PAIR_COLUMNS[key]: getattr(pairs, key) for key in "ijS"}


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(BASE) - 1), min_size=1, max_size=20), st.permutations(NAMES))
def test_any_structures_in_any_order_and_any_columns(structures: list[int], names: list[str]) -> None:
    rows = np.array(structures)
    names = names[: 1 + len(structures)]
    found, expected = Packer(BASE, names).pack(rows), plainly(BASE, rows)
    assert list(found) == names
    for name in names:
        values = found[name].numpy()
        assert values.dtype == expected[name].dtype
        assert values.shape == expected[name].shape
        assert values.tobytes() == expected[name].tobytes(), name


def bits(batch: dict[str, torch.Tensor]) -> dict[str, tuple[object, ...]]:
    """All that a batch is, to compare."""
    return {name: (values.dtype, values.shape, values.numpy().tobytes()) for name, values in batch.items()}


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, len(BASE) - 1), min_size=1, max_size=9), min_size=1, max_size=8), st.data())
def test_batches_packed_together_are_the_same_and_lie_as_if_they_were_alone(
    rows: list[list[int]], data: st.DataObject
) -> None:
    packer = Packer(BASE, data.draw(st.permutations(NAMES))[: data.draw(st.integers(1, len(NAMES)))])
    batches = [np.array(structures) for structures in rows]
    together = packer.pack_together(batches)
    assert [bits(batch) for batch in together] == [bits(packer.pack(structures)) for structures in batches]
    for batch in together:
        assert tuple(batch) == packer.names
        for name, values in batch.items():
            assert values.is_contiguous()
            assert values.dtype != torch.float64 or values.data_ptr() % 64 == 0, name


def test_batches_packed_together_share_no_row_and_know_nothing_of_each_other() -> None:
    packer = Packer(BASE, NAMES)
    rows = [np.array([0, 1, 2]), np.array([3]), np.array([4, 5])]
    first, second, third = packer.pack_together(rows)
    before = bits(third)
    second["positions"].requires_grad_()
    assert not first["positions"].requires_grad
    assert second["positions"].is_leaf
    energy = (second["positions"] ** 2).sum()
    for values in first.values():
        values.zero_()  # would make autograd refuse the next line if it took them for the second one's
    energy.backward()
    assert second["positions"].grad is not None
    assert torch.equal(second["positions"].grad, 2 * second["positions"])
    assert bits({name: values.detach() for name, values in second.items()}) == bits(packer.pack(rows[1]))
    assert bits(third) == before


def test_labels_that_are_absent_stay_absent_to_the_bit() -> None:
    base = database(6)
    forces = base.columns["forces"].copy()
    forces[2:9] = np.nan
    marked = Database({**base.columns, "forces": forces}, partial=("forces",))
    packed = Packer(marked, ["forces"]).pack(np.arange(6))["forces"]
    assert packed.numpy().tobytes() == forces.tobytes()


def test_batches_share_no_memory_with_the_database_or_each_other() -> None:
    packer = Packer(BASE, NAMES)
    before = {name: values.copy() for name, values in BASE.columns.items()}
    first, second = (packer.pack(np.arange(4)) for _ in range(2))
    kept = {name: values.clone() for name, values in second.items()}
    for values in first.values():
        values.zero_()
    assert all(torch.equal(values, kept[name]) for name, values in second.items())
    assert all(np.array_equal(values, before[name]) for name, values in BASE.columns.items())


@pytest.mark.parametrize("wrong", [14, -1, 10**12])
def test_a_structure_that_is_not_there_is_told(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"structure {wrong}, expected 0 to 13"):
        Packer(BASE, NAMES).pack(np.array([0, 3, wrong, 2]))


def test_an_empty_batch_is_told() -> None:
    with pytest.raises(ValueError, match="at least one structure, got none"):
        Packer(BASE, NAMES).pack(np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize("name", NAMES)
def test_one_column_alone(name: str) -> None:
    rows = [np.array([3, 1]), np.array([5])]
    for found, structures in zip(Packer(BASE, [name]).pack_together(rows), rows, strict=True):
        assert list(found) == [name]
        assert found[name].numpy().tobytes() == plainly(BASE, structures)[name].tobytes()


def test_no_column_is_told() -> None:
    with pytest.raises(ValueError, match="at least one column, got none"):
        Packer(BASE, [])


def test_columns_and_pairs_that_are_not_there_are_told() -> None:
    with pytest.raises(ValueError, match="no column 'energie'"):
        Packer(BASE, ["energie"])
    with pytest.raises(ValueError, match=r"no cached pairs for pairs_9\.0_i"):
        Packer(BASE, ["pairs_9.0_i"])


def test_importing_batches_imports_no_compiler() -> None:
    code = "import sys, forcefoundry.batches; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
