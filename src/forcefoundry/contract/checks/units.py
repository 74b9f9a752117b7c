"""Units and signs that look wrong: told with the factor and what to declare, and never mended in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.agreement import bulk_modulus, pressure_factor, work_factor
from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.guessing import all_electrons
from forcefoundry.contract.measures import Ints, Measures
from forcefoundry.contract.robust import of_each, rows_of
from forcefoundry.databases.units import unit

_NAMED = 0.15  # of the logarithm: a factor that near to one of units is taken for it
_PAIRS = (  # energy and forces as a file may have them while eV and eV/Å are declared
    *(("eV", "kcal/mol/Å"), ("kcal/mol", "eV/Å"), ("eV", "Hartree/Bohr"), ("Hartree", "eV/Å")),
    *(("Hartree", "Hartree/Bohr"), ("kJ/mol", "eV/Å"), ("eV", "kJ/mol/Å"), ("eV", "eV/Bohr"), ("eV", "Ry/Bohr")),
    *(("Ry", "Ry/Bohr"), ("Ry", "eV/Å"), ("Hartree", "kcal/mol/Å"), ("kcal/mol", "Hartree/Bohr"), ("meV", "eV/Å")),
    *(("eV", "meV/Å"), ("kJ/mol", "kJ/mol/nm"), ("eV", "Hartree/Å"), ("Hartree", "Hartree/nm")),
)
_CONFIRMED = 5.0  # times: energies that change with the volume as stresses say, and no unit is that near to another
_SEVERAL = 1.5  # times: what all rows are beyond is not told again of parts of them
_STRESSES = (("GPa", "database.units: {stress: GPa}"), ("kbar", "database.units: {stress: kbar}"))


def gradients(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Forces that do the opposite of the work that energies say: gradients, or the energies' sign is wrong."""
    for rows, name in _groups(measures):
        found = work_factor(measures, rows)
        if found and found.factor < 0:
            yield Finding(
                "forces_are_gradients",
                None,
                f"the change of energy by the work of the forces, in {name},",
                f"{found.factor:.3g} ({found.count} neighbouring rows)",
                "1: energies fall along forces",
                "If the files hold dE/dr, declare it: database.signs: {forces: gradients}. If not, look at the sign of "
                "the energies.",
            )


