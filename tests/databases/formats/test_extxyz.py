"""Extended XYZ cut into frames: what ASE reads of a whole file, and one bad frame among good ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest

from forcefoundry.databases.formats import Unreadable, _frames, read_rows
from tests.databases.formats.writers import drawn, same, write_extxyz
from tests.outside import data, files

REAL = files(data(), "*/*.xyz")
PLAIN = "3\nwater\nO 0.0 0.0 0.1\nH 0.0 0.8 -0.5\nH 0.0 -0.8 -0.5\n"
FIVE = [f"frame {at}" for at in range(5)]


def everything(atoms: ase.Atoms) -> dict[str, Any]:
    """All that a row carries, by names in their order."""
    held = {"cell": np.asarray(atoms.cell), "pbc": atoms.pbc, "constraints": [str(one) for one in atoms.constraints]}
    return held | atoms.arrays | {"info": atoms.info, "results": atoms.calc.results if atoms.calc else None}


def equal(path: Path) -> int:
    """Compare with ASE's reader of whole files; the number of frames."""
    expected = list(ase.io.iread(path, index=":", format="extxyz"))
    found = list(read_rows("extxyz", path))
    assert [where for where, _ in found] == [f"frame {at}" for at in range(len(expected))]
    for (_, atoms), other in zip(found, expected, strict=True):
        np.testing.assert_equal(everything(atoms), everything(other))
        assert list(atoms.info) == list(other.info)
    return len(expected)


def written(path: Path, n: int = 5) -> list[list[str]]:
    """The lines of each frame of a file of `drawn(n)`."""
    write_extxyz(path, drawn(n))
    lines, frames = path.read_text().splitlines(), []
    while lines:
        size = int(lines[0]) + 2
        frames.append(lines[:size])
        lines = lines[size:]
    return frames


def read(path: Path, frames: list[list[str]]) -> list[tuple[str, Any]]:
    path.write_text("".join(f"{line}\n" for frame in frames for line in frame))
    return list(read_rows("extxyz", path, unreadable="yield"))


@pytest.mark.parametrize("path", REAL)
def test_real_sets_are_what_ase_reads(path: Path) -> None:
    assert equal(path) > 0


@pytest.mark.parametrize(
    "text",
    [
        PLAIN * 2,
        PLAIN + "\n\n",
        (PLAIN * 2).replace("\n", "\r\n"),
        (PLAIN * 2).replace("\n", "\r"),
        PLAIN.rstrip("\n"),
        PLAIN + "VEC1 5.0 0.0 0.0\nVEC2 0.0 6.0 0.0\nVEC3 0.0 0.0 7.0\n" + PLAIN,
        PLAIN + "VEC1 5.0 0.0 0.0\n" + PLAIN,
        "0\nProperties=species:S:1:pos:R:3\n" + PLAIN,
        "1\n\nHe 0 0 0 of a helium\n",
        "1\nname=\"Properties=x y\" Properties=species:S:1:pos:R:3 T=\"a 'b'\" q='c' j={1 2} e=-1.5\nHe 0.0 0.0 0.0\n",
        '1\nProperties="species:S:1:pos:R:3" café="é"\nHe 0.0 0.0 0.0\n',
        "1\nProperties=Z:I:1:pos:R:3:tags:I:1:move_mask:L:1 pbc='T F T' Lattice='1 0 0 0 1 0 0 0 1'\n2 0 0 0 3 F\n",
    ],
)
def test_texts_of_other_make_are_what_ase_reads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(text.encode())
    assert equal(path) > 0


