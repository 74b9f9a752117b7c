"""The pair finders that run here, as parameters of the laws."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

from forcefoundry.pairs import Finder
from forcefoundry.pairs.finders import AUTO, make_finder
from tests.laws.rooms import options, plain


def _runs(name: str) -> bool:
    """gpu needs Triton, and either CUDA or Triton's interpreter."""
    if name != "gpu":
        return True
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return importlib.util.find_spec("triton") is not None and (interpreted or torch.cuda.is_available())


def _finder(name: str) -> Finder:
    return make_finder(name, "cuda" if name == "gpu" else "cpu")


NAMES = [str(plain(path)["finder"]) for path in options("pairs")]
"""What conf/pairs names, as the pairs step reads it."""

FINDERS = [pytest.param(_finder(name), id=name) for name in NAMES if name != AUTO and _runs(name)]
