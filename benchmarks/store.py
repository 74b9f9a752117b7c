"""The pair store: bytes, writing, opening and reading against other formats; what grew against a rebuild; memory.

    python -m benchmarks.store [--quick] [--structures N] [--data FILE.xyz --cutoff 6.0]

Formats take turns on each set of `benchmarks.pairs`, shaken anew until it has some million pairs: writing until they
are on the disk, opening with the file in the page cache, and batches of 32 structures in random order, each as i, j and
S of the full list, one thread. hippynn's sparse cache takes 44 B a pair (its dense one more). `ns_per_pair` in the last
line is that of the batches, `ratio` full lists' to ours, taken round by round.
"Grown" is what 3 % new structures cost, of what all of them cost in an empty store: the store's work alone, and with
hashing the structures' content, which comes before it. "Wider" is a list within 5 Å, out of what the store keeps
within 6 Å by measuring every pair, and by finding it anew. Figures are medians, ns a pair of the full list: of CPU time
but for writing and opening, where it is wall time. "Streamed" is `benchmarks.streaming`.
Before it writes, each is given memory that the machine has had already: a virtual one may hand back what is free, and
takes up to ten times as long to write where it is given some anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np

from benchmarks import streaming
from benchmarks.pair_sets import Batch, made_up, read
from benchmarks.pairs import processor
from benchmarks.store_formats import WAYS, Batches
from forcefoundry.databases import Database
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.packing import joined
from forcefoundry.pairs.store import PairStore, fill
from forcefoundry.pairs.table import PairTable

SETS = ("Al 108", "Si 64", "tiny", "open", "water", "mixed")
BATCH = 32


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds."""
    started = clock()
    work()
    return clock() - started


