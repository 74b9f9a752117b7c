"""Batches made ahead: the same ones in the same order, errors where they are due, and no thread left behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
import torch

from forcefoundry.batches import Batch, Packer, Sampler, prefetched
from forcefoundry.batches.sampling import TOGETHER, groups
from forcefoundry.databases import Database
from forcefoundry.pairs.cache import compute_table
from forcefoundry.pairs.contract import Ints
from tests.builders import database

NAMES = [
    "positions",
    "species",
    "cell",
    "pbc",
    "n_atoms",
    "system_of_atom",
    "pairs_3.2_i",
    "pairs_3.2_j",
    "pairs_3.2_S",
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert [thread for thread in threading.enumerate() if thread not in before] == []


def base() -> Database:
    """Structures with cached pairs."""
    made = database(40)
    made.pairs[3.2] = compute_table(made, 3.2)
    return made


class Watched(Packer):
    """Notes which batches are packed, by whom; one of them cannot be. Puts so many together as if they were large."""

    def __init__(self, bad: int | None = None, together: int = 1):
        super().__init__(base(), NAMES)
        self.bad, self.together = bad, together
        self.asked: list[int] = []
        self.threads: list[threading.Thread] = []
        self.more = threading.Condition()

    def groups(self, batches: Iterable[Ints]) -> Iterator[list[Ints]]:
        """Groups of that many."""
        each = -(-TOGETHER // self.together)
        return groups(batches, lambda some: each * len(some), each)

    def pack_together(self, batches: Sequence[Ints]) -> list[Batch]:
        """Pack, unless the bad one is among them."""
        with self.more:
            self.asked += [int(structures[0]) for structures in batches]
            self.threads.append(threading.current_thread())
            self.more.notify_all()
        for structures in batches:
            if structures[0] == self.bad:
                raise ValueError(f"structure {structures[0]} is broken")
        return super().pack_together(batches)

    def wait_for(self, n: int) -> None:
        """Until so many batches were asked for; fails where nobody packs."""
        with self.more:
            assert self.more.wait_for(lambda: len(self.asked) >= n, timeout=30)


SINGLES = [np.array([at]) for at in range(12)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_batches(workers: int, device: str) -> None:
    packer = Packer(base(), NAMES, device)
    batches = Sampler(np.arange(40), 3, 7).epoch(1)
    with prefetched(packer, batches, workers) as packed:
        found = [{name: values.cpu().numpy() for name, values in batch.items()} for batch in packed]
    assert len(found) == len(batches)
    for structures, batch in zip(batches, found, strict=True):
        expected = {name: values.cpu().numpy() for name, values in packer.pack(structures).items()}
        assert list(batch) == list(expected)
        for name, values in expected.items():
            assert (values.dtype, values.shape) == (batch[name].dtype, batch[name].shape)
            assert values.tobytes() == batch[name].tobytes()


def test_no_worker_packs_in_the_loop() -> None:
    packer = Watched()
    with prefetched(packer, SINGLES, 0) as packed:
        for number, _ in enumerate(packed):
            assert packer.asked == list(range(number + 1))
    assert set(packer.threads) == {threading.current_thread()}


@pytest.mark.parametrize("workers", [1, 3])
def test_the_next_batches_are_made_while_one_is_worked_on_and_not_all_of_them(workers: int) -> None:
    packer = Watched()
    with prefetched(packer, SINGLES, workers) as packed:
        for number, batch in enumerate(packed):
            assert len(batch["n_atoms"]) == 1
            packer.wait_for(min(number + 2 + workers, len(SINGLES)))  # one batch taken, workers + 1 on their way
            assert len(packer.asked) <= number + 2 + workers
    assert sorted(packer.asked) == list(range(len(SINGLES)))
    assert threading.current_thread() not in packer.threads
    assert len(set(packer.threads)) <= workers


def test_small_batches_are_packed_some_at_once_and_large_ones_one_by_one() -> None:
    packer = Watched(together=4)
    with prefetched(packer, SINGLES, 0) as packed:
        for number, batch in enumerate(packed):
            assert len(batch["n_atoms"]) == 1
            assert packer.asked == list(range(4 * (number // 4 + 1)))
    assert len(packer.threads) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_who_names_batches_may_use_one_array_for_all(workers: int) -> None:
    def named() -> Iterator[Ints]:
        one = np.zeros(1, dtype=np.int64)
        for at in range(12):
            one[:] = at
            yield one

    packer = Watched(together=5)
    with prefetched(packer, named(), workers) as packed:
        for batch, structures in zip(packed, SINGLES, strict=True):
            assert torch.equal(batch["positions"], packer.pack(structures)["positions"])


@pytest.mark.parametrize("workers", [0, 2])
def test_nobody_holds_on_to_a_batch_that_was_given_out(workers: int) -> None:
    packer = Watched(together=3)
    with prefetched(packer, SINGLES, workers) as packed:
        for number in range(len(SINGLES)):
            batch = next(packed)
            alive = weakref.ref(batch["positions"])
            del batch
            assert alive() is None, number


def test_workers_are_a_group_ahead() -> None:
    packer = Watched(together=3)
    with prefetched(packer, SINGLES, 1) as packed:
        for number, _ in enumerate(packed):
            packer.wait_for(min(3 * (number // 3 + 3), len(SINGLES)))
            assert len(packer.asked) <= 3 * (number // 3 + 3)
    assert packer.asked == list(range(len(SINGLES)))


@pytest.mark.parametrize("together", [1, 3, 20])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_where_its_batch_is_due_in_its_own_words(workers: int, together: int) -> None:
    packer = Watched(bad=4, together=together)
    seen: list[int] = []

    def go_through() -> None:
        with prefetched(packer, SINGLES, workers) as packed:
            for batch in packed:
                expected = packer.pack(SINGLES[len(seen)])
                assert all(torch.equal(batch[name], values) for name, values in expected.items())
                seen.append(len(seen))

    with pytest.raises(ValueError, match=r"^structure 4 is broken$"):
        go_through()
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_in_the_loop_ends_the_threads(workers: int, error: type[BaseException]) -> None:
    kept: list[Iterator[Batch]] = []

    def go_through() -> None:
        with prefetched(Watched(), SINGLES, workers) as packed:
            kept.append(packed)  # so that it is not its going out of sight that ends the threads
            next(packed)
            raise error

    with pytest.raises(error):
        go_through()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_leaving_the_loop_early_ends_the_threads_and_packs_no_more() -> None:
    packer = Watched()
    with prefetched(packer, SINGLES, 2) as packed:
        for _ in packed:
            break
    asked = len(packer.asked)
    assert asked < len(SINGLES)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    assert len(packer.asked) == asked


def test_never_begun() -> None:
    packer = Watched()
    with prefetched(packer, SINGLES, 2):
        pass
    assert packer.asked == []


def test_no_batches() -> None:
    for workers in (0, 2):
        with prefetched(Watched(), [], workers) as packed:
            assert list(packed) == []


def test_a_negative_number_of_workers_is_told() -> None:
    with pytest.raises(ValueError, match="workers is -1, expected 0 or more"), prefetched(Watched(), SINGLES, -1):
        pass


def test_memory_is_pinned_for_cuda_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("memory was pinned")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    with prefetched(Packer(base(), NAMES), SINGLES, 2) as packed:
        assert len(list(packed)) == len(SINGLES)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_of_the_sampler_comes_when_its_batch_is_due(workers: int) -> None:
    def some() -> Iterator[Ints]:
        for at in range(6):
            yield np.array([at])
        raise ValueError("no seventh batch")

    got = []
    with prefetched(Watched(), some(), workers) as packed:
        got.extend(next(packed) for _ in range(6))
        with pytest.raises(ValueError, match="no seventh batch"):
            next(packed)
    assert len(got) == 6
