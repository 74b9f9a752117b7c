"""The parser of plain frames gives what ASE's reader gives, to the last bit, or leaves the frame to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.cell import Cell
from ase.io.extxyz import _read_xyz_frame, key_val_str_to_dict
from hypothesis import example, given
from hypothesis import strategies as st

from forcefoundry.databases.formats import _plain, read_rows
from forcefoundry.databases.formats._comment import Comment, plain_info
from forcefoundry.databases.formats._plain import plain_frame
from tests.outside import data, files

REAL = files(data(), "*/*.xyz")


def told_apart(one: Any, other: Any, where: str = "atoms") -> Iterator[str]:
    """Where two things differ in type, order of keys, shape, kind, layout in memory or any bit."""
    if type(one) is not type(other):
        yield f"{where}: {type(one)}, {type(other)}"
    elif isinstance(one, np.ndarray):
        for name in ("dtype", "shape", "strides"):
            if getattr(one, name) != getattr(other, name):
                yield f"{where}.{name}: {getattr(one, name)}, {getattr(other, name)}"
        if one.dtype == object or other.dtype == object:
            yield from told_apart(one.tolist(), other.tolist(), where)
        elif one.tobytes() != other.tobytes():
            yield f"{where}: {one}, {other}"
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{where}: {list(one)}, {list(other)}"
        for key in one.keys() & other.keys():
            yield from told_apart(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        if len(one) != len(other):
            yield f"{where}: {one}, {other}"
        for at, pair in enumerate(zip(one, other, strict=False)):
            yield from told_apart(*pair, f"{where}[{at}]")
    elif isinstance(one, np.generic | float):
        if np.asarray(one).tobytes() != np.asarray(other).tobytes():
            yield f"{where}: {one!r}, {other!r}"
    elif isinstance(one, ase.Atoms | Cell) or type(one).__module__.startswith("ase."):
        held = [{key: value for key, value in vars(each).items() if not callable(value)} for each in (one, other)]
        for each in held:
            each.pop("_calc", None)
        yield from told_apart({key: held[0][key] for key in sorted(held[0])}, dict(sorted(held[1].items())), where)
        if isinstance(one, ase.Atoms):
            yield from told_apart(one.calc, other.calc, f"{where}.calc")
    elif one != other:
        yield f"{where}: {one!r}, {other!r}"


def frames(path: Path) -> Iterator[list[str]]:
    """The comments and atoms of a whole file."""
    with path.open() as file:
        for head in file:
            yield [next(file) for _ in range(int(head) + 1)]


@pytest.mark.parametrize("path", REAL)
def test_real_sets_are_what_ase_reads_and_none_is_left_to_it(path: Path) -> None:
    expected = list(ase.io.iread(path, index=":", format="extxyz"))
    for (where, atoms), other in zip(read_rows("extxyz", path), expected, strict=True):
        assert list(told_apart(atoms, other, where)) == []
    for body, other in zip(frames(path), expected, strict=True):
        assert list(told_apart(plain_frame(body, "".join(body[1:]))[0], other)) == []


def test_what_is_told_apart() -> None:
    row = ase.Atoms("H", positions=[[0.0, 0.0, 0.1]], info={"a": 1, "b": "x"})
    changes: list[tuple[str, Any]] = [("info", {"b": "x", "a": 1}), ("info", {"a": 1.0, "b": "x"}), ("pbc", True)]
    changes += [("positions", [[0.0, 0.0, np.nextafter(0.1, 1)]]), ("positions", [[-0.0, 0.0, 0.1]]), ("numbers", [2])]
    assert list(told_apart(row, row.copy())) == []
    for name, value in changes:
        other = row.copy()
        setattr(other, name, value)
        assert list(told_apart(row, other))


def as_ase(body: list[str]) -> Any:
    """What ASE's own reader makes of a frame, but for the lower half of a skew stress; the error if it refuses."""
    try:
        return _read_xyz_frame(iter(body), len(body) - 1, Comment())
    except Exception as error:
        return error


