"""The door beside plain reading: made-up structures once through it, again unchanged, and with new files.

    python -m benchmarks.door [--quick] [--rows N] [--format extxyz|ase_lmdb] [--keep FOLDER]

Clusters of 3 to 30 atoms (H, C, N, O) with the energies and forces of a pair potential are written as files of at most
100 000 rows, as another program would. Then, each in a process of its own: the files read by their own library and
nothing else (ASE for extended XYZ, ase-db-backends for LMDB); the door; the door again, where nothing has changed; and
the door once 3 % of the rows have come in a new file. Processor time is told, and the most memory that the process held
above its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
A_FILE = 100_000
E0 = {1: -13.6, 6: -1029.0, 7: -1485.0, 8: -2042.0}
KINDS = ("cluster", "drop", "liquid", "md_300K", "md_600K")


def structures(n: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, float, np.ndarray, str]]:
    """Species, positions, energy, forces and config_type of n clusters; atoms 1.2 Å apart at the least."""
    rng = np.random.default_rng(seed)
    elements = np.array(list(E0))
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 1.6
    for _ in range(n):
        count = int(rng.integers(3, 31))
        species = elements[rng.integers(0, 4, count)]
        # The places around one of them, one or another left out.
        near = np.linalg.norm(grid - grid[rng.integers(64)], axis=1) + rng.uniform(0.0, 1.6, 64)
        positions = grid[np.argsort(near)[:count]] + rng.uniform(-0.2, 0.2, (count, 3))
        bound, forces = _labels(positions)
        yield species, positions, sum(E0[int(z)] for z in species) + bound, forces, KINDS[int(rng.integers(5))]


def _labels(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å) of atoms between any two of which there is one Morse potential."""
    depth, steep, length = 1.5, 1.5, 1.6
    apart = positions[:, None] - positions
    r = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart) + np.eye(len(positions)))
    decay = np.exp(-steep * (r - length))
    np.fill_diagonal(decay, 0.0)
    slope = 2.0 * depth * steep * (1.0 - decay) * decay
    return float(0.5 * depth * (decay * (decay - 2.0)).sum()), -np.einsum("ij,ijk->ik", slope / r, apart)


def write_files(folder: Path, n: int, format_name: str, seed: int = 0) -> None:
    """Write n structures into files of the folder."""
    folder.mkdir(parents=True)
    writer = {"extxyz": _write_xyz, "ase_lmdb": _write_lmdb}[format_name]
    for number, first in enumerate(range(0, n, A_FILE)):
        writer(folder / f"part{number:03d}", min(A_FILE, n - first), seed + number)


def _write_xyz(place: Path, n: int, seed: int) -> None:
    from ase.data import chemical_symbols

    with place.with_suffix(".xyz").open("w") as file:
        for species, positions, energy, forces, kind in structures(n, seed):
            head = f'Properties=species:S:1:pos:R:3:forces:R:3 energy={energy!r} config_type={kind} pbc="F F F"'
            symbols = [chemical_symbols[z] for z in species]
            rows = np.concatenate([positions, forces], axis=1).tolist()
            lines = [" ".join([one, *(f"{x:.8f}" for x in row)]) for one, row in zip(symbols, rows, strict=True)]
            file.write(f"{len(species)}\n{head}\n" + "\n".join(lines) + "\n")


def _write_lmdb(place: Path, n: int, seed: int) -> None:
    import zlib

    import lmdb

    # As fairchem's sets are written: JSON, deflated, a row under each number. ase-db-backends writes 368 rows a second.
    database = lmdb.open(str(place.with_suffix(".aselmdb")), subdir=False, map_size=1 << 40, meminit=False, sync=False)
    with database.begin(write=True) as rows:
        for at, (species, positions, energy, forces, kind) in enumerate(structures(n, seed), 1):
            row = {
                "numbers": {"__ndarray__": [[len(species)], "int64", species.tolist()]},
                "positions": {"__ndarray__": [[len(species), 3], "float64", positions.ravel().tolist()]},
                "cell": {"__ndarray__": [[3, 3], "float64", [0.0] * 9]},
                "pbc": {"__ndarray__": [[3], "bool", [False] * 3]},
                "calculator": "unknown",
                "calculator_parameters": {},
                "energy": energy,
                "forces": {"__ndarray__": [[len(species), 3], "float64", forces.ravel().tolist()]},
                "key_value_pairs": {"config_type": kind},
                "data": {},
                "unique_id": f"{seed:08x}{at:024x}",
                "ctime": 0.0,
                "mtime": 0.0,
                "user": "made",
            }
            rows.put(str(at).encode(), zlib.compress(json.dumps(row).encode()))
        ends = {"nextid": n + 1, "metadata": {}, "deleted_ids": []}
        for key, value in ends.items():
            rows.put(key.encode(), zlib.compress(json.dumps(value).encode()))
    database.close()


