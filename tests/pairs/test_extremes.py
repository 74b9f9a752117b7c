"""The compiled finder at its limits: Ctrl-C, atoms far from all others, lengths that no float32 holds, many images."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.pairs import ReferenceFinder
from forcefoundry.pairs.contract import LARGEST, check_cutoff
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.native.bins import crowd
from forcefoundry.pairs.native.compiling import stoppable
from forcefoundry.pairs.native.home import home_in
from forcefoundry.pairs.native.threads import side_by_side
from tests.pairs.brute_force import Structure
from tests.pairs.test_cpu_finder import batch, equal

FINDER = CpuFinder()
BRUTE = ReferenceFinder()
OPEN = np.zeros(3, dtype=bool)
PERIODIC = ~OPEN

FIND_FOR_EVER = """
import numpy as np
from forcefoundry.pairs.cpu import CpuFinder
finder = CpuFinder(threads={threads})
positions, offsets = np.random.default_rng(0).uniform(0, 16, (12000, 3)), np.arange(31) * 400
what = positions, np.tile(np.eye(3) * 16.0, (30, 1, 1)), np.ones((30, 3), bool), 5.0, offsets
finder.half(*what)
print("finding", flush=True)
try:
    while True:
        finder.half(*what)
except KeyboardInterrupt as error:
    print(error.__cause__, error.__context__)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_while_pairs_are_looked_for_is_a_keyboard_interrupt(threads: int) -> None:
    command = [sys.executable, "-c", FIND_FOR_EVER.format(threads=threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "finding\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (said, process.returncode) == ("None None\n", 0), errors


def test_what_compiled_code_makes_of_ctrl_c_is_undone_and_other_errors_stay() -> None:
    def fails(reason: BaseException) -> None:
        raise SystemError("returned a result with an exception set") from reason

    call = stoppable(fails)
    with pytest.raises(KeyboardInterrupt) as caught:
        call(KeyboardInterrupt())
    assert caught.value.__context__ is None
    with pytest.raises(SystemError, match="returned a result"):
        call(ValueError("of another kind"))


INTERRUPTED = """
import faulthandler, signal, time
import numpy as np
from forcefoundry.pairs.cpu import CpuFinder

faulthandler.enable()
rng = np.random.default_rng(0)
batches = []
for n in (20, 60, 5, 40):
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 120, 3 * n))])
    positions, cell, pbc = rng.uniform(0, 9, (offsets[-1], 3)), [np.eye(3) * 9.0] * 3 * n, np.ones((3 * n, 3), bool)
    batches.append((positions, np.array(cell), pbc, 2.5, offsets))
finder = CpuFinder(threads=3)
right = [finder(*batch).j for batch in batches]
signal.signal(signal.SIGALRM, signal.default_int_handler)
stopped, end = 0, time.monotonic() + 4.0
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0003 + 0.004 * rng.random())
        for at in range(30):
            finder(*batches[at % 4])
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    except KeyboardInterrupt:
        stopped += 1
signal.setitimer(signal.ITIMER_REAL, 0.0)
print(stopped, all((finder(*batch).j == j).all() for batch, j in zip(batches, right)))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that interrupt")
def test_ctrl_c_hundreds_of_times_leaves_nothing_behind() -> None:
    """At any moment, with threads that go on: no crash, no wait for ever, and the next pairs are right."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    stopped, right = done.stdout.split()
    assert int(stopped) > 50
    assert right == "True"


def test_threads_are_waited_for_however_often_ctrl_c_is_pressed() -> None:
    """What they write to is handed to the next call."""
    done, own = [], threading.get_ident()

    def slow() -> None:
        for _ in range(3):
            time.sleep(0.1)
            signal.pthread_kill(own, signal.SIGINT)
        time.sleep(0.1)
        done.append(1)

    with pytest.raises(KeyboardInterrupt):
        side_by_side([lambda: None, slow])
    assert done == [1]


def gas(n_atoms: int) -> np.ndarray:
    """Positions of atoms everywhere in a box, about one in 10 Å³, none of them close to another."""
    edge = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n_atoms]
    return 2.2 * grid + np.random.default_rng(0).uniform(-0.5, 0.5, (n_atoms, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
@pytest.mark.parametrize("far", [1, 10000])
def test_atoms_far_away_take_no_memory_by_the_square_of_their_number(far: int) -> None:
    """One far atom, or two systems far apart: whatever shares a bin, room is taken for pairs and not for tries."""
    positions = gas(20000)
    FINDER.half(*batch([Structure(positions, np.zeros((3, 3)), OPEN, 4.0)]))
    positions[-far:] += 1e7
    what = batch([Structure(positions, np.zeros((3, 3)), OPEN, 4.0)])
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**27, before[1]))
    try:
        half = FINDER.half(*what)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert len(half.codes) > 100000


def test_atoms_far_away_share_no_bin_with_the_others() -> None:
    """The bins are laid around most atoms, and so are as narrow as without the one that is far away."""
    positions = gas(3000)
    n_atoms, within = len(positions), 5.0
    home, *_ = home_in(np.empty(0), np.empty(0, np.int64), n_atoms)
    home.x[:], home.y[:], home.z[:] = positions.T
    home.bounds[0], home.bounds[1] = positions.min(axis=0), positions.max(axis=0)
    alone = crowd(n_atoms, home.bounds, within, home)
    np.testing.assert_array_equal(alone, home.bounds[:2])
    home.x[-1] = home.y[-1] = 1e7
    home.bounds[1, :2] = 1e7
    beside = crowd(n_atoms, home.bounds, within, home)
    assert (beside[0] <= alone[0] + 1e-9).all()
    assert (beside[1] < 2 * alone[1]).all()


@pytest.mark.parametrize("pbc", [(False, False, False), (False, True, False)])
@pytest.mark.parametrize("far", [300.0, 1e5, 1e8])
def test_atoms_far_from_a_large_system_change_no_pair(pbc: tuple[bool, bool, bool], far: float) -> None:
    positions = gas(1700)
    away = np.where(pbc, 0.0, far)
    positions[[0, 1]] -= away
    positions[[7, 1600]] = positions[[7, 7]] + away + np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    what = Structure(positions, np.eye(3) * 28.0, np.array(pbc), 4.0)
    equal(what.found_by(FINDER), what.found_by(BRUTE))


@pytest.mark.parametrize("finder", [FINDER, BRUTE])
def test_lengths_beyond_any_structure_are_refused(finder: CpuFinder | ReferenceFinder) -> None:
    near = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    fine = Structure(near, np.eye(3) * 9.0, PERIODIC, 3.0)
    for length in (1.1 * LARGEST, 1e39, 1e160):
        far = near + np.array([[0.0], [0.0], [1.0]]) * [0.0, 0.0, -length]
        with pytest.raises(ValueError, match=r"System 1, atom 2: its position .* at most 1e"):
            finder(*batch([fine, Structure(far, np.eye(3) * 9.0, OPEN, 3.0)]))
        with pytest.raises(ValueError, match=r"System 1: its cell .* at most 1e"):
            finder(*batch([fine, Structure(near, np.eye(3) * length, PERIODIC, 3.0)]))
        with pytest.raises(ValueError, match=r"The cutoff is .* at most 1e"):
            Structure(near, np.eye(3), OPEN, length).found_by(finder)


@pytest.mark.parametrize("length", [1e9, 1e12, LARGEST])
def test_lengths_up_to_the_limit_change_no_pair(length: float) -> None:
    near = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    far = np.concatenate([near, [[0.0, -length, length]]])
    for what in (
        Structure(near, np.eye(3) * length, PERIODIC, 3.0),
        Structure(far, np.eye(3) * 9.0, OPEN, 3.0),
        Structure(far, np.diag([9.0, 1.0, 1.0]), np.array([True, False, False]), 10.0),
        Structure(near, np.eye(3), OPEN, length),
    ):
        equal(what.found_by(FINDER), what.found_by(BRUTE))
    assert len(FINDER.half(*batch([Structure(gas(1700), np.eye(3), OPEN, length)])).codes) == 1700 * 1699 // 2


def test_shifts_at_the_limit_fit_32_bits_and_farther_atoms_are_named() -> None:
    far = 2.0**29
    positions = np.array([[far, 0.0, 0.0], [0.5 - far, 0.3, 0.3]])
    pbc = np.array([True, False, False])
    what = Structure(positions, np.eye(3), pbc, 3.5)
    equal(what.found_by(FINDER), what.found_by(BRUTE))
    assert what.found_by(FINDER).S.max() > 2**30
    what.positions[1, 0] -= 1.0
    with pytest.raises(ValueError, match=r"System 0, atom 1: its position .* more than 2\^29 cells from the origin"):
        what.found_by(FINDER)


def test_open_axes_count_no_images() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [300.0, 0.0, 0.0]])
    for pbc in ([True, True, False], [True, False, False], [False, False, True]):
        what = Structure(positions, np.eye(3) * 1000.0, np.array(pbc), 600.0)
        assert len(what.found_by(FINDER).i) == 2
        equal(what.found_by(FINDER), what.found_by(BRUTE))