def agrees(body: list[str]) -> bool:
    """Check a frame; whether it was read here."""
    try:
        atoms, _ = plain_frame(body, "".join(body[1:]))
    except Exception:
        return False
    assert list(told_apart(atoms, as_ase(body))) == []
    return True


LABELS = ["energy", "free_energy", "stress", "virial", "dipole", "magmom", "forces", "REF_energy"]
KEYS = st.sampled_from([*LABELS, "Lattice", "pbc", "name", "config_type", "T", "1", "a-b", "a.b"])
INTEGERS = st.integers(-(10**20), 10**20).map(str) | st.sampled_from(["007", "+5", "-0", "1"])
REALS = st.floats(allow_nan=False).map(repr) | st.sampled_from(
    [".5", "5.", "1E5", "+1.e-300", "1e999", "-0.0", "4e-324"]
)
BOOLS = st.sampled_from(["T", "F", "true", "false", "True", "False", "TRUE", "FALSE"])
WORDS = st.sampled_from(
    ["bulk", "H2O", "t", "3x3", "a/b", "x", "2nd:run", "Na", "e", "C(=O)", "_JSON", "nan", "1_5", "inf"]
)
ONE = INTEGERS | REALS | BOOLS | WORDS
LISTS = st.lists(INTEGERS, min_size=1, max_size=9) | st.lists(REALS | INTEGERS, min_size=1, max_size=9)
LISTS |= st.lists(BOOLS, min_size=1, max_size=3) | st.lists(ONE, min_size=1, max_size=3)
NINE = st.lists(REALS, min_size=9, max_size=9) | st.lists(st.integers(-5, 5).map(str), min_size=9, max_size=9)


@st.composite
def items(draw: st.DrawFn) -> str:
    """One key with or without its value, mostly of the plain kind."""
    key = draw(KEYS)
    if key in ("Lattice", "virial", "stress"):
        return f'{key}="{" ".join(draw(NINE))}"'
    shape = draw(st.sampled_from(["bare", "quoted", "alone"]))
    separator = draw(st.sampled_from([" ", ", ", ",", "\t"]))
    return {"bare": f"{key}={draw(ONE)}", "quoted": f'{key}="{separator.join(draw(LISTS))}"', "alone": key}[shape]


COMMENTS = st.lists(items(), max_size=5).map(" ".join)


@given(COMMENTS | st.text("aTF1.e-=\"'{}[], \\\t_:\x1c", max_size=25))
@example('a="1 2" b = 3')
@example('a="" b="x"')
@example('a="x"b=1')
@example("a=b=c")
@example("uid=5 UID=7")
@example('a="_JSON [[1, 2], [3, 4.5]]" b="_JSON [true]" c="_JSON null"')
@example('a="_JSON [1, [2]]"')
@example('a="_JSON  {} _JSON 5" b=_JSON c="_JSON x" virial="_JSON [1]"')
@example("a=b\x1c c=1\x1d d\x1f")
@example('a=" "')
@example("a=,")
@example('a="1 nan" b=1_5 c=-inf d=2024-01-01')
@example('Lattice="1 2 3"')
@example("Lattice")
@example("a={1 2} b=[1, 2] c='1 2'")
def test_a_comment_is_what_ase_makes_of_it(comment: str) -> None:
    try:
        found = plain_info(comment)
    except Exception:
        return
    assert list(told_apart(found, key_val_str_to_dict(comment) if comment.strip() else {}, "info")) == []


SURE = st.floats(allow_nan=False, allow_infinity=False).map(repr) | INTEGERS | BOOLS
SURE |= st.sampled_from(["bulk", "H2O", "3x3"])


@given(st.lists(st.tuples(st.sampled_from("abc"), SURE), max_size=4))
def test_plain_comments_are_not_left_to_ase(pairs: list[tuple[str, str]]) -> None:
    comment = " ".join(f"{key}={value}" for key, value in pairs)
    assert list(told_apart(plain_info(comment), key_val_str_to_dict(comment) if comment else {}, "info")) == []


