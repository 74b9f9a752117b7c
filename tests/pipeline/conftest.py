"""Fixtures of several files of this folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.environment import OUR_LOGGERS
from tests.pipeline.pairs_room import Room


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """The workspace in which the verbs are typed."""
    room = Room(tmp_path / "here", tmp_path / "store")
    room.folder.mkdir()
    monkeypatch.chdir(room.folder)
    monkeypatch.setenv("FORCEFOUNDRY_STORE", str(room.store))
    monkeypatch.delenv("FORCEFOUNDRY_TRACEBACK", raising=False)
    for name in ("GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME", "PREFECT_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, str(tmp_path / name))
    yield room
    for name in OUR_LOGGERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)
