"""The container files, as far as they can be held to account without an engine.

Checked here: the Dockerfile parses, every file that it copies exists and is not kept from the builder by
.dockerignore, what the line needs at run time is copied, its RUN lines are shell, its user is not root, it installs
from the lock, and compose.yaml names the commands, volumes and services that exist. Not checked: that the image
builds, that the packages of the base image and of apt can be had, and that the containers find each other.
"""

from __future__ import annotations

import fnmatch
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile as (INSTRUCTION, the rest of its line), comments gone and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    parted = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in parted]


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    return instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return dict(compose["services"])


def copied(dockerfile: list[tuple[str, str]]) -> list[str]:
    lines = [shlex.split(rest) for word, rest in dockerfile if word in ("COPY", "ADD")]
    return [path for line in lines for path in [part for part in line if not part.startswith("--")][:-1]]


def is_ignored(path: str) -> bool:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    above = [part for part in [Path(path), *Path(path).parents] if part.name]

    def meets(part: Path, pattern: str) -> bool:
        anywhere = pattern.startswith("**/")
        return fnmatch.fnmatch(part.name if anywhere else str(part), pattern.removeprefix("**/"))

    return any(meets(part, pattern) for part in above for pattern in patterns)


def test_only_known_instructions_in_a_sensible_order(dockerfile: list[tuple[str, str]]) -> None:
    words = [word for word, _ in dockerfile]
    assert words[0] == "FROM"
    assert set(words) <= {"FROM", "RUN", "WORKDIR", "ARG", "COPY", "USER", "ENV", "CMD"}
    assert words[-1] == "CMD"


def test_base_is_the_plain_python_image(dockerfile: list[tuple[str, str]]) -> None:
    assert dockerfile[0][1] == "python:3.11-slim"


def test_every_copied_file_exists_and_reaches_the_builder(dockerfile: list[tuple[str, str]]) -> None:
    paths = copied(dockerfile)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [path for path in paths if is_ignored(path)] == []


def test_everything_that_a_run_reads_is_copied(dockerfile: list[tuple[str, str]]) -> None:
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    outs = "artifacts/"
    deps = {dep for stage in dvc["stages"].values() for dep in stage.get("deps", ())}
    needed = {"conf", "dvc.yaml", "params.yaml", ".dvc/config", ".dvcignore", "pyproject.toml"}
    needed |= {dep for dep in deps if not dep.startswith((outs, "${"))}
    paths = copied(dockerfile)
    missing = [path for path in needed if not any(path == have or path.startswith(f"{have}/") for have in paths)]
    assert missing == []


@pytest.mark.parametrize("path", [".git", ".venv", "artifacts", "mlflow.db", ".forcefoundry", "src/__pycache__"])
def test_what_a_workspace_gathers_stays_outside(path: str) -> None:
    assert is_ignored(path)


def test_the_user_is_not_root(dockerfile: list[tuple[str, str]]) -> None:
    users = [rest for word, rest in dockerfile if word == "USER"]
    assert users[-1] not in ("root", "0", "")
    makes = f"useradd --create-home --uid 1000 {users[-1]}"
    assert any(makes in rest for word, rest in dockerfile if word == "RUN")
    at = [word for word, _ in dockerfile].index("USER")
    assert not any("pip install" in rest or "apt-get" in rest for word, rest in dockerfile[at:] if word == "RUN")


def test_run_lines_are_shell(dockerfile: list[tuple[str, str]]) -> None:
    runs = [rest for word, rest in dockerfile if word == "RUN"]
    assert runs
    for line in runs:
        done = subprocess.run(["sh", "-n", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_installs_from_the_lock(dockerfile: list[tuple[str, str]]) -> None:
    runs = [rest for word, rest in dockerfile if word == "RUN"]
    assert any("pip install" in line and "--requirement requirements.lock" in line for line in runs)
    assert any("pip install" in line and "--no-deps ." in line for line in runs)
    # The line that finds torch's version in the lock is run here, on this lock.
    (line,) = [line for line in runs if "--index-url" in line]
    command = line[line.index("$(") + 2 : line.index(')"')]
    found = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.startswith("torch==")
    assert len(found.split()) == 1


def test_runs_the_main_job(dockerfile: list[tuple[str, str]]) -> None:
    assert json.loads(dockerfile[-1][1]) == ["python", "-m", "pipeline", "run"]


def test_git_is_there_before_dvc_needs_it(dockerfile: list[tuple[str, str]]) -> None:
    runs = [rest for word, rest in dockerfile if word == "RUN"]
    installs = next(index for index, line in enumerate(runs) if "apt-get install" in line and " git " in f"{line} ")
    assert any("git init" in line for line in runs[installs + 1 :])


def test_compose_starts_server_worker_and_tracker(services: dict[str, Any]) -> None:
    by_default = {name for name, service in services.items() if "profiles" not in service}
    assert by_default == {"prefect", "mlflow", "worker"}
    assert set(services["worker"]["depends_on"]) == {"prefect", "mlflow"}
    assert services["worker"]["environment"]["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert services["worker"]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_compose_opens_doors_on_this_machine_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_volumes_are_declared_and_cover_folders_of_the_image(
    services: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    declared = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["volumes"]
    home = next(rest for word, rest in dockerfile if word == "WORKDIR")
    made = " ".join(rest for word, rest in dockerfile if word == "RUN" and "mkdir" in rest)
    for service in services.values():
        ours = "build" in service
        for volume in service["volumes"]:
            name, _, place = volume.partition(":")
            assert name in declared
            # Elsewhere the engine would make the folder, for root.
            assert not ours or place.removeprefix(f"{home}/") in made


def test_worker_pool_is_the_one_that_is_deployed_to(services: dict[str, Any]) -> None:
    prefect = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    pools = {deployment["work_pool"]["name"] for deployment in prefect["deployments"]}
    (pool,) = pools
    script = services["worker"]["command"][-1]
    assert f"--pool {pool}" in script
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0