SYMBOLS = st.sampled_from(["H", "Cu", "cu", "CU", "X", "Og"])
COORDINATES = st.floats(-1e6, 1e6).map(repr) | REALS
FIELDS = {
    "tags:I:1": st.lists(st.integers(-(2**31), 2**31 - 1).map(str), min_size=1, max_size=1),
    "forces:R:3": st.lists(COORDINATES, min_size=3, max_size=3),
    "forces:I:3": st.lists(st.integers(-9, 9).map(str), min_size=3, max_size=3),
    "charge:R:1": st.lists(COORDINATES, min_size=1, max_size=1),
    "initial_charges:R:1": st.lists(COORDINATES, min_size=1, max_size=1),
    "momenta:R:3": st.lists(COORDINATES, min_size=3, max_size=3),
    "move_mask:L:1": st.lists(st.sampled_from(["T", "F", "True", "False"]), min_size=1, max_size=1),
    "move_mask:L:3": st.lists(st.sampled_from(["T", "F"]), min_size=3, max_size=3),
    "mine:L:2": st.lists(st.sampled_from(["T", "F"]), min_size=2, max_size=2),
    "site:S:1": st.lists(st.sampled_from(["a", "b1", "12", "x_y"]), min_size=1, max_size=1),
    "sites:S:2": st.lists(st.sampled_from(["a", "b1", "12"]), min_size=2, max_size=2),
    "stresses:R:6": st.lists(COORDINATES, min_size=6, max_size=6),
    "magmoms:R:1": st.lists(COORDINATES, min_size=1, max_size=1),
    "energy:R:1": st.lists(COORDINATES, min_size=1, max_size=1),
    "positions0:R:1": st.lists(COORDINATES, min_size=1, max_size=1),
}
LEFT = {"move_mask:L:3", "energy:R:1"}
"""What is for ASE."""


@st.composite
def drawn_frames(draw: st.DrawFn) -> tuple[list[str], set[str]]:
    """A frame's comment and atoms, with its fields beside elements and positions."""
    fields = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4, unique_by=lambda field: field.split(":")[0]))
    elements = draw(st.sampled_from(["species:S:1", "Z:I:1"]))
    order = draw(st.permutations([elements, "pos:R:3", *fields]))
    own = {"pos:R:3": st.lists(COORDINATES, min_size=3, max_size=3), "species:S:1": SYMBOLS.map(lambda one: [one])}
    kinds = FIELDS | own | {"Z:I:1": st.integers(0, 118).map(lambda one: [str(one)])}
    rows = draw(st.lists(st.tuples(*[kinds[field] for field in order]), min_size=1, max_size=4))
    lines = [" ".join(token for tokens in row for token in tokens) + "\n" for row in rows]
    comment = draw(st.sampled_from(["energy=-1.5", "", 'stress="1 2 3 2 4 5 3 5 6" energy=3', 'pbc="T F F"', "pbc=T"]))
    return [f"Properties={':'.join(order)} {comment}\n", *lines], set(fields)


@given(drawn_frames())
def test_columns_of_all_kinds_are_what_ase_reads(drawn: tuple[list[str], set[str]]) -> None:
    body, fields = drawn
    assert agrees(body) != bool(fields & LEFT or any("_" in line for line in body[1:]))


@given(drawn_frames(), COMMENTS)
def test_whole_frames_are_what_ase_reads(drawn: tuple[list[str], set[str]], comment: str) -> None:
    agrees([f"{drawn[0][0].split()[0]} {comment}\n", *drawn[0][1:]])


@given(drawn_frames(), st.data())
def test_a_token_away_added_or_changed_is_never_taken(drawn: tuple[list[str], set[str]], data: st.DataObject) -> None:
    """What is read here has as many columns in each line as `Properties` names."""
    body = drawn[0]
    at = data.draw(st.integers(1, len(body) - 1))
    tokens = body[at].split()
    where = data.draw(st.integers(0, len(tokens) - 1))
    change = data.draw(st.sampled_from(["away", "twice", "x", "1.5.", "nan", "--1", "1e", "0x1"]))
    tokens[where : where + 1] = {"away": [], "twice": [tokens[where]] * 2}.get(change, [change])
    body[at] = " ".join(tokens) + "\n"
    assert not agrees(body) or change not in ("away", "twice")


