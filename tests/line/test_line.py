"""The whole line on real data, as its users start it: what it leaves, what it recomputes and what not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from forcefoundry.databases import Database
from forcefoundry.files import read_json
from forcefoundry.pairs import ReferenceFinder
from forcefoundry.pairs.cache import compute_table
from tests.line.workspace import Workspace, commit
from tests.tiny import TINY

STEPS = ["label", "load", "precompute_pairs", "assemble", "train", "evaluate", "record"]
TIMED = ("receipt.json", "run.json", "summary.txt")  # seconds and run ids belong to the run, not to the result


def test_the_flow_ends_with_the_table(after_flow: tuple[Workspace, str]) -> None:
    workspace, printed = after_flow
    metrics = read_json(workspace.folder / "artifacts/evaluate/metrics.json")
    summary = read_json(workspace.folder / "artifacts/load/summary.json")
    for row in ("data", "pairs", "train", "valid", "test", "review"):
        assert any(line.startswith(row) for line in printed.splitlines()), row
    row = next(line for line in printed.splitlines() if line.startswith("test "))
    assert f"{1e3 * metrics['test']['forces']['rmse']:.0f}" in row
    assert f"{summary['n_structures']} structures" in printed
    assert "gate" not in printed


def test_dvc_agrees_with_the_flow(line: Workspace) -> None:
    assert "up to date" in line.dvc("status")
    assert line.ran() == []


def test_a_second_flow_recomputes_nothing_and_says_so(line: Workspace) -> None:
    before = line.hashes()
    assert "nothing changed: nothing was recomputed" in line.pipeline("run", *TINY)
    assert line.hashes() == before


def test_another_network_trains_again_and_computes_no_pair(line: Workspace) -> None:
    line.pipeline("params", *TINY, "network.n_features=7")
    assert line.ran() == ["assemble", "train", "evaluate", "record"]


def test_a_changed_network_file_trains_again_and_computes_no_pair(line: Workspace) -> None:
    source = line.folder / "src/forcefoundry/networks/hipnn.py"
    kept = source.read_text()
    source.write_text(kept + "\n# changed\n")
    try:
        assert not {"label", "load", "precompute_pairs"} & set(line.ran())
    finally:
        source.write_text(kept)


def test_another_cutoff_computes_the_pairs_anew(line: Workspace) -> None:
    line.pipeline("params", *TINY, "pairs.cutoff=4.5")
    ran = line.ran()
    assert ran == ["precompute_pairs", "assemble", "train", "evaluate", "record"]
    receipt = read_json(line.folder / "artifacts/precompute_pairs/receipt.json")
    digest = read_json(line.folder / "artifacts/precompute_pairs/digest.json")
    assert receipt["computed"] == digest["n_structures"] > 0
    assert digest["cutoff"] == 4.5


def test_tracking_elsewhere_recomputes_nothing(line: Workspace, tmp_path: Path) -> None:
    line.extra["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/elsewhere.db"
    assert "up to date" in line.dvc("status")
    assert line.ran() == []


def test_metrics_and_plots_show_something(line: Workspace) -> None:
    commit(line, "a first model")
    line.pipeline("params", *TINY, "training.max_epochs=4")
    assert line.ran() == ["train", "evaluate", "record"]
    changed = json.loads(line.dvc("metrics", "diff", "--json"))
    assert changed["artifacts/evaluate/metrics.json"]["test.forces.rmse"]["diff"] != 0
    line.dvc("plots", "diff", "HEAD", "--out", "shown")
    page = (line.folder / "shown/index.html").read_text()
    assert "valid_forces_rmse" in page
    assert list((line.folder / "shown").rglob("*parity_forces.png"))
    shutil.rmtree(line.folder / "shown")


def test_a_pair_lies_on_the_disk_once(line: Workspace) -> None:
    shards = list((line.folder / "artifacts/precompute_pairs/shards").glob("*.arrow"))
    assert shards
    inodes = {path.stat().st_ino for path in line.store.rglob("*.arrow")}
    cached = {path.stat().st_ino for path in (line.folder / ".dvc/cache").rglob("*") if path.is_file()}
    for shard in shards:
        assert shard.stat().st_ino in inodes & cached


def test_pairs_come_back_by_checkout(line: Workspace) -> None:
    folder = line.folder / "artifacts/precompute_pairs"
    names = {path.name for path in (folder / "shards").iterdir()}
    shutil.rmtree(folder)
    line.dvc("checkout")
    assert {path.name for path in (folder / "shards").iterdir()} == names
    assert "up to date" in line.dvc("status")


def test_pairs_come_to_another_machine_by_push_and_pull(
    line: Workspace, other_machine: Workspace, tmp_path: Path
) -> None:
    for workspace in (line, other_machine):
        workspace.dvc("remote", "add", "--local", "-f", "-d", "shelf", str(tmp_path / "remote"))
    line.dvc("push")
    for name in ("dvc.lock", "params.yaml"):
        shutil.copy(line.folder / name, other_machine.folder / name)
    other_machine.dvc("pull")
    assert other_machine.ran() == []
    assert not list(other_machine.store.rglob("*.arrow"))
    # Even a step that is made to run again finds its pairs in the shards that came along.
    other_machine.dvc("repro", "--force", "--single-item", "precompute_pairs")
    receipt = read_json(other_machine.folder / "artifacts/precompute_pairs/receipt.json")
    assert receipt["computed"] == 0
    assert receipt["kept"] > 0
    assert list(other_machine.store.rglob("*.arrow"))


def shards(line: Workspace) -> dict[str, Path]:
    """The shards that the workspace holds, by name."""
    return {path.name: path for path in (line.folder / "artifacts/precompute_pairs/shards").glob("*.arrow")}


def test_the_store_of_a_run_is_counted_verified_and_put_right(line: Workspace) -> None:
    base = Database.load(line.folder / "artifacts/load/columns")
    held = read_json(line.folder / "artifacts/precompute_pairs/shards/manifest.json")
    pairs = compute_table(base, held["cutoff"], ReferenceFinder()).n_pairs
    assert (held["structures"], held["pairs"]) == (len(base), pairs)
    assert f"  {held['cutoff']:g} Å".ljust(12) + f"{len(base)} structures, {pairs} pairs, " in line.pipeline(
        "pairs", "stats"
    )
    assert " shards verified" in line.pipeline("pairs", "verify")
    name, view = max(shards(line).items(), key=lambda one: one[1].stat().st_size)
    (stored,) = line.store.rglob(name)
    inside = (path for path in (line.folder / ".dvc/cache").rglob("*") if path.is_file())
    (cached,) = (path for path in inside if path.samefile(stored))
    right, inode = stored.read_bytes(), stored.stat().st_ino
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.seek(len(right) // 2)
        file.write(bytes([right[len(right) // 2] ^ 1]))
    stored.chmod(0o444)
    said = line.pipeline("pairs", "verify", code=1)
    assert f"damaged: {stored}: its bytes are not those of its name" in said
    assert said.count("damaged: ") == 1
    assert f"put right: {stored}: {len(base)} structures were computed again" in line.pipeline("pairs", "repair")
    for path in (stored, view, cached):
        assert (path.read_bytes(), path.stat().st_ino) == (right, inode)
    line.pipeline("pairs", "verify")
    assert "up to date" in line.dvc("status")


def test_gc_removes_what_no_run_needs_and_the_next_run_computes_nothing(line: Workspace, tmp_path: Path) -> None:
    needed = set(shards(line))
    line.pipeline("params", *TINY, "pairs.cutoff=4.7")
    line.dvc("repro", "precompute_pairs")
    unneeded = set(shards(line))
    assert unneeded
    assert not unneeded & needed
    line.pipeline("params", *TINY)
    line.dvc("repro", "precompute_pairs")
    assert set(shards(line)) == needed
    assert "would go: shard" not in line.pipeline("pairs", "gc", "--dry-run")  # they are young

    def stored() -> set[str]:
        return {path.name for path in line.store.rglob("*.arrow") if not path.name.startswith("index-")}

    said = line.pipeline("pairs", "gc", "--dry-run", "--force")
    assert all(f"would go: shard {next(line.store.rglob(name))} (" in said for name in unneeded)
    assert not any(name in said for name in needed)
    assert needed | unneeded <= stored()
    said = line.pipeline("pairs", "gc", "--force")
    assert all(name in said for name in unneeded)
    assert stored() == needed
    assert "nothing changed: nothing was recomputed" in line.pipeline("run", *TINY)
    # Another workspace of this machine, which has the same structures and neither shards nor a cache of DVC's.
    there = Workspace(tmp_path / "there", line.store)
    shutil.copytree(
        line.folder, there.folder, ignore=shutil.ignore_patterns(".git", ".dvc", "dvc.lock", "precompute_pairs")
    )
    there.pipeline("precompute_pairs")
    receipt = read_json(there.folder / "artifacts/precompute_pairs/receipt.json")
    assert (receipt["computed"], set(shards(there))) == (0, needed)


def test_repro_in_a_clean_clone_does_the_same_job(line: Workspace, other_machine: Workspace) -> None:
    other_machine.pipeline("params", *TINY)
    assert other_machine.ran() == STEPS
    by_flow, by_dvc = line.hashes(), other_machine.hashes()
    assert by_flow.keys() == by_dvc.keys()
    differing = [path for path in by_flow if by_flow[path] != by_dvc[path] and not path.endswith(TIMED)]
    assert differing == []
    said = other_machine.pipeline("run", *TINY)
    assert "nothing changed: nothing was recomputed" in said


def test_an_experiment_of_dvc_works(line: Workspace) -> None:
    commit(line, "before the experiment")
    said = line.dvc("exp", "run", "--name", "longer", "-S", "training.max_epochs=5")
    assert "Running stage 'train'" in said
    assert "Running stage 'precompute_pairs'" not in said
    assert yaml.safe_load((line.folder / "params.yaml").read_text())["training"]["max_epochs"] == 5
    history = (line.folder / "artifacts/train/history.csv").read_text().splitlines()
    assert len(history) == 1 + 5


def test_training_refuses_a_graph_that_is_not_the_assembled_one(line: Workspace) -> None:
    line.pipeline("params", *TINY, "network.n_features=9")
    said = line.pipeline("train", code=2)
    assert (
        said.strip().splitlines()[-1].startswith("forcefoundry: The graph does not match the one that assemble wrote")
    )
