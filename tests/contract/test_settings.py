"""What conf/contract says is what the checks do without it, and what cannot be is told before any file is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.settings import settings_of
from pipeline import params
from tests.outside import ROOT

DEFAULT: dict[str, Any] = yaml.safe_load((ROOT / "conf/contract/default.yaml").read_text(encoding="utf-8"))


def test_the_default_option_says_what_the_checks_do_by_themselves() -> None:
    plain = {
        name: {"policy": check.policy, **({} if name == "schema" else check.options)}
        for name, check in known_checks().items()
    }
    assert plain == DEFAULT  # the schema's options stand in conf/database
    assert settings_of(DEFAULT) == settings_of(None)


def test_every_check_has_words_for_what_it_looks_at() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert [name for name in known_checks() if f"`{name}`" not in page] == []


def test_a_policy_is_set_on_the_command_line() -> None:
    composed = params.compose(["contract.net_force.policy=warn", "contract.close_atoms.fraction=0.4"])
    found = settings_of(composed["contract"], composed["database"]["schema"])
    assert found["net_force"].policy == "warn"
    assert found["close_atoms"].options == {"fraction": 0.4}
    with pytest.raises(ValueError, match=r"contract\.net_force"):
        params.compose(["contract.net_forc.policy=warn"])


def test_the_schema_of_a_database_is_an_option_of_its_check() -> None:
    found = settings_of({}, {"species": ["Cu"], "ranges": {"max_force": [0, 50]}})
    assert found["schema"].options == {"species": ["Cu"], "ranges": {"max_force": [0, 50]}}


def test_off_may_be_written_without_quotes() -> None:
    assert settings_of({"net_force": {"policy": yaml.safe_load("off")}})["net_force"].policy == "off"
