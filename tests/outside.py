"""Reference numbers and labelled data that lie outside the repository; tests take every file of a pattern.

Where a folder is absent the tests that need it are skipped and say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def oracles() -> Path:
    """The folder of reference numbers."""
    return Path(os.environ.get("FORCEFOUNDRY_ORACLES") or ROOT.parent / "shared" / "oracles")


def data() -> Path:
    """The folder of labelled data."""
    return Path(os.environ.get("FORCEFOUNDRY_DATA") or ROOT.parent / "shared" / "data")


def files(folder: Path, pattern: str, wanted: Callable[[Path], bool] = lambda path: True) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: every wanted file of a pattern, or one that is skipped and says why."""
    if not folder.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{folder} is absent"), id="absent")]
    found = [path for path in sorted(folder.glob(pattern)) if wanted(path)]
    if not found:
        reason = f"{folder} holds no {pattern} of the kind that this test is for"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")]
    return [pytest.param(path, id=str(path.relative_to(folder).with_suffix(""))) for path in found]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a reference file."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def structures(packed: dict[str, np.ndarray], offsets: str) -> Iterator[slice]:
    """The atoms of each structure."""
    for start, stop in zip(packed[offsets][:-1], packed[offsets][1:], strict=True):
        yield slice(int(start), int(stop))
