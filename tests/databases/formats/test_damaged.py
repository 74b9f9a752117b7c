"""Files cut short and files with bytes flipped, put in, taken away or doubled, from fixed seeds.

What comes is the right rows, Unreadable, or an error in words that names the file. `npz`, ASE-LMDB and HDF5 with
checksums notice every change that reaches a value. Text, SQLite and plain HDF5 cannot; there every row that is given
must at least be a structure, and of text each frame that was not touched comes through. Nothing may crash or hang.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest

from forcefoundry.databases.formats import Unreadable, read_rows
from tests.databases.formats.test_extxyz import everything
from tests.databases.formats.writers import WRITERS, drawn, same
from tests.outside import data, files

CHECKED = ("npz", "ase_lmdb", "hdf5")
FORMATS = (*CHECKED, "extxyz", "ase_db")
ROWS = drawn(8)
KINDS = ("flip", "insert", "delete", "double")


@functools.cache
def whole(format: str, folder: Path) -> bytes:
    return WRITERS[format](folder / "whole", ROWS).read_bytes()


def mutated(held: bytes, rng: np.random.Generator) -> tuple[bytes, list[int]]:
    """One to three changes, and which bytes of the whole they touched, with those beside them."""
    changed, origin, touched = list(held), list(range(len(held))), set[int]()
    for _ in range(rng.integers(1, 4)):
        at, size, kind = int(rng.integers(len(changed))), int(rng.integers(1, 40)), KINDS[rng.integers(4)]
        touched |= set(origin[max(0, at - 1) : at + 2])  # a line's end belongs to both
        if kind == "flip":
            changed[at] ^= int(rng.integers(1, 256))
        elif kind == "delete":
            touched |= set(origin[at : at + size + 1])
            del changed[at : at + size], origin[at : at + size]
        else:
            new = changed[at : at + size] if kind == "double" else rng.integers(0, 256, size % 5 + 1).tolist()
            changed[at:at], origin[at:at] = new, [origin[at]] * len(new)
            touched |= set(origin[at : at + 2 * len(new)])
        if not changed:
            break
    return bytes(changed), sorted(touched)


def check(format: str, path: Path) -> list[Any] | None:
    """Read a damaged file; what comes, or None if it was refused, in words and by name."""
    found = []
    try:
        for _, atoms in read_rows(format, path, unreadable="yield"):
            found.append(atoms)
    except (ValueError, OSError) as error:
        told = str(error)
        assert str(path) in told
        assert "\n" not in told
        assert "Traceback" not in told
        return None
    for atoms in found:
        if isinstance(atoms, Unreadable):
            assert atoms.reason
            assert "\n" not in atoms.reason
            assert len(atoms.raw) <= 65536
        else:
            assert isinstance(atoms, ase.Atoms)
            assert atoms.positions.shape == (len(atoms), 3)
    if format in CHECKED:
        good = [atoms for atoms in found if not isinstance(atoms, Unreadable)]
        assert in_order(good, ROWS)
        assert len(good) == len(ROWS) or len(found) > len(good)
    return found


def in_order(some: Sequence[ase.Atoms], rows: Sequence[ase.Atoms]) -> bool:
    """Whether `some` are found among `rows`, one after another."""
    left = iter(rows)
    return all(any(same_if_labelled(one, other) for other in left) for one in some)


def same_if_labelled(one: Any, other: Any) -> bool:
    try:
        return not isinstance(one, Unreadable) and not isinstance(other, Unreadable) and same(one, other)
    except KeyError:  # the name of a label was damaged
        return False


@pytest.mark.parametrize("format", FORMATS)
def test_cut_short_at_twenty_places(tmp_path: Path, format: str) -> None:
    held, path = whole(format, tmp_path), tmp_path / "damaged"
    refused = 0
    for end in np.linspace(0, len(held) - 1, 20).astype(int):
        path.write_bytes(held[:end])
        found = check(format, path)
        refused += found is None
        if found is not None:
            assert all(isinstance(one, Unreadable) or same(one, row) for one, row in zip(found, ROWS, strict=False))
            *before, last = found or [None]
            assert not any(isinstance(atoms, Unreadable) for atoms in before)
            if format == "extxyz" and end and b"\n" not in (held[end - 1 : end], held[end : end + 1]):
                assert isinstance(last, Unreadable)
            if format != "extxyz":
                assert len(found) == len(ROWS)
    if format in CHECKED:
        assert refused >= 15  # LMDB's last pages may be free
    whole.cache_clear()


@pytest.mark.parametrize("name", ["run0000/a@1.xyz", "run0004/b.traj"])
def test_a_file_of_a_folder_cut_short_at_twenty_places(tmp_path: Path, name: str) -> None:
    path = WRITERS["ase_folder"](tmp_path / "runs", ROWS)
    held = (path / name).read_bytes()
    its = {"a@1.xyz": ROWS[:3], "b.traj": ROWS[7:]}[Path(name).name]
    others = ROWS[3:] if len(its) == 3 else ROWS[:7]
    told = 0
    for end in np.linspace(0, len(held) - 1, 20).astype(int):
        (path / name).write_bytes(held[:end])
        found = check("ase_folder", path)
        assert found is not None
        good = [atoms for atoms in found if not isinstance(atoms, Unreadable)]
        of_it = [atoms for atoms in good if in_order([atoms], its)]
        assert in_order(of_it, its)
        assert len(good) == len(of_it) + len(others)
        assert in_order(others, good)
        told += len(good) < len(found)
    assert told >= 15  # text may end between two frames


@functools.cache
def frames_of(path: Path) -> tuple[list[tuple[str, ase.Atoms]], np.ndarray]:
    """What stands in a real file of extended XYZ, and at which byte each frame ends."""
    ends = np.cumsum([len(part) for part in texts(path.read_bytes())])
    return list(read_rows("extxyz", path)), ends


def cut_a_real_text(path: Path, folder: Path) -> None:
    """Twenty times: the frames before the cut are as they were, and the one it goes through is told."""
    rows, ends = frames_of(path)
    assert len(rows) == len(ends)
    held, cut = path.read_bytes(), folder / "cut.xyz"
    for end in np.linspace(1, len(held) - 2, 20).astype(int).tolist():
        cut.write_bytes(held[:end])
        found = list(read_rows("extxyz", cut, unreadable="yield"))
        whole = int(np.searchsorted(ends - 1, end, side="right"))  # the end of the last line may be missing
        assert [where for where, _ in found[:whole]] == [where for where, _ in rows[:whole]]
        for (_, atoms), (_, row) in zip(found[:whole], rows[:whole], strict=True):
            np.testing.assert_equal(everything(atoms), everything(row))
        at_an_end = whole > 0 and end - ends[whole - 1] in (-1, 0)
        assert [isinstance(atoms, Unreadable) for _, atoms in found[whole:]] == [True] * (not at_an_end)
    frames_of.cache_clear()


SMALL = files(data(), "*/*.xyz", lambda path: path.stat().st_size < 250_000)
LARGE = files(data(), "*/*.xyz", lambda path: path.stat().st_size >= 250_000)


@pytest.mark.parametrize("path", SMALL)
def test_real_texts_cut_short_at_twenty_places(path: Path, tmp_path: Path) -> None:
    cut_a_real_text(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", LARGE)
def test_large_real_texts_cut_short_at_twenty_places(path: Path, tmp_path: Path) -> None:
    cut_a_real_text(path, tmp_path)


@pytest.mark.parametrize("path", files(data(), "*/*.npz"))
def test_real_archives_cut_short_at_twenty_places_are_refused(path: Path, tmp_path: Path) -> None:
    held, cut = path.read_bytes(), tmp_path / "cut.npz"
    for end in np.linspace(0, len(held) - 1, 20).astype(int):
        cut.write_bytes(held[:end])
        with pytest.raises(ValueError, match=r"cut\.npz: cannot be read as an npz file \("):
            list(read_rows("npz", cut, unreadable="yield"))


def attempt(format: str, held: bytes, path: Path, seed: int, example: int) -> list[Any] | None:
    """Read what one example of damage makes of a file; of text, each frame that was not touched must come through."""
    changed, touched = mutated(held, np.random.default_rng([seed, example]))
    path.write_bytes(changed)
    found = check(format, path)
    if format == "extxyz":
        assert found is not None
        frames = np.cumsum([len(part) for part in texts(held)])
        bad = set(np.searchsorted(frames, touched, side="right").tolist())
        bad |= {at - 1 for at in bad}  # a frame is not trusted where no other follows it
        assert in_order([row for at, row in enumerate(ROWS) if at not in bad], found), (seed, example)
    return found


def fuzz(format: str, folder: Path, examples: int, seed: int) -> None:
    held = whole(format, folder)
    for example in range(examples):
        attempt(format, held, folder / "damaged", seed, example)
    whole.cache_clear()


def texts(held: bytes) -> list[bytes]:
    """The frames of extended XYZ."""
    lines, parts = held.splitlines(keepends=True), []
    while lines:
        parts.append(b"".join(lines[: int(lines[0]) + 2]))
        lines = lines[int(lines[0]) + 2 :]
    return parts


@pytest.mark.parametrize(
    ("format", "examples"), [("npz", 150), ("extxyz", 250), ("ase_db", 60), ("ase_lmdb", 12), ("hdf5", 12)]
)
def test_bytes_changed(tmp_path: Path, format: str, examples: int) -> None:
    fuzz(format, tmp_path, examples, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "examples"), [("npz", 2700), ("extxyz", 4000), ("ase_db", 2000), ("ase_lmdb", 300), ("hdf5", 300)]
)
def test_many_more_bytes_changed(tmp_path: Path, format: str, examples: int) -> None:
    fuzz(format, tmp_path, examples, seed=1)


def fuzz_folder(folder: Path, examples: int, seed: int) -> None:
    """One file of each kind is damaged; the rows of the others come through."""
    path = WRITERS["ase_folder"](folder / "runs", ROWS)
    for name, its in (("run0000/a@1.xyz", {0, 1, 2}), ("run0004/b.traj", {7})):
        held = (path / name).read_bytes()
        for example in range(examples):
            (path / name).write_bytes(mutated(held, np.random.default_rng([seed, example]))[0])
            found = check("ase_folder", path)
            assert found is not None
            assert in_order([row for at, row in enumerate(ROWS) if at not in its], found), (name, seed, example)
        (path / name).write_bytes(held)


def test_a_file_of_a_folder_changed(tmp_path: Path) -> None:
    fuzz_folder(tmp_path, 60, seed=0)


@pytest.mark.slow
def test_a_file_of_a_folder_changed_many_more_times(tmp_path: Path) -> None:
    fuzz_folder(tmp_path, 350, seed=1)


@pytest.mark.parametrize("format", ["ase_lmdb", "hdf5"])
def test_a_library_that_crashes_is_told(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def crash(event, arguments):\n"
        "    if event == 'import' and arguments[0] in ('lmdb', 'h5py'):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.addaudithook(crash)\n"
    )
    path = WRITERS[format](tmp_path / "some", ROWS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"some: its reader was ended by SIGSEGV\. The file is damaged"):
        list(read_rows(format, path))


def test_a_library_that_stands_still_is_told_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from forcefoundry.databases.formats import _apart

    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "sys.addaudithook(lambda event, given: event == 'import' and given[0] == 'h5py' and time.sleep(600))\n"
    )
    path = WRITERS["hdf5"](tmp_path / "some", ROWS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_apart, "STILL", 1.0)
    with pytest.raises(ValueError, match=r"some: its reader has stood still for 1 s"):
        list(read_rows("hdf5", path))


@pytest.mark.parametrize("format", ["ase_lmdb", "hdf5", "npz"])
def test_who_stops_reading_leaves_nothing_behind(tmp_path: Path, format: str) -> None:
    rows = iter(read_rows(format, WRITERS[format](tmp_path / "some", ROWS)))
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    children = Path("/proc/self/task").glob("*/children")
    assert not any(
        "_apart" in Path(f"/proc/{child}/cmdline").read_text() for one in children for child in one.read_text().split()
    )
