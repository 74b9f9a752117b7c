"""docs/data.md names the formats, keys and units that there are, and its configuration composes."""

from __future__ import annotations

import re
from pathlib import Path

from forcefoundry.databases.formats import known_formats
from forcefoundry.databases.labels import ALIASES
from forcefoundry.databases.units import declared, unit
from pipeline import params
from tests.outside import ROOT

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading."""
    return re.split(r"^## ", PAGE.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def test_every_format_is_named() -> None:
    assert sorted(re.findall(r"^\| `(\w+)`", section("Formats"), re.MULTILINE)) == sorted(known_formats())


def test_every_key_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", section("Keys").split("rMD17's")[0]))
    assert {key for keys in ALIASES.values() for key in keys} <= named


def test_every_unit_is_of_its_kind() -> None:
    rows = re.findall(r"^\| (energy|length|stress|charge|dipole) \| (.*) \|$", section("Units"), re.MULTILINE)
    assert len(rows) == 5
    for kind, names in rows:
        for name in re.findall(r"`([^`]+)`", names):
            assert declared({kind: name}, None).of(kind).factor == unit(name).factor


def test_the_configuration_composes(tmp_path: Path) -> None:
    name, text = re.findall(r"`my_configs/(database/\w+\.yaml)`\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "database").mkdir()
    (tmp_path / name).write_text(text, encoding="utf-8")
    for words in re.findall(r"^python -m pipeline (?:params|run) --config-dir my_configs (.*)$", PAGE, re.MULTILINE):
        assert params.compose(words.split(), tmp_path)["database"]["units"]["stress"] == "kbar"
    assert params.compose(["+database.keys.stress=null"])["database"]["keys"]["stress"] is None
    for name in re.findall(r"`database=(\w+)`", PAGE):
        assert params.compose([f"database={name}"])
