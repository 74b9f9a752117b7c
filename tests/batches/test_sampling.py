"""Which structures come in which batch: budgets kept, nothing lost, the same batches wherever an epoch is entered."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forcefoundry.batches import Budget, Packer, Sampler, in_order
from forcefoundry.batches.sampling import MOST_TOGETHER, TOGETHER, groups
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import precompute_pairs
from forcefoundry.pairs.cache import compute_table
from forcefoundry.pairs.contract import Ints
from tests.builders import assembled, database, objective


def one_by_one(structures: list[int], batch_size: int, budgets: list[Budget]) -> list[list[int]]:
    """The rule as one would say it: a structure joins the open batch if that then exceeds nothing."""
    batches: list[list[int]] = []
    for structure in structures:
        joined = [*(batches[-1] if batches else []), structure]
        fits = len(joined) <= batch_size and all(sum(b.sizes[at] for at in joined) <= b.most for b in budgets)
        if batches and fits:
            batches[-1] = joined
        else:
            batches.append([structure])
    return batches


@st.composite
def budgets(draw: st.DrawFn, n: int) -> list[Budget]:
    """None, one or two budgets over n structures, some of which have nothing and some too much."""
    return [
        Budget(what, draw(st.integers(1, 30)), np.array(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))))
        for what in draw(st.sampled_from([[], ["atoms"], ["pairs"], ["atoms", "pairs"]]))
    ]


@given(st.data())
def test_a_batch_is_closed_before_the_structure_that_would_exceed_a_limit(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 25))
    structures = data.draw(st.lists(st.integers(0, n - 1), max_size=40))
    batch_size, limits = data.draw(st.integers(1, 9)), data.draw(budgets(n))
    found = in_order(np.array(structures, dtype=np.int64), batch_size, limits)
    assert [batch.tolist() for batch in found] == one_by_one(structures, batch_size, limits)


def test_without_budgets_batches_are_even() -> None:
    found = in_order(np.arange(3, 13), 4)
    assert [batch.tolist() for batch in found] == [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]
    assert in_order(np.arange(0), 4) == []
    with pytest.raises(ValueError, match="batch size is 0, expected at least 1"):
        in_order(np.arange(3), 0)


def groups_by_hand(sizes: list[list[int]]) -> list[list[int]]:
    """The rule as one would say it, batch by batch: numbers of the batches that are packed together."""
    found: list[list[int]] = [[]]
    held = 0
    for number, batch in enumerate(sizes):
        found[-1].append(number)
        held += sum(batch)
        if held >= TOGETHER or len(found[-1]) == MOST_TOGETHER:
            found.append([])
            held = 0
    return [group for group in found if group]


@given(st.lists(st.lists(st.integers(0, TOGETHER // 3), min_size=1, max_size=3), max_size=200), st.integers(0, 3))
def test_batches_are_put_together_until_they_are_large_or_many(sizes: list[list[int]], waste: int) -> None:
    flat = np.array([n for batch in sizes for n in batch], dtype=np.int64)
    numbers = np.split(np.arange(len(flat)), np.cumsum([len(batch) for batch in sizes])[:-1]) if sizes else []
    asked = 0

    def named() -> Iterator[Ints]:
        nonlocal asked
        for batch in numbers:
            asked += 1
            yield batch

    measured: list[int] = []

    def n_bytes(some: Sequence[Ints]) -> int:
        measured.extend(int(at) for batch in some for at in batch)
        return int(flat[np.concatenate(some)].sum())

    found = []
    for group in groups(named(), n_bytes, (1 + waste) * int(flat.max(initial=0))):
        found.append(group)
        assert asked == sum(map(len, found))  # none before its group is wanted
    wanted = [[numbers[at].tolist() for at in group] for group in groups_by_hand(sizes)]
    assert [[batch.tolist() for batch in group] for group in found] == wanted
    assert measured == sorted(set(measured))  # nothing is measured twice


def test_how_much_memory_batches_take_is_known_before_they_are_packed() -> None:
    base = database(16)
    base.pairs[3.0] = compute_table(base, 3.0)
    packer = Packer(base, ["positions", "species", "cell", "energy", "pairs_3.0_i", "pairs_3.0_j", "pairs_3.0_S"])
    for batches in ([np.arange(16)], [np.array([3, 1]), np.array([3])]):
        packed = [values for batch in map(packer.pack, batches) for values in batch.values()]
        assert packer._n_bytes(batches) == sum(values.numel() * values.itemsize for values in packed)
    assert packer._n_bytes([np.array([99, -1, 10**12])]) == 3 * (9 + 1) * 8


def test_running_totals_beyond_32_bits() -> None:
    large = Budget("pairs", 2**40, np.array([2**39, 2**39, 1, 2**41], dtype=np.int64))
    assert [batch.tolist() for batch in in_order(np.arange(4), 10, [large])] == [[0, 1], [2], [3]]


@given(st.data())
def test_an_epoch_is_a_function_of_seed_and_number_and_can_be_entered_anywhere(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 25))
    structures = np.arange(100, 100 + n)
    limits = [Budget(b.what, b.most, np.concatenate([np.zeros(100, np.int64), b.sizes])) for b in data.draw(budgets(n))]
    seed, number, batch_size = (data.draw(st.integers(low, 9)) for low in (0, 0, 1))
    whole = Sampler(structures, batch_size, seed, limits).epoch(number)
    assert sorted(np.concatenate(whole)) == structures.tolist()
    another = Sampler(structures, batch_size, seed, limits)
    assert another.n_batches(number) == len(whole)
    another.epoch(data.draw(st.integers(0, 9)))  # another epoch in between changes nothing
    for start in range(len(whole) + 1):
        rest = another.epoch(number, start)
        assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in whole[start:]]


def test_epochs_and_seeds_differ() -> None:
    orders = [
        np.concatenate(Sampler(np.arange(50), 8, seed).epoch(epoch)).tolist() for seed in (0, 1) for epoch in (1, 2)
    ]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("start", [-1, 4])
def test_an_epoch_cannot_be_entered_where_it_has_no_batch(start: int) -> None:
    with pytest.raises(ValueError, match=f"Epoch 2 has 3 batches, got {start}"):
        Sampler(np.arange(12), 4, 0).epoch(2, start)


def cached(n: int = 10) -> Database:
    """A database with cached pairs that its inputs name."""
    base, what = database(n), objective()
    precompute_pairs(assembled(what, base).model, base)
    assembled(what, base)
    return base


def test_budgets_count_atoms_and_ordered_pairs() -> None:
    base = cached()
    packer = Packer(base, base.inputs)
    atoms, pairs = packer.budgets(20, 100)
    for at in range(len(base)):
        batch = packer.pack(np.array([at]))
        assert atoms.sizes[at] == len(batch["positions"])
        assert pairs.sizes[at] == len(next(values for name, values in batch.items() if name.startswith("pairs_")))
    assert (atoms.most, pairs.most) == (20, 100)
    assert packer.budgets(None, None) == []


def test_pairs_of_two_cutoffs_count_together() -> None:
    base = cached()
    (first,) = base.pairs
    base.pairs[2.0] = compute_table(base, 2.0)
    both = Packer(base, [*base.inputs, "pairs_2.0_i"]).budgets(None, 100)[0].sizes
    assert (both == base.pairs[first].pairs_of_structure + base.pairs[2.0].pairs_of_structure).all()
    # What is cached but not read takes no room in a batch.
    assert (Packer(base, base.inputs).budgets(None, 100)[0].sizes == base.pairs[first].pairs_of_structure).all()


def test_dense_pairs_count_as_ragged_ones_do() -> None:
    base, dense = cached(), database(10)
    what = objective()
    precompute_pairs(assembled(what, dense).model, dense, make_dense=True, n_images=3)
    assembled(what, dense)
    sizes = [Packer(one, one.inputs).budgets(None, 100)[0].sizes for one in (base, dense)]
    assert sizes[0].tolist() == sizes[1].tolist()


def test_max_pairs_needs_pairs_that_are_known_beforehand() -> None:
    base = database()
    assembled(objective(), base)
    packer = Packer(base, base.inputs)
    with pytest.raises(ValueError, match=r"max_pairs is 100, but pairs are found on the fly.*max_atoms.*source=cache"):
        packer.budgets(None, 100)
    assert len(packer.budgets(100, None)) == 1


def test_structures_beyond_a_budget_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    base = cached()
    counts = base.columns["n_atoms"]
    most = int(np.sort(counts)[-3])
    with caplog.at_level(logging.WARNING):
        limits = Packer(base, base.inputs).budgets(most, 10**6)
        sampler = Sampler(np.arange(10), 4, 0, limits)
        for epoch in range(3):
            sampler.epoch(epoch)
    beyond = int((counts > most).sum())
    assert beyond > 0
    (told,) = caplog.messages
    assert told.startswith(f"{beyond} of 10 structures have more than training.max_atoms={most} atoms")
    assert f"structure {counts.argmax()} has the most, {counts.max()}" in told
