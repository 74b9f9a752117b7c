"""Finding pairs on a CUDA device: ours checked against our CPU finder, and timed beside nvalchemi-toolkit-ops.

    python -m benchmarks.gpu_pairs [--scale 16] [--rounds 20] [--data FILE.xyz --cutoff 6.0] [--sets NAME ...]

Needs a CUDA device, and says so where there is none. First every set is found on the GPU and on the CPU, full lists and
packed halves, and must be equal to the last bit. Then both codes take turns on tensors that lie on the device, in
float64, each giving the full list as integer tensors there; the time is that between two CUDA events around the call,
the host's part and the counting included. Figures are ns a pair of the full list, medians over rounds; the ratio is
nvalchemi's to ours, taken round by round, with the middle half of the rounds. A peer that is not installed is absent;
one that gives another number of pairs is marked with *. The last line is the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.pair_sets import Batch, made_up, read
from forcefoundry.pairs.cpu import CpuFinder
from forcefoundry.pairs.gpu import GpuFinder
from forcefoundry.pairs.half import HalfPairs

Code = Callable[[], int]


def differences(finder: GpuFinder, batch: Batch) -> list[str]:
    """What the GPU finds otherwise than the CPU: names of arrays, none if all are equal to the last bit."""
    what = (batch.positions, batch.cell, batch.pbc, batch.cutoff, batch.offsets)
    full, expected = finder(*what), CpuFinder()(*what)
    wrong = [name for name in ("i", "j", "S") if not np.array_equal(getattr(full, name), getattr(expected, name))]
    half, packed = finder.half(*what), CpuFinder().half(*what)
    names = HalfPairs.__dataclass_fields__
    return wrong + [name for name in names if getattr(half, name).tobytes() != getattr(packed, name).tobytes()]


def ours(finder: GpuFinder, batch: Batch) -> Code:
    """Our finder on tensors of the device; gives the number of pairs."""
    positions, cell, pbc = (torch.from_numpy(array).cuda() for array in (batch.positions, batch.cell, batch.pbc))
    offsets = torch.from_numpy(batch.offsets)

    def find() -> int:
        return len(finder.on_device(positions, cell, pbc, offsets, batch.cutoff)[0])

    return find


def nvalchemi(batch: Batch) -> Code:
    """The peer's batched list on tensors of the device; gives the number of pairs."""
    import warp
    from nvalchemiops.torch.neighbors import neighbor_list

    warp.config.quiet = True
    of_atom = torch.from_numpy(np.repeat(np.arange(len(batch.cell), dtype=np.int32), np.diff(batch.offsets))).cuda()
    starts, positions = (
        torch.from_numpy(batch.offsets.astype(np.int32)).cuda(),
        torch.from_numpy(batch.positions).cuda(),
    )
    periodic: dict[str, Any] = {}
    if batch.pbc.any():
        periodic = {"cell": torch.from_numpy(batch.cell).cuda(), "pbc": torch.from_numpy(batch.pbc).cuda()}

    def find() -> int:
        pairs, *_ = neighbor_list(
            positions, batch.cutoff, batch_idx=of_atom, batch_ptr=starts, return_neighbor_list=True, **periodic
        )
        return int(pairs.shape[1])

    return find


def timed(code: Code) -> tuple[float, int]:
    """Milliseconds between two events around one call, and the number of pairs."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    n_pairs = code()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end), n_pairs


def measure(finder: GpuFinder, batch: Batch, rounds: int) -> dict[str, Any]:
    """Let both take turns on one set; the first rounds, in which kernels are compiled, are not counted."""
    codes = {"forcefoundry": ours(finder, batch)}
    try:
        codes["nvalchemi"] = nvalchemi(batch)
    except ImportError:
        print(f"  nvalchemi-toolkit-ops is not installed: {batch.name} is timed without it")
    taken: dict[str, list[float]] = {}
    found: dict[str, int] = {}
    for number in range(-3, rounds):
        for name, code in list(codes.items()):
            try:
                spent, found[name] = timed(code)
            except (ValueError, RuntimeError, NotImplementedError) as error:
                if name == "forcefoundry":
                    raise
                print(f"  {name} fails on {batch.name}: {str(error)[:100]}")
                codes.pop(name)
                continue
            if number >= 0:
                taken.setdefault(name, []).append(spent)
    n_pairs = found["forcefoundry"]
    row: dict[str, Any] = {"set": batch.name, "pairs": n_pairs, "pairs_per_atom": n_pairs / len(batch.positions)}
    row["ns_per_pair"] = {name: round(1e6 * statistics.median(times) / n_pairs, 4) for name, times in taken.items()}
    row["other_pairs"] = {name: number for name, number in found.items() if number != n_pairs}
    if "nvalchemi" in taken:
        ratios = [peer / own for peer, own in zip(taken["nvalchemi"], taken["forcefoundry"], strict=False)]
        row["ratio"] = round(statistics.median(ratios), 2)
        row["spread"] = [round(float(x), 2) for x in np.quantile(ratios, [0.25, 0.75])]
    return row


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    own, peer = (row["ns_per_pair"].get(name) for name in ("forcefoundry", "nvalchemi"))
    beside = "-" if peer is None else f"{peer:.4f}{'*' if row['other_pairs'] else ''}"
    ratio = f"{row['ratio']:.2f} ({row['spread'][0]:.2f}-{row['spread'][1]:.2f})" if "ratio" in row else "-"
    return f"{row['set']:<26}{row['pairs']:>12}{own:>14.4f}{beside:>12}{ratio:>22}"


def main() -> None:
    """Check, then time; print a table, and the same as one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=16, help="how many times the structures of the smallest sets")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", help="structures in a file that ASE reads, in place of the made-up sets")
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å, for --data")
    parser.add_argument("--sets", nargs="*", help="only sets whose names contain one of these")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("Nothing was measured: PyTorch sees no CUDA device on this machine.")
    finder = GpuFinder("cuda")
    if finder.device.type != "cuda":
        sys.exit("Nothing was measured: Triton interprets. Unset TRITON_INTERPRET.")
    batches = [read(options.data, options.cutoff)] if options.data else made_up(options.scale)
    rows, unlike = [], []
    print(f"{'set':<26}{'pairs':>12}{'forcefoundry':>14}{'nvalchemi':>12}{'nvalchemi/ours':>22}")
    for batch in batches:
        if options.sets and not any(part in batch.name for part in options.sets):
            continue
        wrong = differences(finder, batch)
        if wrong:
            unlike.append(batch.name)
            print(f"{batch.name:<26}  UNLIKE the CPU finder's: {', '.join(wrong)}")
            continue
        rows.append(measure(finder, batch, options.rounds))
        print(line(rows[-1]))
    machine = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, PyTorch {torch.__version__}"
    print(json.dumps({"rows": rows, "unlike": unlike, "machine": machine}))
    if unlike:
        sys.exit(f"The GPU finder differs from the CPU finder on {', '.join(unlike)}.")


if __name__ == "__main__":
    main()
