"""What the GPU finder launches, with the tiles it has on a GPU: it finds the same, and compiles to code that is exact.

The compiler needs no GPU. That products and sums are not fused is read from the machine code of an H100.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="triton is not installed; `make gpu-tests` does that")

from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.gpu import GpuFinder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.kernels import cells, home, images, near, search

if not torch.cuda.is_available() and not search.INTERPRETED:
    pytest.skip("another test imported triton before this could tell it to interpret", allow_module_level=True)

KERNELS = {"lattices": cells, "measure": home, "list_images": images, "fill_bins": images}
KERNELS |= {"find_near": near, "write_pairs": near}
TYPES = {torch.float64: "*fp64", torch.float32: "*fp32", torch.int64: "*i64", torch.int32: "*i32", torch.uint8: "*u8"}

COMPILE = """
import importlib, json, re, subprocess, sys, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler
from triton.compiler import ASTSource

for module, name, signature, constants, options in json.load(sys.stdin):
    kernel = getattr(importlib.import_module(module), name)
    source = ASTSource(kernel, signature, constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = Path(compiler.__file__).parent / "bin" / "cuobjdump"
        code = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    found = {op: len(re.findall(rf"\\b{op}\\b", code)) for op in ("DFMA", "FFMA", "DADD", "DMUL")}
    print(json.dumps([name, constants, len(re.findall(r"\\bfma\\.", made.asm["ptx"])), found]))
"""


class Recorded:
    """A kernel that notes how it is launched, as the compiler needs to be told."""

    def __init__(self, kernel: Any, into: list[Any]):
        self.kernel, self.into = kernel, into

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **named: Any) -> None:
            constants = {key: value for key, value in named.items() if key.isupper()}
            constants = {key: getattr(value, "value", value) for key, value in constants.items()}
            options = {key: value for key, value in named.items() if not key.isupper()}
            names = self.kernel.arg_names[: len(arguments)]
            types = [TYPES[a.dtype] if isinstance(a, torch.Tensor) else "i32" for a in arguments]
            signature = {**dict(zip(names, types, strict=True)), **dict.fromkeys(constants, "constexpr")}
            function = self.kernel.fn
            self.into.append([function.__module__, function.__name__, signature, constants, options])
            self.kernel[grid](*arguments, **named)

        return launch


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """How kernels are launched from now on, with the tiles that they have on a GPU."""
    noted: list[Any] = []
    monkeypatch.setattr(search, "INTERPRETED", False)
    for name, module in KERNELS.items():
        monkeypatch.setattr(module, name, Recorded(getattr(module, name), noted))
    return noted


def test_as_launched_on_a_gpu_it_finds_the_same_and_fuses_nothing(launches: list[Any], tmp_path: Path) -> None:
    finder = GpuFinder.__new__(GpuFinder)
    finder.device, finder.threads = torch.device("cuda" if torch.cuda.is_available() else "cpu"), 1
    positions = np.array([[0.1, 0.2, 0.3], [61.0, 0.4, 0.2], [1.0, 1.0, 1.1]])
    what = positions, np.eye(3)[None] * 3.0, np.array([[True, True, False]]), 3.0, np.array([0, 3])
    half, expected = finder.half(*what), CpuFinder().half(*what)
    for name in HalfPairs.__dataclass_fields__:
        assert getattr(half, name).tobytes() == getattr(expected, name).tobytes(), name
    assert len(half.wide) > 0
    assert {launch[1] for launch in launches} == set(KERNELS)
    assert len(launches) == 9
    assert all(options["enable_fp_fusion"] is False for *_, options in launches)

    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], input=json.dumps(launches), capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(compiled) == 9
    for name, constants, fused, code in compiled:
        assert fused == 0, (name, constants)
        # Divisions are made of fused operations, and rounded as they should be; only what prepares candidates divides.
        assert name in ("lattices", "measure") or code["DFMA"] == code["FFMA"] == 0, (name, constants, code)
        assert name != "find_near" or (code["DADD"] > 0 and code["DMUL"] > 0)
