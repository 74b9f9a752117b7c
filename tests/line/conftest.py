"""One workspace in which the line has run; the tests of this folder work on copies of it or put it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.line.workspace import Workspace, clone
from tests.tiny import TINY


@pytest.fixture(scope="session")
def after_flow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace after `python -m pipeline run`, and what was printed."""
    base = tmp_path_factory.mktemp("line")
    workspace = clone(base / "clone", base / "store")
    return workspace, workspace.pipeline("run", *TINY)


@pytest.fixture
def line(after_flow: tuple[Workspace, str]) -> Iterator[Workspace]:
    """The same workspace, put back afterwards to the state in which the flow left it."""
    workspace = after_flow[0]
    yield workspace
    workspace.extra.clear()
    workspace.pipeline("params", *TINY)
    workspace.dvc("repro")


@pytest.fixture
def other_machine(tmp_path: Path, after_flow: tuple[Workspace, str]) -> Workspace:
    """A second clone with a DVC cache and a pair store of its own, both empty."""
    return clone(tmp_path / "clone", tmp_path / "store")
