"""Forces and stresses that cannot be meant: too large, not adding up to zero, all zero, not symmetric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Floats, Measures
from forcefoundry.contract.robust import FEWEST, beyond, by_kind, spread, usual_sizes

_LOOK = "Look at the row: repair it or leave it out, or accept it if it is meant."
_NARROWEST = 0.25  # of the logarithm: what is that narrow, is so by chance
_STANDS_OUT = 10.0  # times the median: so far a net force is the program's, not the row's


def large_forces(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A largest force far beyond those of the same config_type."""
    for usual in usual_sizes(measures, measures.max_force, **options, unit="eV/Å"):
        for row in beyond(measures.max_force, usual).tolist():
            yield Finding(
                "force_outlier",
                row,
                f"the force on atom {measures.max_force_atom[row]}",
                f"{measures.max_force[row]:.4g} eV/Å",
                f"at most {usual.why}",
                f"Look whether the calculation converged and whether atoms are too close. {_LOOK}",
            )


def small_forces(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Forces far smaller than those of the same config_type, in a few rows: more of them are relaxed structures."""
    spreads, times, share = (float(options[name]) for name in ("spreads", "times", "share"))
    for members, among, name in by_kind(measures, np.flatnonzero(measures.rms_force > 0.0)):
        if len(among) < FEWEST:
            continue
        logs = np.log(measures.rms_force[among])
        width = max(spread(logs), _NARROWEST)
        limit = float(np.exp(min(np.median(logs) - spreads * width, np.quantile(logs, 0.1) - np.log(times))))
        few = members[measures.rms_force[members] < limit]
        for row in few.tolist() if len(few) <= max(1.0, share * len(among)) else []:
            yield Finding(
                "small_forces",
                row,
                "the rms force",
                f"{measures.rms_force[row]:.4g} eV/Å",
                f"at least {limit:.4g} eV/Å, as nearly all of {name} have",
                "Look whether this row's forces are in the unit of the others; of a relaxed structure they are right.",
            )


def large_stress(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A largest component of the stress far beyond those of the same config_type."""
    for usual in usual_sizes(measures, measures.max_stress, **options, unit="eV/Å³"):
        for row in beyond(measures.max_stress, usual).tolist():
            yield Finding(
                "stress_outlier",
                row,
                "the largest component of the stress",
                f"{measures.max_stress[row]:.4g} eV/Å³",
                f"at most {usual.why}",
                f"Look whether this row's stress is in the unit of the others and no virial. {_LOOK}",
            )


def skew_stress(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A stress that is not its own transpose."""
    share = float(options["share"])
    for row in np.flatnonzero(measures.stress_asymmetry > share * measures.max_stress + 1e-6).tolist():
        yield Finding(
            "stress_asymmetry",
            row,
            "the largest difference between the stress and its transpose",
            f"{measures.stress_asymmetry[row]:.4g} eV/Å³",
            f"at most {share:g} of its largest component, {measures.max_stress[row]:.4g} eV/Å³",
            f"Look whether its nine numbers stand in the right order. {_LOOK}",
        )


def net_force(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Forces that do not add up to zero, in a row that differs in this from the others."""
    per_atom, share = float(options["per_atom"]), float(options["share"])
    net = measures.net_force / measures.n_atoms
    usual = _median(net)
    limit = max(per_atom, _STANDS_OUT * usual)
    alike = share * measures.rms_force * np.sqrt(measures.n_atoms)
    why = "above is no rounding" if limit == per_atom else f"{_STANDS_OUT:g} × the median of all rows"
    for row in np.flatnonzero((net > limit) & (measures.net_force > alike)).tolist():
        yield Finding(
            "net_force",
            row,
            "the sum of all forces",
            f"{measures.net_force[row]:.4g} eV/Å, {net[row]:.4g} an atom",
            f"at most {limit:.4g} eV/Å an atom ({why}), or {alike[row]:.4g} eV/Å ({share:g} × rms force × √atoms)",
            f"Look whether a force is absent or wrong, or from another row. {_LOOK}",
        )


def net_forces(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Forces that in most rows do not add up to zero: the program that made them left them so."""
    per_atom = float(options["per_atom"])
    usual = _median(measures.net_force / measures.n_atoms)
    if usual > per_atom:
        yield Finding(
            "net_forces",
            None,
            "the sum of all forces by the number of atoms, its median over all rows,",
            f"{usual:.4g} eV/Å",
            f"at most {per_atom:g} eV/Å",
            "No model whose energy is the same wherever the structure lies can have such forces: subtract their mean, "
            "or find out what else acts on the atoms.",
        )


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def zero_forces(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """Forces that are all exactly zero in a structure whose symmetry does not make them so: a placeholder."""
    polarity = float(options["polarity"])
    for row in np.flatnonzero(measures.polarity > polarity).tolist():
        yield Finding(
            "zero_forces",
            row,
            f"every force on {measures.n_atoms[row]} atoms",
            "exactly 0 eV/Å",
            "forces, since the surroundings of its atoms are not symmetric (to "
            f"{measures.polarity[row]:.2g}; up to {polarity:g} counts as symmetric)",
            "If the row has no forces, take the zeros out of it: without them it counts as unlabelled.",
        )


CHECKS = (
    Check(
        "force_outlier", large_forces, "quarantine", options={"spreads": 8.0, "times": 10.0, "least": 1.0, "cap": 100.0}
    ),
    Check("small_forces", small_forces, "warn", options={"spreads": 8.0, "times": 5.0, "share": 0.01}),
    Check("net_force", net_force, "quarantine", options={"per_atom": 0.002, "share": 0.02}),
    Check("net_forces", net_forces, "warn", ("error", "warn", "off"), options={"per_atom": 0.002}),
    Check("zero_forces", zero_forces, "quarantine", options={"polarity": 0.001}),
    Check(
        "stress_outlier", large_stress, "quarantine", options={"spreads": 8.0, "times": 10.0, "least": 0.05, "cap": 5.0}
    ),
    Check("stress_asymmetry", skew_stress, "quarantine", options={"share": 0.01}),
)
