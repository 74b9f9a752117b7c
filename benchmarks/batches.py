"""Shuffled batches with all their columns out of the pair cache; beside it: found anew, full lists in memory, memcpy.

    python -m benchmarks.batches [--quick] [--data FILE.xyz --cutoff 6.0] [--sets NAME ...]

One thread. A batch has 32 structures, or fewer where they have more than a million pairs, and consists of species,
positions, cell, pbc, n_atoms, system_of_atom, energy, forces, and of i, j, S of the full list in int64, sorted by
(i, j, S). "cache" reads packed pairs out of memory-mapped shards, as a training loop gets its batches without workers:
`prefetched` packs small ones that follow each other in one go. "alone" is a batch of the same by itself, which nothing
in the pipeline asks for; "found anew" is the CPU finder; "in memory" joins slices of int64 full lists; "memcpy" copies
as many bytes as the batch has; "hippynn" is its loader over its sparse cache, without the model's part, where hippynn
is installed or FORCEFOUNDRY_PEERS names an environment that has it (full run only: to take one structure out, it goes
through the pairs of all). All ways take turns, each with the batches that "cache" packs in one go. Figures are ns of
CPU time a pair of the full list, medians over the turns, with the middle half of them; the ratio is taken turn by turn.
Sets of which 32 structures have few pairs are shown a second time in batches of as many structures as have 180 000
pairs, about those of 32 cells of 108 atoms, as `training.max_pairs` makes them.

The full run goes on with the CPU seconds of an epoch of batches from 1 k to 64 k molecules. Last, in wall time, a
training step of the demonstration's network, what packing its batch takes (pairs out of the cache), and what finding
the pairs of the batch takes; and how much longer an epoch is than one whose batches are there already, in percent of
it, with batches packed in the loop and by a thread beside it, which says little while anything else runs; medians of
epochs in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from benchmarks.hippynn_batches import hippynn_way
from benchmarks.pair_sets import Batch as Structures
from benchmarks.pair_sets import made_up, read
from benchmarks.pairs import processor
from benchmarks.training_batches import training_shares
from forcefoundry.batches import Batch, Packer, Sampler, prefetched
from forcefoundry.databases import Database
from forcefoundry.pairs.cache import fill_cache, read_table
from forcefoundry.pairs.contract import Ints
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.store import PairStore
from pipeline.steps.workspace import prepare_process

STRUCTURE = ["species", "positions", "cell", "pbc", "n_atoms", "system_of_atom", "energy", "forces"]
BATCH_SIZE, MOST_PAIRS = 32, 1_000_000
FILLED = 180_000
"""About the pairs of 32 cells of 108 atoms."""
PATIENCE = 0.008
"""s. A way that takes longer for a batch gets a few turns: it would empty the processor's caches for the others."""
EPOCHS, TURNS = 40, 16
"""Epochs are gone through until there have been so many turns, but no more than so many."""
Way = Callable[[Ints], Any]
Turn = Callable[[list[Ints]], None]
"""Makes a group of batches, one after another."""