def formats(batch: Batch, n_pairs: int, rounds: int, folder: Path) -> dict[str, Any]:
    """One set, kept in every way: bytes a pair, ns a pair to write and to read, and ms to open."""
    rng = np.random.default_rng(0)
    half = joined(list(_shaken(batch, n_pairs, rng)))
    n, pairs = len(half.offsets) - 1, 2 * len(half.codes)
    keys = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    n_atoms = np.diff(half.offsets)
    rows = np.array_split(rng.permutation(n), -(-n // BATCH))
    firsts = [np.concatenate([[0], np.cumsum(n_atoms[part])[:-1]]) for part in rows]
    taken: dict[str, dict[str, list[float]]] = {name: {"write": [], "open": [], "read": []} for name in WAYS}
    size = {}
    for _ in range(rounds + 1):
        for name, kind in WAYS.items():
            place = folder / name
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            way = kind(place, batch.cutoff, keys, half)
            _ask_for_memory(place, 44 * pairs)
            taken[name]["write"].append(timed(way.write))
            way.open()  # the store's first look makes its index
            taken[name]["open"].append(timed(way.open))
            batches = way.open()
            taken[name]["read"].append(timed(partial(_read_all, batches, rows, firsts), time.process_time))
            size[name] = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            size[name] -= sum(path.stat().st_size for path in place.rglob("index-*"))
    shutil.rmtree(folder)
    found = {
        name: {
            "bytes_per_pair": round(size[name] / pairs, 3),
            "write_ns": round(1e9 * statistics.median(of["write"][1:]) / pairs, 2),
            "open_ms": round(1e3 * statistics.median(of["open"][1:]), 2),
            "read_ns": round(1e9 * statistics.median(of["read"][1:]) / pairs, 2),
        }
        for name, of in taken.items()
    }
    row: dict[str, Any] = {"set": batch.name, "structures": n, "pairs": pairs, "formats": found}
    row["ns_per_pair"] = {name: of["read_ns"] for name, of in found.items()}
    full = taken["full lists, npy"]["read"][1:]
    ratios = [slow / fast for slow, fast in zip(full, taken["forcefoundry"]["read"][1:], strict=True)]
    row["ratio"] = round(statistics.median(ratios), 2)
    return row


def _read_all(batches: Batches, rows: list[np.ndarray], firsts: list[np.ndarray]) -> None:
    for part, first in zip(rows, firsts, strict=True):
        batches(part, first)


def _shaken(batch: Batch, n_pairs: int, rng: np.random.Generator) -> Iterator[HalfPairs]:
    """The pairs of a set, shaken by 0.05 Å again and again until there are so many."""
    while n_pairs > 0:
        positions = batch.positions + rng.normal(0.0, 0.05, batch.positions.shape)
        half = CpuFinder().half(positions, batch.cell, batch.pbc, batch.cutoff, batch.offsets)
        n_pairs -= 2 * len(half.codes)
        yield half


def grown(n: int, atoms: tuple[int, int], cutoff: float, rounds: int, folder: Path) -> dict[str, Any]:
    """What 3 % new cells of some to some atoms, the last ones, cost, of what all of them cost in an empty store."""
    streaming.write_columns(folder / "columns", n, atoms)
    structures, finder = Database.load(folder / "columns"), CpuFinder()
    keys = structures.keys()
    old = n - n * 3 // 100

    def filling(name: str) -> float:
        return timed(lambda: fill(PairStore(folder / name, cutoff), keys, structures, finder), time.process_time)

    taken: dict[str, list[float]] = {"rebuild": [], "new": [], "nothing": [], "keys": []}
    for _ in range(rounds):
        fill(PairStore(folder / "grown", cutoff), keys[:old], structures, finder)
        for what, name in (("rebuild", "rebuilt"), ("new", "grown")):
            _ask_for_memory(folder, 2 * sum(path.stat().st_size for path in (folder / "grown").rglob("*.arrow")))
            taken[what].append(filling(name))
        taken["nothing"].append(filling("grown"))
        taken["keys"].append(timed(structures.keys, time.process_time))
        for name in ("grown", "rebuilt"):
            shutil.rmtree(folder / name)
    shutil.rmtree(folder)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "set": f"grown by 3 % to {n} cells of {atoms[0]} to {atoms[1]} atoms",
        "seconds": {name: round(value, 4) for name, value in middle.items()},
        "ratio": round(middle["new"] / middle["rebuild"], 4),
        "ratio_with_keys": round((middle["new"] + middle["keys"]) / (middle["rebuild"] + middle["keys"]), 4),
    }


def _ask_for_memory(folder: Path, n_bytes: int) -> None:
    """Have this machine be given so much memory for what is written to files, and free it."""
    place = folder / "asked"
    with place.open("wb", buffering=0) as file:
        for _ in range(n_bytes >> 20):
            file.write(bytes(2**20))
    place.unlink()


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _nearer(positions: Any, cell: Any, offsets: Any, counts: Any, pair_ends: Any, codes: Any, cutoff: float) -> int:
    """Measure each pair of a packed half list as the finders do, and keep those that are nearer; gives how many."""
    kept = np.empty(len(codes), np.uint32)
    n = 0
    for s in range(len(offsets) - 1):
        at = pair_ends[s]
        for i in range(offsets[s], offsets[s + 1]):
            for k in range(at, at + counts[i]):
                code = codes[k]
                j = offsets[s] + (code >> 15)
                a, b, c = float((code >> 10) & 31) - 16.0, float((code >> 5) & 31) - 16.0, float(code & 31) - 16.0
                total = 0.0
                for x in range(3):
                    moved = (a * cell[s, 0, x] + b * cell[s, 1, x]) + c * cell[s, 2, x]
                    d = (positions[j, x] - positions[i, x]) + moved
                    total += d * d
                kept[n] = code
                n += np.sqrt(total) < cutoff
            at += counts[i]
    return n


def wider(batch: Batch, rounds: int) -> dict[str, Any]:
    """A list within 5 Å, out of one that is kept within 6 Å and by finding it; ns a pair of the shorter full list."""
    finder = CpuFinder()
    known = (batch.positions, batch.cell, batch.pbc)
    table = PairTable.of_half(6.0, finder.half(*known, 6.0, batch.offsets))
    rows = np.arange(len(batch.offsets) - 1)
    found = finder.half(*known, 5.0, batch.offsets)
    pairs = 2 * len(found.codes)

    def by_measuring() -> int:
        half = table.half(rows)
        kept = _nearer(batch.positions, batch.cell, half.offsets, half.counts, half.pair_ends, half.codes, 5.0)
        return int(kept)

    assert 2 * by_measuring() == pairs
    taken: dict[str, list[float]] = {"measured": [], "found": []}
    for _ in range(rounds):
        taken["measured"].append(timed(by_measuring, time.process_time))
        taken["found"].append(timed(lambda: finder.half(*known, 5.0, batch.offsets), time.process_time))
    ns = {name: round(1e9 * statistics.median(times) / pairs, 2) for name, times in taken.items()}
    return {"set": f"{batch.name}, 6 to 5 A", "pairs": pairs, "pairs_of_wider": table.n_pairs, "ns_per_pair": ns}


def show(row: dict[str, Any]) -> None:
    """Print one row for people."""
    print(row["set"])
    for name, values in row.get("formats", {}).items():
        print(
            f"  {name:<18}{values['bytes_per_pair']:>8.2f} B/pair  write {values['write_ns']:>7.2f} ns"
            f"  open {values['open_ms']:>8.2f} ms  read {values['read_ns']:>6.2f} ns"
        )
    if "formats" not in row:
        print("  " + ", ".join(f"{name} {value}" for name, value in row.items() if name != "set"))


def main() -> None:
    """Print what was measured, and the same as one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer structures and rounds: under 40 s")
    parser.add_argument("--structures", type=int, help="of the streamed run; 20 000 when quick, else 1 000 000")
    parser.add_argument("--data", help="structures in a file that ASE reads, in place of the made-up sets")
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å, for --data")
    given = parser.parse_args()
    scale, rounds, n_pairs = (1, 3, 1e6) if given.quick else (4, 5, 4e6)
    streamed = given.structures or (20_000 if given.quick else 1_000_000)
    sets = made_up(scale)
    chosen = [read(given.data, given.cutoff)] if given.data else [b for b in sets if b.name.startswith(SETS)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for batch in chosen:
            rows.append(formats(batch, int(n_pairs), rounds, place / "formats"))
            show(rows[-1])
        for batch in sets:
            if batch.name.startswith(("Al 108", "open")):
                rows.append(wider(batch, 5 * rounds))
                show(rows[-1])
        for n, atoms in ((200_000, (3, 30)), (20_000, (60, 150))):
            rows.append(grown(n // 20 if given.quick else n, atoms, 6.0, rounds, place / "grown"))
            show(rows[-1])
        found = streaming.measure(streamed, 6.0, place / "streamed")
        rows.append({"set": f"streamed, {streamed} cells of 3 to 30 atoms", **found})
        show(rows[-1])
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps({"rows": rows, "machine": machine}))


if __name__ == "__main__":
    main()
