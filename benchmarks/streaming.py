"""The pairs of any number of made-up cells, computed in a process of its own: memory, time and bytes.

    python -m benchmarks.streaming --structures 1000000 [--cutoff 6.0] [--keep FOLDER]

Periodic cells of 3 to 30 atoms, 0.06 atoms/Å³, are written as the load step leaves them, and the step
precompute_pairs runs over them. Memory is the most that its process held (VmHWM), and by how much that is above what it
held once it had imported what the step imports and found the pairs of one cell.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from forcefoundry.columns import STRUCTURE
from forcefoundry.databases.folder import write_folder
from forcefoundry.databases.keys import keys_of
from forcefoundry.databases.shards import ShardWriter

COLUMNS = Path("artifacts/load/columns")
_AT_ONCE = 20_000


def write_columns(folder: Path, n: int, atoms: tuple[int, int] = (3, 30)) -> None:
    """Write n made-up cells of some to some atoms as columns, some thousands at a time."""
    rng = np.random.default_rng(0)
    n_atoms = rng.integers(atoms[0], atoms[1] + 1, n)
    keys = []
    beside = folder.parent / "shards"
    beside.mkdir(parents=True)
    writer = ShardWriter(beside)
    for first in range(0, n, _AT_ONCE):
        counts = n_atoms[first : first + _AT_ONCE]
        edges = (counts / 0.06) ** (1 / 3)
        cell = (np.eye(3) + rng.uniform(-0.2, 0.2, (len(counts), 3, 3))) * edges[:, None, None]
        fractional = rng.uniform(0.0, 1.0, (int(counts.sum()), 3))
        piece = {
            "n_atoms": counts,
            "species": rng.integers(1, 30, int(counts.sum())),
            "positions": np.einsum("na,nab->nb", fractional, np.repeat(cell, counts, axis=0)),
            "cell": cell,
            "pbc": np.ones((len(counts), 3), dtype=bool),
        }
        keys.append(keys_of(piece))
        writer.add(piece)
    writer.flush()
    names = {name: name for name in STRUCTURE}
    write_folder(folder, writer.paths, names, writer.rows(), n_atoms, np.concatenate(keys), {}, [], range(1, 30))
    shutil.rmtree(beside)


def step(workspace: Path, store: Path, cutoff: float) -> dict[str, Any]:
    """Run precompute_pairs in a process of its own.

    Gives what its receipt says; `memory`, the most that the process held, and `imports`, what it held before, in bytes.
    """
    environment = {**os.environ, "FORCEFOUNDRY_STORE": str(store), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.streaming", "--child", str(cutoff)]
    done = subprocess.run(command, cwd=workspace, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _child(cutoff: float) -> dict[str, Any]:
    import forcefoundry.pairs.store.view  # noqa: F401  the step imports it as it runs
    from forcefoundry.pairs.finders import make_finder
    from pipeline.steps import precompute_pairs

    one = np.zeros((1, 3)), np.eye(3)[None] * 4.0, np.ones((1, 3), bool), cutoff, np.array([0, 1])
    make_finder("cpu")(*one)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts again from here
    imports = _resident("VmRSS")
    precompute_pairs.run(
        {
            "pairs": {"cutoff": cutoff, "source": "cache", "finder": "cpu"},
            "hardware": {"device": "cpu", "threads": 1},
        }
    )
    receipt = json.loads(Path("artifacts/precompute_pairs/receipt.json").read_text())
    digest = json.loads(Path("artifacts/precompute_pairs/digest.json").read_text())
    return {**receipt, "n_pairs": digest["n_pairs"], "memory": _resident("VmHWM"), "imports": imports}


def _resident(mark: str) -> int:
    """Memory of this process, bytes. `ru_maxrss` would count what its parent held when it forked."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(mark))
    return 1024 * int(line.split()[1])


def measure(n: int, cutoff: float, folder: Path) -> dict[str, Any]:
    """Write n cells into `folder`, compute their pairs, and say what it took."""
    started = time.perf_counter()
    write_columns(folder / "workspace" / COLUMNS, n)
    made = time.perf_counter() - started
    found = step(folder / "workspace", folder / "store", cutoff)
    assert found["computed"] == n
    return {
        "structures": n,
        "cutoff": cutoff,
        "pairs": found["n_pairs"],
        "seconds": found["seconds"],
        "structures_per_s": round(n / found["seconds"]),
        "pairs_per_s": round(found["n_pairs"] / found["seconds"]),
        "memory_mb": round(found["memory"] / 1e6),
        "above_imports_mb": round((found["memory"] - found["imports"]) / 1e6),
        "bytes": found["bytes"],
        "bytes_per_pair": round(found["bytes"] / found["n_pairs"], 3),
        "seconds_to_make": round(made, 1),
    }


def main() -> None:
    """Print what it took, as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=20_000)
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å")
    parser.add_argument("--keep", type=Path, help="a folder, not there yet, where the columns and the store stay")
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(_child(given.child)))
    elif given.keep:
        print(json.dumps(measure(given.structures, given.cutoff, given.keep)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given.structures, given.cutoff, Path(folder))))


if __name__ == "__main__":
    main()
