"""Faults of labels, and of what a set says of itself: each spoils the text of one frame."""

from __future__ import annotations

import numpy as np

from tests.contract.planting import (
    BASE,
    Plan,
    info,
    numbers,
    texts,
    vectors,
    with_atom,
    with_info,
    with_numbers,
    with_vectors,
)

PLAN = Plan()
KBAR, GPA, HARTREE = 1602.1766, 160.21766, 27.211386  # an eV/Å³ in kbar and GPa; eV


# Forces.


@PLAN.row("force_outlier")
def force_times_a_thousand(frame: str) -> str:
    return with_atom(frame, 5, fx=vectors(frame, forces=True)[5, 0] * 1000.0)


@PLAN.row("force_outlier", base="acac_300K")
def forces_in_mev(frame: str) -> str:
    return with_vectors(frame, vectors(frame, forces=True) * 1000.0, forces=True)


@PLAN.row("net_force")
def force_of_one_atom_zero(frame: str) -> str:
    return with_atom(frame, 5, fx=0.0, fy=0.0, fz=0.0)


@PLAN.row("net_force", base="acac_300K")
def one_component_negated(frame: str) -> str:
    return with_atom(frame, 2, fy=-vectors(frame, forces=True)[2, 1])


@PLAN.row("net_force")
def forces_half_of_another_row(frame: str) -> str:
    return with_vectors(frame, vectors(texts(BASE, "test")[8], forces=True)[:20], forces=True)


@PLAN.row("zero_forces")
def forces_all_zero(frame: str) -> str:
    return with_vectors(frame, 0.0 * vectors(frame), forces=True)


@PLAN.row("zero_forces", base="solvent_xtb")
def forces_of_a_molecule_all_zero(frame: str) -> str:
    return with_vectors(frame, 0.0 * vectors(frame, forces=True), forces=True)


@PLAN.row("small_forces", base="acac_300K", apart=False)
def forces_in_atomic_units(frame: str) -> str:
    return with_vectors(frame, vectors(frame, forces=True) / 51.422067, forces=True)


# Energies.


@PLAN.row("energy_outlier")
def energy_per_atom(frame: str) -> str:
    return with_info(frame, "energy", float(info(frame, "energy")) / int(frame.split()[0]))


@PLAN.row("energy_outlier", base="acac_300K")
def energy_of_the_other_sign(frame: str) -> str:
    return with_info(frame, "energy", -float(info(frame, "energy")))


@PLAN.row("energy_outlier", base="solvent_xtb")
def energy_in_hartree(frame: str) -> str:
    return with_info(frame, "energy_xtb", float(info(frame, "energy_xtb")) / HARTREE)


@PLAN.row("energy_outlier", base="mlearn_Si")
def energy_in_kilocalories(frame: str) -> str:
    return with_info(frame, "energy", float(info(frame, "energy")) * 23.060548)


@PLAN.row("energy_outlier", base="nbmotaw_MoTa")
def five_ev_an_atom_too_much(frame: str) -> str:
    return with_info(frame, "REF_energy", float(info(frame, "REF_energy")) + 5.0 * int(frame.split()[0]))


@PLAN.row("energy_outlier")
def digit_of_the_energy_lost(frame: str) -> str:
    return with_info(frame, "energy", info(frame, "energy").replace(".", "")[:3] + ".0")


@PLAN.row("zero_energy")
def energy_exactly_zero(frame: str) -> str:
    return with_info(frame, "energy", "0.0")


@PLAN.row("isolated_atoms", base="solvent_xtb", split="train", at=1, apart=False)
def isolated_atoms_that_differ(frame: str) -> str:
    return with_atom(frame, 0, s="H", x=1.0)  # elsewhere, or it would repeat the first row


@PLAN.row("isolated_atoms", base="solvent_xtb", split="train", at=1, apart=False)
def isolated_atom_of_two(frame: str) -> str:
    _, comment, atom = frame.splitlines()
    symbol, _, _, _, *forces = atom.split()
    other = " ".join([symbol, "1.24", "0.0", "0.0", *forces])
    frame = with_vectors(
        "\n".join(["2", comment, atom, other]) + "\n", np.array([[0.5, 0, 0], [-0.5, 0, 0]]), forces=True
    )
    return with_info(frame, "energy_xtb", None)


@PLAN.row("isolated_atoms", base="solvent_xtb", split="train", at=1, apart=False)
def isolated_atom_among_its_images(frame: str) -> str:
    frame = with_info(with_info(frame, "Lattice", "1.5 0 0 0 9 0 0 0 9"), "pbc", "T T T")
    return with_info(frame, "energy_xtb", None)


# Stress.


@PLAN.row("stress_outlier")
def stress_in_kilobar(frame: str) -> str:
    return with_numbers(frame, "stress", numbers(frame, "stress") * KBAR)


@PLAN.row("stress_outlier", base="mlearn_Si", at=12)
def stress_in_gigapascal(frame: str) -> str:
    return with_numbers(frame, "stress", numbers(frame, "stress") * GPA)


@PLAN.row("stress_outlier", base="nbmotaw_MoTa", split="train")
def virial_in_place_of_stress(frame: str) -> str:
    lattice = numbers(frame, "Lattice").reshape(3, 3)
    return with_numbers(frame, "REF_stress", numbers(frame, "REF_stress") * -abs(np.linalg.det(lattice)))


@PLAN.row("stress_asymmetry", base="nbmotaw_MoTa")
def stress_not_symmetric(frame: str) -> str:
    return with_numbers(frame, "REF_stress", numbers(frame, "REF_stress") + np.eye(9)[6] * 0.1)


@PLAN.row("stress_asymmetry")
def stress_not_symmetric_under_the_key_that_ase_takes_apart(frame: str) -> str:
    return with_numbers(frame, "stress", numbers(frame, "stress") + np.eye(9)[6] * 0.1)


# Labels, elements, and what the set says of itself.


@PLAN.row("missing_labels", apart=False)
def energy_missing(frame: str) -> str:
    return with_info(frame, "energy", None)


@PLAN.row("missing_labels", apart=False)
def stress_missing(frame: str) -> str:
    return with_info(frame, "stress", None)


@PLAN.row("missing_labels", base="acac_300K", apart=False)
def forces_missing(frame: str) -> str:
    lines = frame.replace(":forces:R:3", "", 1).splitlines()
    return "\n".join([*lines[:2], *(" ".join(line.split()[:4]) for line in lines[2:])]) + "\n"


@PLAN.row("rare_species", split="train", apart=False)
def another_element(frame: str) -> str:
    return with_atom(frame, 0, s="W")


@PLAN.row("schema", schema={"species": ["Mo"], "ranges": {}})
def element_the_schema_does_not_name(frame: str) -> str:
    return with_atom(frame, 0, s="W")


@PLAN.row("schema", schema={"species": None, "ranges": {"volume_per_atom": [5, 60]}})
def volume_beyond_the_schema(frame: str) -> str:
    return with_numbers(frame, "Lattice", numbers(frame, "Lattice") * 2.0)
