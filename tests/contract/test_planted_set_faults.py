"""Faults of whole sets, planted into real ones: told by name, or the run ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.door import ContractError
from tests.contract.planting import (
    BASE,
    brought,
    clean,
    info,
    joined,
    numbers,
    planted_config,
    texts,
    told,
    vectors,
    with_info,
    with_numbers,
    with_vectors,
)
from tests.contract.real_sets import set_config

KCAL, KBAR, HARTREE, BOHR = 23.060548, 1602.1766, 27.211386, 0.52917721

Change = Callable[[str], str]
WHOLE: list[tuple[str, str, Change, str]] = []


def whole(check: str, base: str, expected: str) -> Callable[[Change], Change]:
    """A change of every frame of a set that a check tells of once; `expected` is among what it tells."""

    def registered(change: Change) -> Change:
        WHOLE.append((check, base, change, expected))
        return change

    return registered


def energy(frame: str, factor: float) -> str:
    key = next(key for key in ("REF_energy", "energy_xtb", "energy") if f" {key}=" in frame)
    return with_info(frame, key, repr(float(info(frame, key)) * factor))


def forces(frame: str, factor: float) -> str:
    if "orces" not in frame:
        return frame
    return with_vectors(frame, vectors(frame, forces=True) * factor, forces=True)


def stress(frame: str, factor: float) -> str:
    key = "REF_stress" if "REF_stress" in frame else "stress"
    return with_numbers(frame, key, numbers(frame, key) * factor) if f" {key}=" in frame else frame


@whole("forces_are_gradients", "nbmotaw_Ta", "signs: {forces: gradients}")
def gradients_for_forces(frame: str) -> str:
    return forces(frame, -1.0)


@whole("forces_are_gradients", "acac_300K", "the sign of the energies")
def energies_of_the_other_sign(frame: str) -> str:
    return energy(frame, -1.0)


@whole("units_suspect", "mlearn_Li", "sign was lost")
def energies_of_crystals_of_the_other_sign(frame: str) -> str:
    return energy(frame, -1.0)


@whole("units_look_wrong", "nbmotaw_Ta", "energy: kcal/mol")
def energies_in_kilocalories(frame: str) -> str:
    return energy(frame, KCAL)


@whole("units_look_wrong", "nbmotaw_Ta", "energy: Hartree")
def energies_in_hartree(frame: str) -> str:
    return energy(frame, 1 / HARTREE)


@whole("units_look_wrong", "nbmotaw_Ta", "forces: Hartree/Bohr")
def forces_in_atomic_units(frame: str) -> str:
    return forces(frame, BOHR / HARTREE)


@whole("units_look_wrong", "nbmotaw_Ta", "forces: kcal/mol/Å")
def forces_in_kilocalories(frame: str) -> str:
    return forces(frame, KCAL)


@whole("units_look_wrong", "nbmotaw_Ta", "one atom")
def energies_per_atom(frame: str) -> str:
    return energy(frame, 1 / int(frame.split()[0]))


@whole("units_suspect", "acac_300K", "Hartree")
def totals_in_hartree(frame: str) -> str:
    return forces(energy(frame, 1 / HARTREE), 1 / HARTREE)


@whole("units_suspect", "acac_300K", "Bohr")
def positions_in_bohr(frame: str) -> str:
    return with_vectors(frame, vectors(frame) / BOHR)


@whole("units_suspect", "acac_300K", "kcal/mol/Å")
def all_in_kilocalories(frame: str) -> str:
    return forces(energy(frame, KCAL), KCAL)


@whole("stress_sign", "nbmotaw_Ta", "pressure")
def pressure_for_stress(frame: str) -> str:
    return stress(frame, -1.0)


@whole("stress_sign", "nbmotaw_Ta", "stress: virial")
def virials_for_stress(frame: str) -> str:
    return stress(frame, -abs(float(np.linalg.det(numbers(frame, "Lattice").reshape(3, 3)))))


@whole("stress_units_look_wrong", "nbmotaw_Ta", "kbar")
def stress_in_kilobar(frame: str) -> str:
    return stress(frame, KBAR)


@whole("stress_units_look_wrong", "mlearn_Si", "GPa")
def stress_in_gigapascal(frame: str) -> str:
    return stress(frame, KBAR / 10)


@whole("net_forces", "acac_300K", "subtract their mean")
def forces_with_a_field(frame: str) -> str:
    field = np.array([0.0, 0.0, 0.1])
    return with_vectors(frame, vectors(frame, forces=True) + field, forces=True) if "orces" in frame else frame


@whole("missing_labels", BASE, "energy in rows of 'Surface'")
def a_kind_without_energies(frame: str) -> str:
    return with_info(frame, "energy", None) if "=Surface" in frame else frame


@whole("rival_keys", BASE, "differ")
def two_keys_that_differ(frame: str) -> str:
    return with_info(frame, "free_energy", float(info(frame, "energy")) - 0.25)


@whole("isolated_atoms", "solvent_xtb", "same settings")
def isolated_atoms_in_hartree(frame: str) -> str:
    return energy(frame, 1 / HARTREE) if "=IsolatedAtom" in frame else frame


@pytest.mark.parametrize(("check", "base", "change", "expected"), WHOLE, ids=[one[2].__name__ for one in WHOLE])
def test_a_fault_of_the_whole_set_is_told_by_name(
    check: str, base: str, change: Change, expected: str, tmp_path: Path
) -> None:
    files = {split: joined([change(frame) for frame in texts(base, split)]) for split in set_config(base)["files"]}
    config, _ = planted_config(base, files, tmp_path / "data")
    assert not clean(base).found(check)
    if known_checks()[check].policy == "error":
        with pytest.raises(ContractError) as error:
            brought(config, tmp_path / "out")
        (found, *_) = [one for one in told(tmp_path / "out") if one["check"] == check]
        assert f"{found['what']} is {found['got']}, expected {found['expected']}. {found['remedy']}" in str(error.value)
        assert f"[{check}]" in str(error.value)
    else:
        after = brought(config, tmp_path / "out")
        (found, *_) = after.found(check)
        assert after.summary["rows"]["in"] == clean(base).summary["rows"]["in"]
        # Forces in kcal/mol/Å are 23 times as large: some are beyond the cap.
        assert after.summary["rows"]["quarantined"] == len({one["row"] for one in after.found("force_outlier")})
    assert (found["file"], found["where"], found["row"]) == (None, None, None)
    assert all(found[part] for part in ("what", "got", "expected", "remedy"))
    assert expected in " ".join(found[part] for part in ("what", "got", "expected", "remedy"))