def more_of(given: Structures, n: int) -> Structures:
    """The structures again and again until there are n, each time with the atoms moved by some 0.01 Å."""
    rng = np.random.default_rng(0)
    times = -(-n // len(given.cell))
    counts = np.tile(np.diff(given.offsets), times)
    positions = np.tile(given.positions, (times, 1))
    positions[len(given.positions) :] += rng.normal(0.0, 0.01, (len(positions) - len(given.positions), 3))
    offsets = np.concatenate([[0], np.cumsum(counts)])[: n + 1]
    cell, pbc = np.tile(given.cell, (times, 1, 1))[:n], np.tile(given.pbc, (times, 1))[:n]
    return replace(given, positions=positions[: offsets[-1]], cell=cell, pbc=pbc, offsets=offsets)


def database_of(given: Structures) -> Database:
    """The structures with made-up labels, all in one split."""
    rng = np.random.default_rng(1)
    n, n_atoms = len(given.cell), len(given.positions)
    columns = {
        "species": np.full(n_atoms, 13),
        "positions": given.positions,
        "cell": given.cell,
        "pbc": given.pbc,
        "n_atoms": np.diff(given.offsets),
        "energy": rng.normal(size=n),
        "forces": rng.normal(size=(n_atoms, 3)),
    }
    return Database(columns, {"train": np.arange(n)})


def cached(database: Database, cutoff: float, root: str) -> Packer:
    """What makes batches of the database, with pairs out of a store that is filled now."""
    store = PairStore(root, cutoff)
    fill_cache(database, store, CpuFinder())
    database.pairs[cutoff] = read_table(database, store)
    return Packer(database, [*STRUCTURE, *(f"pairs_{cutoff!r}_{key}" for key in "ijS")])


def found_anew(database: Database, cutoff: float) -> Way:
    """The same batch with pairs found by the CPU finder."""
    packer, finder = Packer(database, STRUCTURE), CpuFinder()

    def way(rows: Ints) -> Any:
        batch = packer.pack(rows)
        offsets = np.concatenate([[0], np.cumsum(batch["n_atoms"].numpy())])
        pairs = finder(*(batch[name].numpy() for name in ("positions", "cell", "pbc")), cutoff, offsets)
        return {**batch, **{key: torch.from_numpy(getattr(pairs, key)) for key in "ijS"}}

    return way


def in_memory(database: Database, cutoff: float) -> Way:
    """The same batch with pairs sliced out of full lists that are held in memory."""
    packer, n_atoms = Packer(database, STRUCTURE), database.columns["n_atoms"]
    starts, whole = database.pairs[cutoff].all_pairs()

    def way(rows: Ints) -> Any:
        batch = packer.pack(rows)
        spans = [slice(starts[row], starts[row + 1]) for row in rows]
        i, j, S = (np.concatenate([values[span] for span in spans]) for values in (whole.i, whole.j, whole.S))
        first = np.concatenate([[0], np.cumsum(n_atoms[rows[:-1]])])
        moved = np.repeat(first, starts[rows + 1] - starts[rows])
        i += moved
        j += moved
        return {**batch, "i": torch.from_numpy(i), "j": torch.from_numpy(j), "S": torch.from_numpy(S)}

    return way


def memcpy(packer: Packer, batches: list[Ints]) -> Way:
    """As many bytes as the batch has, copied to fresh memory."""
    sizes = {rows.tobytes(): sum(values.nbytes for values in packer.pack(rows).values()) for rows in batches}
    source = np.zeros(max(sizes.values()), dtype=np.uint8)
    return lambda rows: source[: sizes[rows.tobytes()]].copy()


def as_trained(packer: Packer, epochs: list[list[list[Ints]]]) -> Turn:
    """As a training loop without workers gets its batches, epoch by epoch."""

    def all_of_them() -> Iterator[Batch]:
        for groups in epochs:
            with prefetched(packer, chain.from_iterable(groups)) as packed:
                yield from packed

    coming = all_of_them()

    def turn(group: list[Ints]) -> None:
        for _ in group:
            next(coming)

    return turn


def one_by_one(way: Way) -> Turn:
    """A way that makes one batch at a time."""

    def turn(group: list[Ints]) -> None:
        for rows in group:
            way(rows)

    return turn


def check_same(cache: Any, other: Any, cutoff: float) -> None:
    """Batches made in two ways are the same to the bit."""
    names = {name: name for name in STRUCTURE} | {f"pairs_{cutoff!r}_{key}": key for key in "ijS"}
    for mine, theirs in names.items():
        assert torch.equal(cache[mine], other[theirs]), mine


def measure(given: Structures, most: int, patience: float, with_peers: bool) -> list[dict[str, Any]]:
    """Rows of a set: in batches of 32 structures and, where these have few pairs, in batches with a budget of pairs."""
    database = database_of(given)
    with tempfile.TemporaryDirectory() as root:
        packer = cached(database, given.cutoff, root)
        sizes = database.pairs[given.cutoff].pairs_of_structure
        if not sizes.any():
            raise SystemExit(f"{given.name} has no pairs within {given.cutoff} Å.")
        ways: dict[str, Way] = {
            "alone": packer.pack,
            "found anew": found_anew(database, given.cutoff),
            "in memory": in_memory(database, given.cutoff),
        }
        hippynn = hippynn_way(database, given.cutoff) if with_peers else None
        peers = {} if hippynn is None else {"hippynn": hippynn}
        sampler = Sampler(np.arange(len(database)), BATCH_SIZE, 0, packer.budgets(None, MOST_PAIRS))
        rows = [_row(given, packer, sizes, ways | peers, _some(sampler, packer, most), patience)]
        if rows[0]["pairs_per_batch"] < FILLED / 2:
            sampler = Sampler(np.arange(len(database)), len(database), 0, packer.budgets(None, FILLED))
            rows.append(_row(given, packer, sizes, ways, _some(sampler, packer, most), patience))
            rows[1]["set"] += f", {FILLED // 1000}k pairs"
    return rows


def _some(sampler: Sampler, packer: Packer, most: int) -> list[list[list[Ints]]]:
    """Some epochs, each in the groups of batches that `prefetched` packs in one go; so many groups at most."""
    found: list[list[list[Ints]]] = []
    for number in range(EPOCHS):
        left = most - sum(map(len, found))
        if left <= 0 or most - left >= TURNS:
            break
        found.append(list(islice(packer.groups(sampler.epoch(number)), left)))
    return found


def _row(
    given: Structures,
    packer: Packer,
    sizes: Ints,
    ways: dict[str, Way],
    epochs: list[list[list[Ints]]],
    patience: float,
) -> dict[str, Any]:
    """Let the ways take turns on some groups of batches. A way slower than `patience` seconds a batch gets a few."""
    together = [group for groups in epochs for group in groups]
    batches = [rows for group in together for rows in group]
    for name in ("found anew", "in memory"):
        check_same(packer.pack(batches[0]), ways[name](batches[0]), given.cutoff)
    ways = {**ways, "memcpy": memcpy(packer, batches)}
    turns = {"cache": as_trained(packer, epochs), **{name: one_by_one(way) for name, way in ways.items()}}
    taken = _in_turns(turns, together, sizes, patience)
    row: dict[str, Any] = {"set": given.name, "structures": len(given.cell), "batches": len(batches)}
    row["pairs"] = int(sizes.sum())
    row["pairs_per_batch"] = round(sum(float(sizes[rows].sum()) for rows in batches) / len(batches))
    row["structures_per_batch"] = round(sum(map(len, batches)) / len(batches), 1)
    row["ns_per_pair"] = {name: round(statistics.median(times), 2) for name, times in taken.items()}
    row["middle_half"] = {
        name: [round(float(x), 2) for x in np.quantile(times, [0.25, 0.75])] for name, times in taken.items()
    }
    row["ratio"] = round(statistics.median(a / c for a, c in zip(taken["found anew"], taken["cache"], strict=False)), 2)
    return row


def _in_turns(
    turns: dict[str, Turn], together: list[list[Ints]], sizes: Ints, patience: float
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in turns}
    slow: set[str] = set()
    for number, group in enumerate(together):
        for name, turn in turns.items():
            if name in slow and number > (3 if len(group) == 1 else 1):
                continue
            started = time.thread_time()
            turn(group)
            spent = time.thread_time() - started
            slow |= {name} if spent > patience * len(group) else set()
            if number or len(together) == 1:
                taken[name].append(1e9 * spent / sum(int(sizes[rows].sum()) for rows in group))
    return taken


def epochs(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Seconds that an epoch of shuffled batches takes, for more and more molecules; sizes in turn."""
    (molecules,) = (one for one in made_up(4) if one.name == "open molecules")
    found = {}
    with tempfile.TemporaryDirectory() as root:
        database = database_of(more_of(molecules, sizes[-1]))
        whole = cached(database, molecules.cutoff, root)
        pairs = database.pairs[molecules.cutoff].pairs_of_structure
        times: dict[int, list[float]] = {n: [] for n in sizes}
        for number in range(rounds + 1):
            for n in sizes:
                started = time.thread_time()
                with prefetched(whole, Sampler(np.arange(n), BATCH_SIZE, 0).epoch(number)) as packed:
                    for _ in packed:
                        pass
                if number:
                    times[n].append(time.thread_time() - started)
        for n in sizes:
            seconds = statistics.median(times[n])
            found[n] = {"structures": n, "pairs": int(pairs[:n].sum()), "seconds": round(seconds, 4)}
            found[n]["us_per_structure"] = round(1e6 * seconds / n, 3)
    return list(found.values())


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    names = list(dict.fromkeys(name for row in rows for name in row["ns_per_pair"]))
    lines = [f"{'ns a pair':<34}{'pairs/batch':>12}" + "".join(f"{name:>24}" for name in names) + f"{'anew/cache':>12}"]
    for row in rows:
        spans = {name: "{:.2f}-{:.2f}".format(*span) for name, span in row["middle_half"].items()}
        cells = [f"{row['ns_per_pair'][name]:.2f} ({spans[name]})" if name in spans else "-" for name in names]
        head = f"{row['set']:<34}{row['pairs_per_batch']:>12}"
        lines.append(head + "".join(f"{cell:>24}" for cell in cells) + f"{row['ratio']:>12.2f}")
    return "\n".join(lines)


def main() -> None:
    """Print tables, and the same as one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer structures and batches: under 40 s")
    parser.add_argument("--data", help="structures in a file that ASE reads, in place of the made-up sets")
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å, for --data")
    parser.add_argument("--sets", nargs="*", help="only sets whose names contain one of these")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    prepare_process({"hardware": {"threads": 1}})
    pairs, most = (1_000_000, 40) if options.quick else (8_000_000, 300)
    given = [read(options.data, options.cutoff)] if options.data else [_enough(one, pairs) for one in made_up(1)]
    if options.quick and not options.data:
        given = [one for one in given if np.diff(one.offsets).max() < 1000]
    given = [one for one in given if not options.sets or any(part in one.name for part in options.sets)]
    rows = [row for one in given for row in measure(one, most, PATIENCE, with_peers=not options.quick)]
    print(table(rows))
    result: dict[str, Any] = {"rows": rows}
    if not options.quick and not options.data and not options.sets:
        result["epochs"] = epochs([1000, 4000, 16000, 64000], 5)
        for row in result["epochs"]:
            print(
                f"epoch of {row['structures']:>6} molecules: {row['seconds']:.3f} s, {row['us_per_structure']} µs each"
            )
    if not options.data and not options.sets:
        result["training"] = training_shares(3 if options.quick else 21)
        for row in result["training"]:
            shares = ", ".join(f"{name} {value:.1f} %" for name, value in row["percent_of_a_step"].items())
            parts = f"step {row['step_ms']:.2f} ms, packing {row['pack_ms']:.3f} ms, finding {row['find_ms']:.3f} ms"
            print(f"training, {row['set']}: {parts}; {shares}")
    result["machine"] = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(result))


def _enough(given: Structures, pairs: int) -> Structures:
    """As many structures as have about so many pairs, up to 16 000."""
    n_pairs = len(CpuFinder()(given.positions, given.cell, given.pbc, given.cutoff, given.offsets).i)
    return more_of(given, min(16_000, max(len(given.cell), int(pairs / n_pairs * len(given.cell)))))


if __name__ == "__main__":
    main()