def config(folder: Path, format_name: str) -> dict[str, Any]:
    """The `database` section that reads the files of a folder: by one official file each where there are several."""
    held: dict[str, Any] = yaml.safe_load((ROOT / "conf/database/ase_db.yaml").read_text(encoding="utf-8"))
    split = {**held["split"], "valid": 0.1, "test": 0.1, "held_out": []}
    several = {"extxyz": "ase_folder", "ase_lmdb": "ase_lmdb"}
    return {**held, "path": str(folder), "format": several[format_name], "group": None, "split": split}


def child(what: str, folder: Path, format_name: str) -> dict[str, Any]:
    """Do one thing in this process, and say what it took."""
    from forcefoundry.contract.door import bring_in

    _mark()
    started, processor = time.perf_counter(), time.process_time()
    if what == "library":
        n_rows = _plainly(folder / "files", format_name)
    else:
        summary = bring_in(config(folder / "files", format_name), None, folder / "out", None, folder / "scratch")
        n_rows = summary["rows"]["in"]
    memory, before = _resident("VmHWM"), _mark.before  # type: ignore[attr-defined]
    return {
        "rows": n_rows,
        "seconds": round(time.perf_counter() - started, 2),
        "processor_s": round(time.process_time() - processor, 2),
        "above_imports_mb": round((memory - before) / 1e6),
    }


def _plainly(folder: Path, format_name: str) -> int:
    from ase.io import iread

    count = 0
    for path in sorted(folder.iterdir()):
        if path.name.endswith("-lock"):
            continue
        if format_name == "extxyz":
            rows: Any = iread(str(path), index=":", format="extxyz")
        else:
            from ase_db_backends.aselmdb import LMDBDatabase

            rows = (row.toatoms() for row in LMDBDatabase(str(path), readonly=True).select())
        for _ in rows:
            count += 1
    return count


def _mark() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts again from here
    _mark.before = _resident("VmRSS")  # type: ignore[attr-defined]


def _resident(mark: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(mark))
    return 1024 * int(line.split()[1])


def measure(n: int, format_name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """All of it over n rows: medians of the rounds, which are interleaved."""
    import shutil
    import statistics

    if not (folder / "files").exists():
        write_files(folder / "files", n, format_name)
    taken: dict[str, list[dict[str, Any]]] = {"library": [], "door": [], "again": [], "new": []}
    for _ in range(rounds):
        for name in ("scratch", "out"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for what in taken:
            if what == "new":
                _write_more(folder, n, format_name)
            taken[what].append(_run(what, folder, format_name))
        shutil.rmtree(folder / "scratch")
        for path in (folder / "files").glob("zz*"):
            path.unlink()
    middle = {
        what: {key: statistics.median([one[key] for one in found]) for key in found[0]} for what, found in taken.items()
    }
    cost = {what: found["processor_s"] for what, found in middle.items()}
    return {
        "rows": n,
        "format": format_name,
        "bytes": sum(path.stat().st_size for path in (folder / "files").iterdir()),
        **middle,
        "rows_per_s": {what: round(middle[what]["rows"] / cost[what]) for what in ("library", "door")},
        "door_by_library": round(cost["door"] / cost["library"], 3),
        "again_by_door": round(middle["again"]["seconds"] / middle["door"]["seconds"], 4),
        "new_by_door": round(cost["new"] / cost["door"], 4),
    }


def _write_more(folder: Path, n: int, format_name: str) -> None:
    writer = {"extxyz": _write_xyz, "ase_lmdb": _write_lmdb}[format_name]
    writer(folder / "files" / "zz-new", max(1, n * 3 // 100), 10**6)


def _run(what: str, folder: Path, format_name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.door", "--child", what, "--keep", str(folder), "--format", format_name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print what it took, as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="5 000 rows")
    parser.add_argument("--format", choices=("extxyz", "ase_lmdb"), default="extxyz")
    parser.add_argument("--keep", type=Path, help="a folder where the files stay")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    n = 5_000 if given.quick else given.rows
    if given.child:
        print(json.dumps(child(given.child, given.keep, given.format)))
    elif given.keep:
        print(json.dumps(measure(n, given.format, given.keep, given.rounds)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(n, given.format, Path(folder), given.rounds)))


if __name__ == "__main__":
    main()
