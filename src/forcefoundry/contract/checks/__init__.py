"""The checks, a family a file. The folder is the registry: a new check is one file and its lines in conf/contract."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from forcefoundry.contract.findings import POLICIES, Finding
from forcefoundry.contract.measures import Measures

Found = Callable[[Measures, Mapping[str, Any]], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong with data, and how it is found out.

    Attributes:
        name: as in conf/contract.
        find: the findings among measured rows, with the options of the configuration. None where the reader of rows
            finds it out, since such a row cannot be measured.
        policy: what follows if the configuration says nothing else.
        policies: what may follow.
        options: its thresholds with their default values, all of which the configuration may set.
        after_splits: whether it needs to know which split each row is in.
    """

    name: str
    find: Found | None
    policy: str
    policies: tuple[str, ...] = POLICIES
    options: Mapping[str, Any] = field(default_factory=dict)
    after_splits: bool = False


@cache
def known_checks() -> Mapping[str, Check]:
    """All checks by name: the `CHECKS` of every module in this folder, those of a module in its order."""
    found: dict[str, Check] = {}
    for info in pkgutil.iter_modules(__path__):
        for check in importlib.import_module(f"{__name__}.{info.name}").CHECKS:
            if check.name in found:
                raise ValueError(f"Two checks are named {check.name!r}.")
            found[check.name] = check
    return found
