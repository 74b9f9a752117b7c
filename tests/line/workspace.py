"""A clone of the project as a user has it, with a pair store, a tracker and a home of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass
class Workspace:
    """A workspace and the environment that its commands run in."""

    folder: Path
    store: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The test's own environment without addresses, with the workspace's sources first."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "FORCEFOUNDRY_STORE"))}
        paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        # The editable install points at the project; a clone's own sources are those under test.
        sources = {"PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, **paths, **sources, "FORCEFOUNDRY_STORE": str(self.store), **self.extra}

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command to its end, expect its exit code, and give all that it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == code, printed
        return printed

    def pipeline(self, *words: str, code: int = 0) -> str:
        """`python -m pipeline ...`."""
        return self.run(sys.executable, "-m", "pipeline", *words, code=code)

    def dvc(self, *words: str, code: int = 0) -> str:
        """`dvc ...`."""
        return self.run(sys.executable, "-m", "dvc", *words, code=code)

    def ran(self) -> list[str]:
        """`dvc repro`, and the stages that it ran."""
        said = self.dvc("repro")
        return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage '")]

    def lock(self) -> dict[str, dict[str, Any]]:
        """The stages of dvc.lock."""
        stages: dict[str, dict[str, Any]] = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        return stages

    def hashes(self) -> dict[str, str]:
        """What dvc.lock says of every output."""
        return {out["path"]: out["md5"] for stage in self.lock().values() for out in stage["outs"]}


def clone(folder: Path, store: Path) -> Workspace:
    """The project's files as git sees them, uncommitted ones too, committed in a repository of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # What was compiled from these very files, which takes half a minute, comes along: their times are the same.
    for compiled in (ROOT / "src").rglob("__pycache__/*.nb[ic]"):
        place = folder / compiled.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(compiled, place)
    workspace = Workspace(folder, store)
    commit(workspace, "as cloned")
    return workspace


def commit(workspace: Workspace, message: str) -> None:
    """Commit everything that git does not ignore."""
    if not (workspace.folder / ".git").exists():
        workspace.run("git", "init", "-q")
    workspace.run("git", "add", "-A")
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
    workspace.run("git", *identity, "commit", "-q", "--allow-empty", "-m", message)
