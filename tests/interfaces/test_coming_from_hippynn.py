"""What docs/coming-from-hippynn.md says can be done, and that the names in it are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from forcefoundry.interfaces.hippynn_settings import ENERGY_UNITS
from tests.interfaces.hippynn_names import their_settings, their_state
from tests.outside import arrays, files, oracles, structures

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from-hippynn.md").read_text(encoding="utf-8")
NAMES = PAGE.split("## Names")[1].split("## What differs")[0]
OURS = re.findall(r"^\|[^|]*\|([^|]*)\|$", NAMES, re.MULTILINE)
DOTTED = [name for cell in OURS for name in re.findall(r"`((?:[a-z_0-9]+\.)+[A-Za-z_0-9]+)", cell)]


@pytest.mark.parametrize("path", files(oracles(), "forward_hipnn_quad_molecules.npz"))
def test_the_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    d = arrays(path)
    (said,) = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    (code,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    assert set(said) == set(their_settings(d))
    monkeypatch.chdir(tmp_path)
    torch.save(their_state(d), "best_model.pt")
    Path("settings.yaml").write_text(yaml.safe_dump(their_settings(d) | {"energy_unit": said["energy_unit"]}))
    atoms = list(structures(d, "offsets"))
    padded = {"Z": np.zeros((len(atoms), 99), dtype=np.int64), "R": np.zeros((len(atoms), 99, 3))}
    for row, own in enumerate(atoms):
        padded["Z"][row, : own.stop - own.start] = d["Z"][own]
        padded["R"][row, : own.stop - own.start] = d["pos"][own]
    np.savez("structures.npz", **padded)
    found: dict[str, Any] = {}
    exec(compile(code, "coming-from-hippynn.md", "exec"), found)
    unit = ENERGY_UNITS[said["energy_unit"]]
    np.testing.assert_allclose(found["energy"], d["out_sys_energy"] * unit, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        found["forces"], d["out_forces"] * unit, rtol=0, atol=1e-9 * np.abs(d["out_forces"]).max()
    )
    assert (tmp_path / "model" / "model.json").exists()
    assert "tensor" in capsys.readouterr().out


@pytest.mark.parametrize("name", dict.fromkeys(DOTTED))
def test_the_names_are_there(name: str) -> None:
    module, _, attribute = f"forcefoundry.{name}".rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_names_were_found_in_the_table() -> None:
    assert len(DOTTED) > 30