@pytest.mark.parametrize(("ending", "packer"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_packed_files_are_what_ase_reads(tmp_path: Path, ending: str, packer: Any) -> None:
    whole = write_extxyz(tmp_path / "a.xyz", drawn(8)).read_bytes()
    path = tmp_path / f"a.xyz{ending}"
    path.write_bytes(packer.compress(whole))
    assert equal(path) == 8
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"a\.xyz{ending}.*cannot be read as extended XYZ"):
        list(read_rows("extxyz", path, unreadable="yield"))


def test_frames_behind_a_blank_line_are_no_longer_lost(tmp_path: Path) -> None:
    path = tmp_path / "a@1.xyz"  # nor is the end of the name an index
    path.write_text(PLAIN + "\n" + PLAIN)
    assert [len(atoms) for _, atoms in read_rows("extxyz", path)] == [3, 3]


def damage(lines: list[str], at: int, change: str) -> list[str]:
    """The lines of a frame with one changed, taken away or doubled."""
    made = {"away": [], "twice": [lines[at]] * 2, "blank": ["", lines[at]]}.get(change, [change])
    return [*lines[:at], *made, *lines[at + 1 :]]


@pytest.mark.parametrize(
    ("at", "change", "told"),
    [
        (3, "H 0.0 x 0.0 1.0 1.0 1.0", "could not convert string to float: 'x'"),
        (3, "H 0.0 0.0 0.0 1.0 1.0", "atom 1 has 6 columns, expected 7"),
        (3, "H 0.0 0.0 0.0 1.0 1.0 1.0 1.0", "atom 1 has 8 columns, expected 7"),
        (3, "Hx 0.0 0.0 0.0 1.0 1.0 1.0", "Hx"),
        (3, "H 0.0 0.0 0.0 1.0 1.0 1_5", "'1_5' is no number"),
        (3, "away", "line 8 says '3' atoms, but another frame begins at line 12"),
        (3, "twice", "line 8 says 3 atoms, but line 13 follows them"),
        (3, "blank", "atom 1 has 0 columns"),
        (0, "2", "line 8 says 2 atoms, but line 12 follows them"),
        (0, "4", "line 8 says '4' atoms, but another frame begins at line 13"),
        (0, "9999999999999", "another frame begins at line 13"),
        (0, "three", "line 8 is 'three', where a frame's number of atoms was expected"),
        (0, "-3", "line 8 is '-3', where"),
        (0, "away", "where a frame's number of atoms was expected"),
        (1, "away", "another frame begins at line 12"),
        (1, "Properties=species:S:1:pos:R:2:forces:R:3", "names no species:S:1 and pos:R:3"),
        (1, "Properties=species:S:1:pox:R:3:forces:R:3", "names no species:S:1 and pos:R:3"),
        (1, "Properties=species:S:1:pos:Q:3:forces:R:3", "names no species"),
        (1, "Propertiez=species:S:1:pos:R:3:forces:R:3", "its comment names no Properties, as the frames before it do"),
        (1, 'Lattice="1 0 0 0 1 0 0 0" Properties=species:S:1:pos:R:3:forces:R:3', "Got info item Lattice"),
    ],
)
def test_one_bad_frame_is_told_and_the_others_come(tmp_path: Path, at: int, change: str, told: str) -> None:
    path = tmp_path / "a.xyz"
    frames = written(path)
    frames[2] = damage(frames[2], at, change)
    found = read(path, frames)
    assert [where for where, _ in found] == FIVE
    bad = found[2][1]
    assert isinstance(bad, Unreadable)
    assert told in bad.reason
    assert str(path) not in bad.reason
    assert bad.raw == "".join(f"{line}\n" for line in frames[2]).encode()
    rows = drawn(5)
    assert all(same(found[other][1], rows[other]) for other in (0, 1, 3, 4))
    with pytest.raises(ValueError, match=r"a\.xyz, frame 2: cannot be read as extended XYZ \(.*\)\.$"):
        list(read_rows("extxyz", path))


def test_a_byte_that_is_no_text_damages_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    held = ["\n".join(frame).encode() + b"\n" for frame in written(path)]
    held[2] = held[2].replace(b"Properties", b"\xffProperties")
    path.write_bytes(b"".join(held))
    found = list(read_rows("extxyz", path, unreadable="yield"))
    assert [isinstance(atoms, Unreadable) for _, atoms in found] == [False, False, True, False, False]
    assert "it holds the byte 0xff, which is no UTF-8" in found[2][1].reason
    assert found[2][1].raw == held[2]


def test_what_lies_between_frames_is_told_and_costs_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    frames = written(path)
    found = read(path, [*frames[:3], ["----", "end of run"], *frames[3:]])
    assert [where for where, _ in found] == [*FIVE[:3], "before frame 3, line 13", *FIVE[3:]]
    assert found[3][1].raw == b"----\nend of run\n"
    rows = [atoms for where, atoms in found if where in FIVE]
    assert all(same(one, other) for one, other in zip(rows, drawn(5), strict=True))


def test_several_bad_frames_in_a_row_without_properties(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    bad, wrong = PLAIN.replace("0.8", "x"), PLAIN.replace("3\n", "7\n", 1)
    path.write_text(PLAIN + bad + wrong + PLAIN + bad)
    found = list(read_rows("extxyz", path, unreadable="yield"))
    assert [isinstance(atoms, Unreadable) for _, atoms in found] == [False, True, True, False, True]
    assert [atoms.raw.decode() for _, atoms in found if isinstance(atoms, Unreadable)] == [bad, wrong, bad]


def test_a_count_that_asks_for_the_whole_file_takes_no_more_than_its_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_frames, "MANY", 8)
    path = tmp_path / "a.xyz"
    frames = written(path, 40)
    frames[7][0] = "100000"
    lines = iter([f"{line}\n" for frame in frames for line in frame])
    found = _frames.frames(lines)
    assert [next(found)[0] for _ in range(8)] == [f"frame {at}" for at in range(8)]
    assert len(list(lines)) > sum(map(len, frames)) / 2  # the rest has not been asked for
    assert sum(isinstance(atoms, ase.Atoms) for _, atoms in read(path, frames)) == 39


def test_raw_bytes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("no frame\n" * 100_000 + PLAIN)
    (_, bad), (_, good) = read_rows("extxyz", path, unreadable="yield")
    assert len(bad.raw) == 65536
    assert "100000 lines" in bad.reason
    assert len(good) == 3


@pytest.mark.parametrize("n_atoms", [1, 4])
@pytest.mark.parametrize("start", ["energy=-9391.5 ", ""])
def test_cut_anywhere_gives_the_first_rows_and_tells_the_rest(tmp_path: Path, n_atoms: int, start: str) -> None:
    """With fixed decimals, at every single byte."""
    rng = np.random.default_rng(0)
    comment = f"{start}Properties=species:S:1:pos:R:3" if start else "any words"
    frames = [
        f"{n_atoms}\n{comment}\n"
        + "".join("C {:.6f} {:.6f} {:.6f}\n".format(*xyz) for xyz in rng.normal(size=(n_atoms, 3)))
        for _ in range(3)
    ]
    path = tmp_path / "a.xyz"
    path.write_text("".join(frames))
    rows = [atoms for _, atoms in read_rows("extxyz", path)]
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    held = path.read_bytes()
    for end in range(1, len(held)):
        path.write_bytes(held[:end])
        *found, (_, last) = read_rows("extxyz", path, unreadable="yield")
        whole = sum(end >= stop for stop in ends)
        if not isinstance(last, Unreadable):
            assert end in ends or end + 1 in ends  # with its last number, if not with the end of its line
            whole += end + 1 in ends
            found.append(("", last))
        assert len(found) == whole
        assert all(np.array_equal(one.positions, other.positions) for (_, one), other in zip(found, rows, strict=False))
