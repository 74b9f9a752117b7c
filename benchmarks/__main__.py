"""List the benchmarks: the first line of each, and how it is run."""

from __future__ import annotations

import importlib
import pkgutil

import benchmarks

for info in pkgutil.iter_modules(benchmarks.__path__):
    if not info.name.startswith("_"):
        module = importlib.import_module(f"benchmarks.{info.name}")
        print(f"python -m benchmarks.{info.name:<20} {(module.__doc__ or '').splitlines()[0]}")