def work(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Energies that change by another amount than the work of the forces, by a factor that units explain, or none."""
    most = float(options["factor"])
    for rows, name in _groups(measures):
        found = work_factor(measures, rows)
        if found is None or 1 / most <= abs(found.factor) <= most:
            continue
        per_atom = abs(np.log(abs(found.factor) * np.median(measures.n_atoms[rows]))) < _NAMED
        yield Finding(
            "units_look_wrong",
            None,
            f"the change of energy by the work of the forces, in {name},",
            f"{abs(found.factor):.4g} ({found.count} neighbouring rows)",
            f"1, as it is from {1 / most:.2g} to {most:g} for forces that belong to the energies",
            _explained(abs(found.factor), per_atom),
        )


def _explained(factor: float, per_atom: bool) -> str:
    fitting = []
    for energy, forces in _PAIRS:
        expected = unit(forces).factor / unit(energy).factor
        if abs(np.log(factor / expected)) < _NAMED:
            told = [f"energy: {energy}"] * (energy != "eV") + [f"forces: {forces}"] * (forces != "eV/Å")
            fitting.append((abs(np.log(factor / expected)), f"{{{', '.join(told)}}} (a factor of {expected:.4g})"))
    if abs(np.log(factor * unit("Bohr").factor ** -1)) < _NAMED:
        fitting.append((0.0, "{length: Bohr, forces: eV/Å} (a factor of 0.5292)"))
    if per_atom:
        return "Energies look as if they were those of one atom: give the totals. Nothing is converted by guess."
    if not fitting:
        return (
            "No usual units explain it: look whether energies and forces are of one calculation. Nothing is converted."
        )
    ways = " or ".join(dict.fromkeys(way for _, way in sorted(fitting)[:3]))
    return f"It would be right with database.units: {ways}. Declare what is true; nothing is converted by guess."


def scales(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Numbers of a size that hardly any data have: told, since no pair of them contradicts another."""
    middle = _median(measures.rms_force)
    if middle > float(options["force"]):
        yield _suspect(
            "the rms force, its median over all rows,",
            f"{middle:.4g} eV/Å",
            f"at most {options['force']:g} eV/Å",
            f"In kcal/mol/Å it would be {middle / 23.0605:.3g} eV/Å: if so, declare database.units.",
        )
    near = _median(measures.nearness)
    low, high = (float(end) for end in options["distance"])
    if np.isfinite(near) and not low <= near <= high:
        ways = [name for name in ("Bohr", "nm", "pm") if low <= near * unit(name).factor <= high]
        told = (
            f"In {' or '.join(ways)} it would be usual: if so, declare database.units: {{length: ...}}." if ways else ""
        )
        yield _suspect(
            "the distance of the closest atoms by the sum of their covalent radii, its median over all rows,",
            f"{near:.3g}",
            f"{low:g} to {high:g}",
            told or "No usual unit of length explains it: look at the structures.",
        )
    yield from _all_electron(measures)
    yield from _unbound(measures, float(options["energy"]))


def _unbound(measures: Measures, most: float) -> Iterator[Finding]:
    """Energies that are far above zero: those of matter that binds are below, whatever atoms count as zero."""
    middle = _median(measures.energy / measures.n_atoms)
    if middle > most:
        yield _suspect(
            "the energy an atom, its median over all rows,",
            f"{middle:+.4g} eV",
            f"at most {most:+g} eV: atoms that are bound have less energy than they have apart",
            "Look whether its sign was lost, or what it is counted from.",
        )


def _all_electron(measures: Measures) -> Iterator[Finding]:
    """Energies that are those of all electrons, in another unit than eV."""
    rows = np.flatnonzero(np.isfinite(measures.energy) & (measures.n_atoms > 1))
    # Hydrogen and helium alone are not described by the estimate.
    rows = rows[measures.composition[rows][:, np.array(measures.species) > 2].any(axis=1)]
    if not len(rows):
        return
    estimate = measures.composition[rows] @ all_electrons(np.array(measures.species)) * unit("Hartree").factor
    ratio = float(np.median(measures.energy[rows] / estimate))
    for name in ("Hartree", "kcal/mol", "kJ/mol", "Ry"):
        if abs(ratio * unit(name).factor - 1) < 0.06:
            yield _suspect(
                "the energy by that of all electrons of the atoms by themselves, its median over all rows,",
                f"{ratio:.4g}",
                "about 1 in eV, or something else altogether where inner electrons are left out",
                f"In {name} it would be right: if so, declare database.units: {{energy: {name}}}.",
            )


def _suspect(what: str, got: str, expected: str, remedy: str) -> Finding:
    return Finding("units_suspect", None, what, got, expected, f"{remedy} Nothing is converted by guess.")


def stress_sign(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Stress whose trace falls as cells grow: compression counts as positive there, or it is a virial."""
    found, by_energy = bulk_modulus(measures), pressure_factor(measures)
    contradicted = by_energy is not None and by_energy.factor > 0  # energies fall with the volume as pressures say
    if found and found.factor < 0 and not contradicted:
        yield Finding(
            "stress_sign",
            None,
            "the slope of the stress's trace by three over the logarithm of the volume",
            f"{found.factor:.4g} eV/Å³ ({found.count} rows of compositions whose pressure goes with their volume)",
            "above 0: a cell that is pulled apart is under tension, which is positive here",
            "If compression is positive in the files, declare database.signs: {stress: pressure}; if they hold "
            "virials, database.signs: {stress: virial}.",
        )


def stress_units(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Stress that says of a solid that it is far harder, or softer, than any is."""
    low, high = (float(end) for end in options["bulk_modulus"])
    found = bulk_modulus(measures)
    if found is None or low <= abs(found.factor) <= high:
        return
    by_energy = pressure_factor(measures)
    if by_energy and 1 / _CONFIRMED < abs(by_energy.factor) < _CONFIRMED:
        return  # matter under the pressure of a planet's core is that hard
    fitting = [
        (name, way, abs(np.log(abs(by_energy.factor) / unit(name).factor)) if by_energy else 0.0)
        for name, way in _STRESSES
        if low <= abs(found.factor) * unit(name).factor <= high
    ]
    likely = sorted(fitting, key=lambda one: one[2])[: 1 if by_energy else None]
    told = " or ".join(f"in {name} it would be usual ({way})" for name, way, _ in likely)
    yield Finding(
        "stress_units_look_wrong",
        None,
        "the bulk modulus that stresses and volumes make",
        f"{abs(found.factor):.4g} eV/Å³ ({found.count} rows)",
        f"{low:g} to {high:g} eV/Å³ ({low * 160.2:.0f} to {high * 160.2:.0f} GPa)",
        f"If the unit is another, declare it: {told or 'no usual one explains it; a virial?'}. Nothing is converted "
        "by guess.",
    )


def _groups(measures: Measures) -> Iterator[tuple[Ints, str]]:
    """All rows, and if these agree or do not tell, those of each official split, or else of each config_type."""
    every = np.arange(len(measures))
    whole = work_factor(measures, every)
    if whole is not None:
        yield every, "all rows"
        if not 1 / _SEVERAL < whole.factor < _SEVERAL:
            return  # told already
    if (measures.given >= 0).any():
        for code, rows in of_each(measures.given, np.flatnonzero(measures.given >= 0)):
            yield rows, f"the official split {measures.splits[code]!r}"
    else:
        for code, rows in of_each(measures.kind, every):
            yield rows, rows_of(measures, code)


def _median(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


CHECKS = (
    Check("forces_are_gradients", gradients, "error", ("error", "warn", "off")),
    Check("units_look_wrong", work, "error", ("error", "warn", "off"), options={"factor": 1.5}),
    Check(
        "units_suspect",
        scales,
        "warn",
        ("error", "warn", "off"),
        options={"force": 12.0, "distance": [0.5, 1.6], "energy": 0.5},
    ),
    Check("stress_sign", stress_sign, "error", ("error", "warn", "off")),
    Check(
        "stress_units_look_wrong",
        stress_units,
        "error",
        ("error", "warn", "off"),
        options={"bulk_modulus": [0.005, 5.0]},
    ),
)
