"""Finding pairs: ours against vesin, matscipy, ASE, neighborlist-rs, nvalchemi-toolkit-ops and hippynn, interleaved.

    make bench-peers
    .peers-bench/bin/python -m benchmarks.pairs [--quick] [--data FILE.xyz --cutoff 6.0] [--sets NAME ...]
    .peers-bench/bin/python -m benchmarks.pairs --threads 2 [--pairs 10000000] [--sets NAME ...]

`make bench-peers` installs the peers, and what our package needs, into an environment of their own
(FORCEFOUNDRY_BENCH_PEERS names another); in any other environment a peer that is not installed is absent.

One thread each; every code returns the full list as integer arrays of i, j and
S for all structures of a set, in whatever order it has them; "packed" is ours as the store keeps it. Figures are ns of
processor time a pair of the full list, medians over rounds in which all codes take turns; a slow one takes a single
turn, and none in a quick run. The ratio is vesin's time to ours, taken round by round, with the middle half of the
rounds. A peer that gives another number of pairs is marked with *, one that cannot take a set has a dash. --threads
compares ours on one thread with ours on several instead, by wall time, on the structures over and over again, to ten
million pairs or as many as --pairs says. Beside it, at the same time, what as many threads gain at a loop that needs no
memory ("machine"), which is less than their number while anything else runs, and at copying numbers to as many bytes
as the full list has ("memory"). The last line is the same as JSON.
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
from functools import partial
from typing import Any

import numba
import numpy as np

from benchmarks.pair_peers import SLOW, peers
from benchmarks.pair_sets import Batch, made_up, read
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.native.threads import side_by_side

MANY_PAIRS = 10_000_000
"""Of a set, where threads are compared: tens of milliseconds of one, as where the store is filled."""

BYTES = 28
"""Of a pair in a full list."""

ARITHMETIC = 20_000_000

Code = Callable[[Batch], int]
"""Finds the pairs of a set, and gives the number of pairs of the full list."""


def ours() -> dict[str, Code]:
    """Our finder: full lists, and packed halves."""
    finder = CpuFinder()

    def full(b: Batch) -> int:
        return len(finder(b.positions, b.cell, b.pbc, b.cutoff, b.offsets).i)

    def packed(b: Batch) -> int:
        return 2 * len(finder.half(b.positions, b.cell, b.pbc, b.cutoff, b.offsets).codes)

    return {"forcefoundry": full, "packed": packed}


def measure(codes: dict[str, Code], batch: Batch, rounds: int, patience: float) -> dict[str, Any]:
    """Let the codes take turns on one set; one that takes longer than `patience` (s) a turn has a single one."""
    taken: dict[str, list[float]] = {}
    found: dict[str, int] = {}
    n_pairs = codes["forcefoundry"](batch)
    for number in range(rounds + 1):
        for name, code in codes.items():
            if number and (name not in found or taken.get(name, [0.0])[0] > patience):
                continue
            started = time.process_time()
            try:
                found[name] = code(batch)
            except (ValueError, RuntimeError, NotImplementedError) as error:
                print(f"  {name} on {batch.name}: {str(error)[:100]}")
                continue
            if number or name in SLOW:  # the turn before the first compiles and warms up
                taken.setdefault(name, []).append(time.process_time() - started)
    ns = {name: [1e9 * spent / n_pairs for spent in times] for name, times in taken.items()}
    row: dict[str, Any] = {"set": batch.name, "pairs": n_pairs}
    row["pairs_per_atom"] = round(n_pairs / len(batch.positions), 1)
    row["ns_per_pair"] = {name: round(statistics.median(values), 2) for name, values in ns.items()}
    row["quarters"] = {name: _quarters(values) for name, values in ns.items()}
    row["other_pairs"] = {name: number for name, number in found.items() if number != n_pairs}
    if "vesin" in taken:
        row["ratio"], row["spread"] = _ratio(taken["vesin"], taken["forcefoundry"])
    return row


def measure_threads(threads: int, batch: Batch, rounds: int, many: int) -> dict[str, Any]:
    """One thread and several take turns on one set, by wall time; packed halves, full lists, arithmetic and copying."""
    finders = {1: CpuFinder(), threads: CpuFinder(threads=threads)}
    half = finders[1].half(batch.positions, batch.cell, batch.pbc, batch.cutoff, batch.offsets)
    times = max(1, round(many / (2 * len(half.codes))))
    batch, numbers = batch.repeated(times), np.ones(times * 2 * len(half.codes) * BYTES // 8)
    copied, split = numbers.copy(), np.array_split
    what = (batch.positions, batch.cell, batch.pbc, batch.cutoff, batch.offsets)
    row: dict[str, Any] = {"set": batch.name, "structures": len(batch.cell)}
    works: dict[str, Callable[[int], object]] = {
        "packed": lambda n: finders[n].half(*what),
        "full": lambda n: finders[n](*what),
        "machine": lambda n: side_by_side([partial(_arithmetic, ARITHMETIC // n)] * n),
        "memory": lambda n: side_by_side(list(map(partial, [np.copyto] * n, split(copied, n), split(numbers, n)))),
    }
    for kind, work in works.items():
        taken: dict[int, list[float]] = {n: [] for n in finders}
        for number in range(rounds + 1):
            for n in finders:
                started = time.perf_counter()
                work(n)
                if number:
                    taken[n].append(1e3 * (time.perf_counter() - started))
        row[f"{kind}_ms"] = {n: round(statistics.median(times), 3) for n, times in taken.items()}
        row[f"{kind}_speed-up"], row[f"{kind}_spread"] = _ratio(taken[1], taken[threads])
    return row


@numba.njit(nogil=True)
def _arithmetic(n: int) -> float:  # pragma: no cover - compiled
    """n operations each of which needs the one before."""
    value = 1.0
    for _ in range(n):
        value = value * 1.0000001 + 1e-9
    return value


def _quarters(values: list[float]) -> list[float]:
    """Between which the middle half of the values lies."""
    return [round(float(x), 2) for x in np.quantile(values, [0.25, 0.75])]


def _ratio(slow: list[float], fast: list[float]) -> tuple[float, list[float]]:
    """How many times longer one took than the other, round by round: the median, and the middle half."""
    ratios = [s / f for s, f in zip(slow, fast, strict=False)]
    return round(statistics.median(ratios), 2), _quarters(ratios)


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """The rows as text."""
    width = [max(9, len(name) + 2) for name in names]
    head = "".join(f"{name:>{w}}" for name, w in zip(names, width, strict=True))
    lines = [f"{'ns/pair':<23}{'pairs/atom':>11}{head}{'vesin/ours':>19}"]
    for row in rows:
        line = f"{row['set']:<23}{row['pairs_per_atom']:>11.1f}"
        for name, w in zip(names, width, strict=True):
            known, mark = row["ns_per_pair"].get(name), "*" if name in row["other_pairs"] else ""
            line += f"{'-' if known is None else f'{known:.1f}{mark}':>{w}}"
        text = f"{row['ratio']:.1f} ({row['spread'][0]:.1f}-{row['spread'][1]:.1f})" if "ratio" in row else "-"
        lines.append(f"{line}{text:>19}")
    return "\n".join(lines)


def threads_table(rows: list[dict[str, Any]], threads: int) -> str:
    """The rows of `measure_threads` as text."""
    kinds = ("packed", "full", "machine", "memory")
    lines = [f"{'ms of wall time':<23}{'structures':>11}" + "".join(f"{kind:>36}" for kind in kinds)]
    for row in rows:
        line = f"{row['set']:<23}{row['structures']:>11}"
        for kind in kinds:
            one, several = (f"{row[f'{kind}_ms'][n]:.2f}" for n in (1, threads))
            low, high = row[f"{kind}_spread"]
            times = f"{one} / {several} = {row[f'{kind}_speed-up']:.2f} ({low:.2f}-{high:.2f})"
            line += f"{times:>36}"
        lines.append(line)
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
    quick = "fewer structures and rounds, without ASE and hippynn: under 40 s"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--threads", type=int, help="compare so many threads with one, in place of others with ours")
    parser.add_argument("--pairs", type=int, default=MANY_PAIRS, help="of a set, for --threads")
    parser.add_argument("--data", help="structures in a file that ASE reads, in place of the made-up sets")
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å, for --data")
    parser.add_argument("--sets", nargs="*", help="only sets whose names contain one of these")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    scale, rounds, patience = (2, 7, 0.12) if options.quick else (4, 21, 2.0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if options.threads and not 1 < options.threads <= cores:
        parser.error(f"--threads {options.threads}: expected 2 to {cores}, the cores that this process may use")
    batches = [read(options.data, options.cutoff)] if options.data else made_up(scale)
    batches = [b for b in batches if not options.sets or any(part in b.name for part in options.sets)]
    if options.threads:
        rows = [measure_threads(options.threads, b, rounds, options.pairs) for b in batches if len(b.cell) > 1]
        print(threads_table(rows, options.threads))
    else:
        codes = ours() | {name: code for name, code in peers().items() if not (options.quick and name in SLOW)}
        rows = [measure(codes, batch, rounds, patience) for batch in batches]
        print(table(rows, list(codes)))
    machine = f"{processor()}, {cores} cores, Python {platform.python_version()}"
    print(json.dumps({"rows": rows, "machine": machine}))


if __name__ == "__main__":
    main()