@pytest.mark.parametrize(
    "body",
    [
        ["\n", "H 0 0 0\n"],
        ["some words of a person\n", "H 0 0 0\n", "he 1 1 1\n"],
        ["Properties=species:S:1:pos:R:3 Lattice='1 0 0 0 1 0 0 0 1'\n", "H 0 0 0\n"],
        ["Properties=species:S:1:pos:R:3:Z:I:1\n", "H 0 0 0 1\n"],
        ["Properties=species:S:1:symbols:S:1:pos:R:3\n", "H H 0 0 0\n"],
        ["Properties=species:S:1:pos:R:3:pos:R:3\n", "H 0 0 0 1 1 1\n"],
        ["Properties=species:S:1:pos:R:3:a:R:2:a0:R:1\n", "H 0 0 0 1 1 1\n"],
        ["Properties=species:S:1:pos:R:3:a:R:0\n", "H 0 0 0\n"],
        ["Properties=species:S:1:pos:R:3:a:R:-1\n", "H 0 0 0\n"],
        ["Properties=species:S:1:pos:R:3:numbers:R:1\n", "H 0 0 0 1\n"],
        ["Properties=species:S:1:pos:I:3\n", "H 0 0 0\n"],
        ["Properties=species:S:1:pos:R:3:tags:I:1\n", "H 0 0 0 2147483648\n"],
        ["Properties=species:S:1:pos:R:3:forces:S:3\n", "H 0 0 0 1 1 1\n"],
        ["Properties=5\n", "H 0 0 0\n"],
        ["Properties\n", "H 0 0 0\n"],
        ["energy=hello\n", "H 0 0 0\n"],
        ["energy=T free_energy=x dipole='1 2 3'\n", "H 0 0 0\n"],
        ['dipole="a b" energy=1\n', "H 0 0 0\n"],
        ["pbc=5\n", "H 0 0 0\n"],
        ['pbc="T T"\n', "H 0 0 0\n"],
        ["e=1\n", "Hx 0 0 0\n"],
    ],
)
def test_frames_that_are_odd(body: list[str]) -> None:
    agrees(body)


@pytest.mark.parametrize("beside", ["", "a={1 2}"])  # the second is for ASE's reader
def test_a_stress_that_is_not_symmetric_keeps_both_halves(tmp_path: Path, beside: str) -> None:
    path = tmp_path / "a.xyz"
    rows = ["1 0.5 0 0.5 2 0 0 0 3", "1 0.5 0 0.7 2 0 0 0 3", "nan 1 0 inf inf 0 0 0 3", "1 1 0 1.000001 2 0 0 0 3"]
    path.write_text(
        "".join(f'1\nProperties=species:S:1:pos:R:3 stress="{row}" {beside}\nH 0.0 0.0 0.0\n' for row in rows)
    )
    found = [atoms.calc.results["stress"] for _, atoms in read_rows("extxyz", path)]
    assert [len(stress) for stress in found] == [6, 9, 6, 6]
    np.testing.assert_array_equal(found[1].reshape(3, 3), [[1, 0.7, 0], [0.5, 2, 0], [0, 0, 3]])
    assert list(found[0]) == [1, 2, 3, 0, 0, 0.5]


def test_a_frame_left_to_ase_comes_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text('1\nProperties=species:S:1:pos:R:3 a={1 2} b="_JSON [[1]]" pbc = F\nH 0.0 0.0 0.0\n')
    ((_, atoms),) = read_rows("extxyz", path)
    assert list(told_apart(atoms, ase.io.read(path))) == []
    assert _plain._layout.cache_info().maxsize == 64
    assert Comment()("Properties=species:S:1:pos:R:3") == {"Properties": "species:S:1:pos:R:3"}
