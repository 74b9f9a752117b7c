"""What is wrong with a row before anything can be measured of it: the reader of rows finds it out."""

from __future__ import annotations

from forcefoundry.contract.checks import Check

_APART = ("error", "quarantine")  # such a row cannot be let in

CHECKS = (
    Check("unreadable", None, "quarantine", _APART),
    Check("shape", None, "quarantine", _APART),
    Check("not_finite", None, "quarantine", _APART),
    Check("no_atoms", None, "quarantine", _APART),
    Check("no_element", None, "quarantine", _APART),
    Check("flat_cell", None, "quarantine", _APART),
    # Found once it is known which keys are read.
    Check("missing_weight", None, "quarantine", _APART),
    Check("missing_group", None, "warn"),
    Check("rival_keys", None, "warn", ("error", "warn", "off")),
)
