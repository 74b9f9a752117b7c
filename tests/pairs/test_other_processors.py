"""The CPU finder's vector instructions as other processors get them: with tables, eight at a time, or one by one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.pairs import Pairs, ReferenceFinder
from tests.pairs import lanes_room
from tests.pairs.brute_force import Structure

PROCESSORS = {"generic": "", "x86-64-v3": "+sse4.2,+avx,+avx2,+bmi,+bmi2,+fma,+popcnt,+lzcnt"}
"""Names by which LLVM knows processors, and what they have."""

FIND = """
import sys
import numpy as np
from forcefoundry.pairs.cpu import CpuFinder
given = np.load(sys.argv[1] + "/given.npz")
found = CpuFinder()(*(given[f"arr_{k}"] for k in range(3)), float(given["arr_3"]), given["arr_4"])
np.savez(sys.argv[1] + "/found.npz", i=found.i, j=found.j, S=found.S)
"""


def run_as(processor: str, *words: str) -> None:
    """Run Python in a process that compiles for another processor."""
    if platform.machine() != "x86_64":
        pytest.skip("the names are those of x86-64 processors")
    if processor == "x86-64-v3" and " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor cannot run the other's code")
    other = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": PROCESSORS[processor]}
    subprocess.run([sys.executable, *words], check=True, env={**os.environ, **other}, cwd=Path(__file__).parents[2])


def test_lanes_pick_what_plain_numpy_picks() -> None:
    lanes_room.check()


@pytest.mark.parametrize("processor", PROCESSORS)
def test_lanes_of_other_processors_pick_the_same(processor: str) -> None:
    run_as(processor, "-m", "tests.pairs.lanes_room")


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_other_processors_find_what_brute_force_finds(processor: str, tmp_path: Path) -> None:
    rng, parts = np.random.default_rng(8), []
    for n_atoms, periodic in ((1, True), (2, True), (3, True), (7, True), (30, True), (20, False), (400, True)):
        edge = (n_atoms / 0.05) ** (1 / 3)
        cell = (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))) * edge
        pbc = np.array([periodic] * 3)
        parts.append(Structure(rng.uniform(-1, 2, (n_atoms, 3)) @ cell, cell, pbc, 6.0))
    offsets = np.concatenate([[0], np.cumsum([len(part.positions) for part in parts])])
    positions = np.concatenate([part.positions for part in parts])
    batch = (positions, np.stack([one.cell for one in parts]), np.stack([one.pbc for one in parts]), 6.0, offsets)
    np.savez(tmp_path / "given.npz", *batch)
    run_as(processor, "-c", FIND, str(tmp_path))
    found, wanted = np.load(tmp_path / "found.npz"), ReferenceFinder()(*batch)
    for name in ("i", "j", "S"):
        np.testing.assert_array_equal(Pairs(**found).__dict__[name], getattr(wanted, name))
