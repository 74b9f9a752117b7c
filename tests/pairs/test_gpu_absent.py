"""The GPU finder where it cannot work: its file can be imported, and it says what is missing."""

from __future__ import annotations

import importlib.util
import sys

import pytest

import forcefoundry.pairs.kernels as kernels
from forcefoundry.pairs.gpu import GpuFinder


def test_without_triton_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delattr(kernels, "search", raising=False)
    for name in ("search", "cells", "home", "images", "near"):
        monkeypatch.delitem(sys.modules, f"{kernels.__name__}.{name}", raising=False)
    with pytest.raises(
        ValueError, match=r"needs the package triton.*pip install 'forcefoundry\[gpu\]', or choose pairs=cpu"
    ):
        GpuFinder()


def test_a_mistake_in_the_kernels_is_not_taken_for_a_missing_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "search", raising=False)
    monkeypatch.setitem(sys.modules, f"{kernels.__name__}.search", None)
    with pytest.raises(ModuleNotFoundError, match=r"forcefoundry\.pairs\.kernels\.search"):
        GpuFinder()


def test_importing_the_finder_imports_no_triton() -> None:
    source = importlib.util.find_spec("forcefoundry.pairs.gpu")
    assert source is not None
    assert source.origin is not None
    with open(source.origin, encoding="utf-8") as lines:
        assert not [line for line in lines if line.startswith(("import triton", "from forcefoundry.pairs.kernels"))]
