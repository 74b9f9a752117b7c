"""What the CPU's finder keeps from call to call: memory that nobody refers to any more, and threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.native import memory, threads
from forcefoundry.pairs.native.memory import LARGEST, SMALLEST, block, rooms
from forcefoundry.pairs.native.threads import side_by_side

ENOUGH = SMALLEST // 8 + 1000


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No blocks and rooms of other tests."""
    memory._blocks.clear()
    memory._rooms.clear()


def address(array: np.ndarray) -> int:
    """Where an array's numbers lie."""
    return int(array.ctypes.data)


def test_memory_is_used_again_when_the_last_view_is_gone_and_not_before() -> None:
    whole = block(ENOUGH)
    there, part = address(whole), whole[100:200].reshape(10, 10)[3:]
    part[:] = 7
    tensor = torch.from_numpy(part)
    del whole
    others = [block(ENOUGH) for _ in range(3)]
    del part
    others += [block(ENOUGH) for _ in range(3)]
    for other in others:
        other[:] = 0
    assert (tensor == 7).all()
    assert there not in [address(other) for other in others]
    del tensor
    assert address(block(ENOUGH)) == there


def test_a_small_list_that_is_kept_holds_on_to_no_large_block() -> None:
    large = block(20 * ENOUGH)
    there = address(large)
    del large
    small = block(ENOUGH)
    assert address(small) != there
    assert address(block(20 * ENOUGH)) == there


def test_a_small_list_and_a_large_one_in_turn_both_find_their_blocks() -> None:
    """As batches and their packed pairs do."""
    places = set()
    for _ in range(4):
        for n in (20 * ENOUGH, ENOUGH):
            made = block(n)
            places.add(address(made))
            del made
    assert len(places) == 2


def test_what_is_kept_is_bounded() -> None:
    many = [block(ENOUGH) for _ in range(9)]
    much = block(LARGEST // 8 + 1)
    del many, much
    assert len(memory._blocks) == 2
    assert sum(kept.nbytes for kept in memory._blocks) < 3 * 8 * ENOUGH
    with rooms(9):
        assert not memory._rooms
    assert len(memory._rooms) == 4
    with rooms(1) as (room,):
        room.arrays = (np.empty(LARGEST, np.int64),)
    assert len(memory._rooms) == 3


def test_pairs_stay_what_they_were_while_others_are_found() -> None:
    rng = np.random.default_rng(0)
    cell, pbc, offsets = np.eye(3)[None] * 12.0, np.full((1, 3), True), np.array([0, 300])
    places = rng.uniform(0, 12.0, (6, 300, 3))
    finder = CpuFinder(threads=2)
    halves = [finder.half(at, cell, pbc, 5.0, offsets) for at in places]
    found = [finder(at, cell, pbc, 5.0, offsets) for at in places]
    assert all(pairs.i.nbytes > SMALLEST for pairs in found)
    for at, half, pairs in zip(places, halves, found, strict=True):
        for again in (half.mirrored(), CpuFinder()(at, cell, pbc, 5.0, offsets)):
            np.testing.assert_array_equal(again.i, pairs.i)
            np.testing.assert_array_equal(again.j, pairs.j)
            np.testing.assert_array_equal(again.S, pairs.S)


def test_calls_run_at_the_same_time_and_their_threads_stay() -> None:
    together = threading.Barrier(3, timeout=60)

    def who() -> threading.Thread:
        together.wait()
        return threading.current_thread()

    first = side_by_side([who] * 3)
    there = list(threads._threads)
    second = side_by_side([who] * 3)
    assert len(set(first)) == len(set(second)) == 3
    assert first[0] is second[0] is threading.current_thread()
    assert {*first[1:], *second[1:]} <= set(there)
    assert threads._threads == there


def test_few_calls_use_the_threads_of_many() -> None:
    for number in (2, 7, 3, 7):
        side_by_side([lambda: None] * number)
    assert len(threads._threads) >= 6
    before = len(threads._threads)
    for number in (2, 5, 7):
        assert side_by_side([lambda at=at: at for at in range(number)]) == list(range(number))  # type: ignore[misc]
    assert len(threads._threads) == before


def test_what_an_error_interrupts_is_not_worked_in_again() -> None:
    """A thread that was not waited for may still write to it."""
    with pytest.raises(KeyboardInterrupt), rooms(2) as (one, two):
        raise KeyboardInterrupt
    with rooms(4) as others:
        assert not {id(one), id(two)} & {id(room) for room in others}


def test_a_call_that_fails_is_told_when_the_others_are_done() -> None:
    done = []

    def slow() -> None:
        time.sleep(0.2)
        done.append(1)

    def fails() -> None:
        raise KeyError("this one")

    for calls in ([fails, slow, slow], [slow, fails, slow]):
        done.clear()
        with pytest.raises(KeyError, match="this one"):
            side_by_side(calls)
        assert len(done) == 2


def test_a_forked_process_finds_pairs_on_threads_of_its_own() -> None:
    code = (
        "import os, numpy as np\n"
        "from forcefoundry.pairs.cpu import CpuFinder\n"
        "find = CpuFinder(threads=2)\n"
        "what = np.random.default_rng(0).uniform(0, 4, (8, 3)), np.zeros((2, 3, 3)), np.zeros((2, 3), bool), 3.0\n"
        "here = find(*what, np.array([0, 4, 8]))\n"
        "if os.fork() == 0:\n"
        "    there = find(*what, np.array([0, 4, 8]))\n"
        "    os._exit(0 if len(here.i) and (here.i == there.i).all() and (here.j == there.j).all() else 1)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "0"
