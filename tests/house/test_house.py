"""The house as it says it is: stairs, freshness of rendered files, and that the README speaks of what there is."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pipeline import inspecting, pairs, params, quarantine
from pipeline.rendering import render
from pipeline.steps import STEPS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_nobody_climbs_the_stairs_the_wrong_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_dvc_yaml_is_rendered_from_the_steps() -> None:
    assert (ROOT / "dvc.yaml").read_text(encoding="utf-8") == render(STEPS), "run `python -m pipeline render`"


def test_params_yaml_is_the_resolved_default() -> None:
    composed = params.compose()
    assert params.read(ROOT / "params.yaml") == composed, "run `python -m pipeline params`"


def test_every_dependency_of_a_step_is_there_or_written_by_a_step_before() -> None:
    written: set[str] = set()
    for step in STEPS:
        for dep in step.deps:
            made = any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in written)
            assert dep.startswith("${") or made or (ROOT / dep).exists(), f"{step.name}: {dep}"
        written.update(step.all_outs)


def test_the_lock_names_one_version_of_everything_that_pyproject_asks_for() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lock.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    extras.pop("gpu")  # Triton follows from torch's own wheel, as its CUDA parts do
    asked = [*project["dependencies"], *(name for extra in extras.values() for name in extra)]
    assert {re.split(r"[<>=\[ ]", name)[0].lower() for name in asked} <= pinned


LOOKED_AFTER = {"pairs": pairs, "quarantine": quarantine, "inspect": inspecting}


@pytest.mark.parametrize("verb", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_the_readmes_make_verbs_exist(verb: str) -> None:
    assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), verb


@pytest.mark.parametrize("words", re.findall(r"^python -m pipeline ([^#\n]+)", README, re.MULTILINE))
def test_the_readmes_pipeline_commands_are_understood(words: str) -> None:
    verb, *rest = words.split()
    if verb in {step.name for step in STEPS}:
        assert rest == []
        return
    if verb in LOOKED_AFTER:
        LOOKED_AFTER[verb].add_arguments(argparse.ArgumentParser(exit_on_error=False)).parse_args(rest)
        return
    assert verb in ("run", "retrain", "params")
    if "database=mine" in rest:
        assert "--write mine " in README
        rest = [word.replace("database=mine", "database=ase_db") for word in rest] + ["database.path=mine.db"]
    own = "--config-dir" in rest  # the own configuration has a test of its own below
    assert own or params.compose(rest)


def test_the_readmes_deployments_and_overrides_exist() -> None:
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    names = {f"{d['entrypoint'].split(':')[1]}/{d['name']}" for d in deployed}
    named = set(re.findall(r"`?((?:train|retrain)/[a-z]+)`", README)) | set(re.findall(r"run '([\w/]+)'", README))
    assert named == names == {"train/cpu", "train/gpu", "retrain/nightly"}
    for overrides in re.findall(r"-p overrides='(\[.*?\])'", README):
        assert params.compose(json.loads(overrides))


def test_the_readmes_files_exist() -> None:
    mapped = re.search(r"^## File map\n+```\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    assert mapped is not None
    for line in mapped.group(1).splitlines():
        for name in re.findall(r"^([\w./-]+)", line):
            assert (ROOT / name).exists(), name


def test_the_readmes_own_data_configuration_composes(tmp_path: Path) -> None:
    name, text = re.findall(r"`(my_configs/[\w/]+\.yaml)`:\n\n```yaml\n(.*?)```", README, re.DOTALL)[0]
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_text(text, encoding="utf-8")
    assert "--config-dir my_configs experiment=mine" in README
    composed = params.compose(["experiment=mine"], tmp_path / "my_configs")
    assert composed["database"]["path"] == "/data/my_dft.db"
    assert composed["network"]["cutoff"] == composed["pairs"]["cutoff"] == 6.0
    assert len([line for line in text.splitlines() if line]) == 5


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in README
    assert re.search(r"^make test\b", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
