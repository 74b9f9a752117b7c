"""Finding pairs: ours against vesin, matscipy, ASE, neighborlist-rs, nvalchemi-toolkit-ops and hippynn, interleaved.

    python -m benchmarks.pairs [--quick] [--threads 2] [--data FILE.xyz --cutoff 6.0] [--sets NAME ...]

One thread each; every code returns the full list as integer arrays of i, j and S for all structures of a set, in
whatever order it has them; "packed" is ours as the store keeps it. Figures are ns of wall time a pair of the full list,
medians over rounds in which all codes take turns; the ratio is vesin's to ours, taken round by round, with the middle
half of the rounds. A peer that is not installed is absent; one that gives another number of pairs is marked with *.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.pair_peers import peers
from benchmarks.pair_sets import Batch, made_up, read
from forcefoundry.pairs.cpu import CpuFinder


def ours(threads: int) -> dict[str, Callable[[Batch], int]]:
    """Our finder, returning full lists and packed halves; each gives the number of pairs of the full list."""
    finder = CpuFinder(threads=threads)

    def full(b: Batch) -> int:
        return len(finder(b.positions, b.cell, b.pbc, b.cutoff, b.offsets).i)

    def packed(b: Batch) -> int:
        return 2 * len(finder.half(b.positions, b.cell, b.pbc, b.cutoff, b.offsets).codes)

    return {"forcefoundry": full, "packed": packed}


def measure(codes: dict[str, Callable[[Batch], int]], batch: Batch, rounds: int, patience: float) -> dict[str, Any]:
    """Let the codes take turns on one set. A code slower than `patience` seconds a turn gets a single one."""
    taken: dict[str, list[float]] = {}
    found: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, code in codes.items():
            if number > 1 and taken.get(name, [0.0])[0] > patience:
                continue
            started = time.perf_counter()
            try:
                found[name] = code(batch)
            except (ValueError, RuntimeError, NotImplementedError) as error:
                print(f"  {name} fails on {batch.name}: {str(error)[:100]}")
                found[name] = -1
                taken[name] = [float("inf")]
                continue
            spent = time.perf_counter() - started
            if number:
                taken.setdefault(name, []).append(spent)
    n_pairs = found["forcefoundry"]
    medians = {name: 1e9 * statistics.median(times) / n_pairs for name, times in taken.items() if times[0] < 1e9}
    row: dict[str, Any] = {"set": batch.name, "pairs": n_pairs, "pairs_per_atom": n_pairs / len(batch.positions)}
    row["ns_per_pair"] = {name: round(value, 2) for name, value in medians.items()}
    row["other_pairs"] = {name: number for name, number in found.items() if number not in (n_pairs, -1)}
    if "vesin" in medians:
        ratios = [v / o for v, o in zip(taken["vesin"], taken["forcefoundry"], strict=False)]
        row["ratio"] = round(statistics.median(ratios), 2)
        row["spread"] = [round(float(x), 2) for x in np.quantile(ratios, [0.25, 0.75])]
    return row


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """The rows as text."""
    lines = [f"{'set':<26}{'pairs/atom':>11}" + "".join(f"{name:>16}" for name in names) + f"{'vesin/ours':>20}"]
    for row in rows:
        cells = [
            f"{row['ns_per_pair'][name]:.1f}{'*' if name in row['other_pairs'] else ''}"
            if name in row["ns_per_pair"]
            else "-"
            for name in names
        ]
        ratio = f"{row['ratio']:.1f} ({row['spread'][0]:.1f}-{row['spread'][1]:.1f})" if "ratio" in row else "-"
        head = f"{row['set']:<26}{row['pairs_per_atom']:>11.1f}"
        lines.append(head + "".join(f"{cell:>16}" for cell in cells) + f"{ratio:>20}")
    return "\n".join(lines)


def processor() -> str:
    """What runs this, as Linux or Python names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main() -> None:
    """Print a table, and the same as one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer structures and rounds: under 40 s")
    parser.add_argument("--threads", type=int, default=1, help="a further column with ours on so many threads")
    parser.add_argument("--data", help="structures in a file that ASE reads, in place of the made-up sets")
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å, for --data")
    parser.add_argument("--sets", nargs="*", help="only sets whose names contain one of these")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    scale, rounds = (1, 5) if options.quick else (4, 15)
    batches = [read(options.data, options.cutoff)] if options.data else made_up(scale)
    batches = [b for b in batches if not options.sets or any(part in b.name for part in options.sets)]
    codes = ours(1)
    if options.threads > 1:
        codes[f"{options.threads} threads"] = ours(options.threads)["forcefoundry"]
    codes.update(peers(options.quick))
    rows = [measure(codes, batch, rounds, 0.3 if options.quick else 3.0) for batch in batches]
    print(table(rows, list(codes)))
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps({"rows": rows, "machine": machine}))


if __name__ == "__main__":
    main()