def test_images_hundreds_of_cells_away_along_every_axis() -> None:
    """Each axis has bits of its own; a cell too small along one is refused, in other words than one with too many."""
    cell = np.diag([0.5, 0.02, 1.0])
    what = Structure(np.array([[0.0, 0.0, 0.0]]), cell, np.array([False, True, False]), 9.0)
    equal(what.found_by(FINDER), what.found_by(BRUTE))
    what.pbc[0] = True
    equal(what.found_by(FINDER), what.found_by(BRUTE))
    what.cell[1, 1] = 0.017
    with pytest.raises(ValueError, match="System 0 has a cell that the cutoff spans more than 500 times along one"):
        what.found_by(FINDER)


@pytest.mark.parametrize("cutoff", ["five", "5.0", None, [5.0, 6.0], np.nan, -1, 10**400])
def test_a_cutoff_that_is_no_length_is_refused_in_words(cutoff: object) -> None:
    with pytest.raises(ValueError, match=r"The cutoff is .* Å, expected a length above 0 Å. Set pairs.cutoff."):
        check_cutoff(cutoff)  # type: ignore[arg-type]


def test_offsets_of_two_dimensions_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"The offsets have the shape \(1, 2\), expected \(S \+ 1,\)"):
        FINDER(np.zeros((1, 3)), np.zeros((1, 3, 3)), OPEN[None], 3.0, np.array([[0, 1]]))
