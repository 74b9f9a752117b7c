"""Faults of rows that cannot be read, or whose structures cannot be meant: each spoils the text of one frame."""

from __future__ import annotations

from tests.contract.planting import (
    Plan,
    numbers,
    vectors,
    with_atom,
    with_info,
    with_numbers,
    with_vectors,
)

PLAN = Plan()


# Reading.


@PLAN.row("unreadable")
def count_too_large(frame: str) -> str:
    count, rest = frame.split("\n", 1)
    return f"{int(count) + 1}\n{rest}"


@PLAN.row("unreadable")
def count_too_small(frame: str) -> str:
    count, rest = frame.split("\n", 1)
    return f"{int(count) - 1}\n{rest}"


@PLAN.row("unreadable")
def word_among_numbers(frame: str) -> str:
    return with_atom(frame, 5, y="fixed")


@PLAN.row("unreadable")
def overflowed_column(frame: str) -> str:
    return with_atom(frame, 5, fx="************")


@PLAN.row("unreadable")
def decimal_comma(frame: str) -> str:
    return with_atom(frame, 5, x="1,25")


@PLAN.row("unreadable")
def exponent_of_fortran(frame: str) -> str:
    return with_atom(frame, 5, x="1.25D+00")


@PLAN.row("unreadable")
def missing_column(frame: str) -> str:
    lines = frame.splitlines(keepends=True)
    lines[7] = lines[7].rsplit(maxsplit=1)[0] + "\n"
    return "".join(lines)


@PLAN.row("unreadable")
def merged_numbers(frame: str) -> str:
    lines = frame.splitlines(keepends=True)
    words = lines[7].split()
    lines[7] = " ".join([*words[:2], words[2] + words[3], *words[4:]]) + "\n"
    return "".join(lines)


@PLAN.row("unreadable")
def a_line_lost(frame: str) -> str:
    lines = frame.splitlines(keepends=True)
    return "".join([*lines[:9], *lines[10:]])


@PLAN.row("unreadable")
def comment_lost(frame: str) -> str:
    lines = frame.splitlines(keepends=True)
    return "".join([lines[0], *lines[2:]])


@PLAN.row("unreadable")
def comment_without_properties(frame: str) -> str:
    return with_info(frame, "Properties", None)


@PLAN.row("unreadable")
def quote_never_closed(frame: str) -> str:
    return frame.replace('" Properties', " Properties", 1)


@PLAN.row("unreadable", at=22)
def file_cut_short(frame: str) -> str:
    return frame[: 3 * len(frame) // 4]


@PLAN.row("unreadable")
def no_utf8(frame: str) -> bytes:
    return with_info(frame, "config_type", "Schmelze, 1000 °C").encode("latin-1")


@PLAN.row("unreadable")
def bytes_overwritten(frame: str) -> bytes:
    content = bytearray(frame.encode())
    content[1000:1016] = bytes(range(240, 256))
    return bytes(content)


@PLAN.row("unreadable")
def no_such_element(frame: str) -> str:
    return with_atom(frame, 3, s="Qq")


@PLAN.row("no_element")
def dummy_atom(frame: str) -> str:
    return with_atom(frame, 3, s="X")


@PLAN.row("no_atoms")
def no_atom_at_all(frame: str) -> str:
    return "0\n" + frame.splitlines(keepends=True)[1]


@PLAN.row("not_finite")
def nan_position(frame: str) -> str:
    return with_atom(frame, 5, z="nan")


@PLAN.row("not_finite")
def infinite_force(frame: str) -> str:
    return with_atom(frame, 5, fy="inf")


@PLAN.row("not_finite")
def nan_energy(frame: str) -> str:
    return with_info(frame, "energy", "nan")


@PLAN.row("not_finite")
def infinite_stress(frame: str) -> str:
    return with_info(frame, "stress", "inf 0 0 0 0.1 0 0 0 0.1")


@PLAN.row("not_finite")
def nan_cell(frame: str) -> str:
    return with_info(frame, "Lattice", "9.45 0 0 0 nan 0 0 0 9.45")


@PLAN.row("unreadable")
def stress_of_five_numbers(frame: str) -> str:
    return with_info(frame, "stress", "0.1 0.1 0.1 0 0")


@PLAN.row("shape", base="nbmotaw_MoTa")
def stress_of_seven_numbers(frame: str) -> str:
    return with_info(frame, "REF_stress", "0.1 0.1 0.1 0 0 0 0")


@PLAN.row("shape")
def energy_that_is_a_word(frame: str) -> str:
    return with_info(frame, "energy", "unconverged")


@PLAN.row("shape")
def energies_in_place_of_one(frame: str) -> str:
    return with_info(frame, "energy", "-100.0 -200.0 -300.0")


# Cells and distances.


@PLAN.row("flat_cell")
def vectors_in_one_plane(frame: str) -> str:
    return with_info(frame, "Lattice", "9.45 0 0 0 9.45 0 9.45 9.45 0")


@PLAN.row("flat_cell")
def cell_of_zeros(frame: str) -> str:
    return with_info(frame, "Lattice", "0 0 0 0 0 0 0 0 0")


@PLAN.row("flat_cell", base="acac_300K")
def periodic_without_a_cell(frame: str) -> str:
    return with_info(with_info(frame, "Lattice", None), "pbc", "T T T")


@PLAN.row("close_atoms")
def cell_in_nanometres(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice") / 10.0)


@PLAN.row("close_atoms", base="mlearn_Si", at=12)
def cell_of_bohr_taken_for_angstrom(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice") * 0.52917721)


@PLAN.row("close_atoms", base="acac_300K")
def positions_in_nanometres(frame: str) -> str:
    return with_vectors(frame, vectors(frame) / 10.0)


@PLAN.row("close_atoms")
def cell_of_another_row(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice") * [1.0, 1, 1, 1, 1, 1, 1, 1, 0.6])


@PLAN.row("far_atoms", base="acac_300K", apart=False)
def positions_of_bohr(frame: str) -> str:
    return with_vectors(frame, vectors(frame) / 0.52917721)


@PLAN.row("far_atoms", base="solvent_xtb", apart=False)
def positions_in_picometres(frame: str) -> str:
    return with_vectors(frame, vectors(frame) * 100.0)


@PLAN.row("volume_outlier", base="mlearn_Si", at=12, apart=False)
def cell_of_bohr(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice") / 0.52917721)


@PLAN.row("volume_outlier", apart=False)
def cell_with_a_digit_too_many(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice") * 10.0)


@PLAN.row("close_atoms")
def atoms_too_close(frame: str) -> str:
    x, y, z = vectors(frame)[0]
    return with_atom(frame, 1, x=x + 0.4, y=y, z=z)


@PLAN.row("close_atoms", base="solvent_xtb")
def atoms_in_one_place(frame: str) -> str:
    x, y, z = vectors(frame)[0]
    return with_atom(frame, 1, x=x, y=y, z=z)


@PLAN.row("close_atoms", base="nbmotaw_Ta", split="valid")
def own_image_too_close(frame: str) -> str:
    lattice = numbers(frame, "Lattice").reshape(3, 3)
    lattice[0] *= 0.35
    return with_numbers(with_atom(frame, 1, x=vectors(frame)[1, 0] * 0.35), "Lattice", lattice)


@PLAN.row("close_atoms")
def position_lost_a_sign(frame: str) -> str:
    x, y, z = vectors(frame)[1]
    return with_atom(frame, 0, x=x - 9.450121, y=y, z=z)
