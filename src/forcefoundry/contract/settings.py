"""What the configuration says of the checks: for each a policy and thresholds, checked before any file is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from forcefoundry.contract.checks import Check, known_checks
from forcefoundry.contract.findings import Setting


def settings_of(contract: Mapping[str, Any] | None, schema: Mapping[str, Any] | None = None) -> dict[str, Setting]:
    """The setting of every check.

    Args:
        contract: check to `policy` and its thresholds; what is not said is as the check itself has it.
        schema: `species` and `ranges` of the `database` section, which are the options of the check `schema`.

    Raises:
        ValueError: for a check, a threshold or a policy that there is not, with the nearest.
    """
    given = {name: dict(value or {}) for name, value in dict(contract or {}).items()}
    for name in given:
        if name not in known_checks():
            raise ValueError(f"contract names the check {name!r}, which there is not. {_hint(name, known_checks())}")
    if schema:
        given["schema"] = {**given.get("schema", {}), **dict(schema)}
    return {name: _setting(check, given.get(name, {})) for name, check in known_checks().items()}


def _setting(check: Check, given: Mapping[str, Any]) -> Setting:
    policy = given.get("policy", check.policy)
    policy = "off" if policy is False else str(policy)  # YAML reads off as false
    if policy not in check.policies:
        raise ValueError(
            f"contract.{check.name}.policy is {policy!r}, expected {' or '.join(check.policies)}. "
            f"{'Such rows cannot be let in. ' if 'warn' not in check.policies else ''}The default is {check.policy}."
        )
    options = {name: value for name, value in given.items() if name != "policy"}
    for name, value in options.items():
        if name not in check.options:
            hint = _hint(name, check.options) if check.options else "It has none."
            raise ValueError(f"contract.{check.name}.{name} is no threshold of this check. {hint}")
        usual = check.options[name]
        open_ended = name == "cap" and value is None
        if isinstance(usual, int | float) and type(value) not in (int, float) and not open_ended:
            raise ValueError(f"contract.{check.name}.{name} is {value!r}, expected a number such as {usual:g}.")
    return Setting(policy, {**check.options, **options})


def _hint(name: str, among: Iterable[str]) -> str:
    near = get_close_matches(name, among, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(among)}."
