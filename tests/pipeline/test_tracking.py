"""What record puts into MLflow comes back from MLflow: a real SQLite store, and trackers that are not there."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from forcefoundry.files import read_json, write_json
from pipeline import params, tracking
from pipeline.steps import record
from pipeline.tracking import DataSet, Finished, public
from pipeline.values import flat
from tests.builders import database
from tests.pipeline.card_room import card

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own use of SQLAlchemy warns at import
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

PARAMS = {
    "database": {"path": "artifacts/label/structures.db", "label": None},
    "pairs": {"source": "on_the_fly", "cutoff": 5.0},
    "network": {"_target_": "forcefoundry.networks.hipnn.HIPNN", "resnet": True, "cutoff": 5.0},
    "plots": [{"_target_": "forcefoundry.plots.parity.Parity", "node": "forces"}],
    "tracking": {"experiment": "trial", "run_name": "first"},
}
ROWS = {"in": 15, "kept": 12, "quarantined": 2, "rejected": 1}
CARD = card() | {
    "rows": ROWS,
    "splits": {"train": 8, "valid": 2, "test": 2},
    "counts": [
        {"config_type": "melt", "rows": 9, "splits": {"train": 7, "valid": 2, "test": 0}},
        {"config_type": "bulk", "rows": 3, "splits": {"train": 1, "valid": 0, "test": 2}},
    ],
    "species": [{"symbol": "O", "atoms": 40, "rows": 12, "splits": {"train": 8, "valid": 2, "test": 2}}],
    "files": [
        {"file": "/data/a.xyz", "rows": 10, "sha256": "a" * 64},
        {"file": "/data/b.xyz", "rows": 5, "sha256": "b" * 64},
    ],
}
TAKEN = "MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in which every step before record has run, in git, with a dvc.lock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TAKEN, raising=False)
    artifacts = tmp_path / "artifacts"
    write_json(
        artifacts / "load/summary.json",
        {
            "n_structures": 12,
            "n_atoms": 60,
            "species": ["H", "O"],
            "periodic": "open",
            "properties": {"energy": {"key": "energy", "unit": "eV", "count": 12}},
            "splits": {"train": 8, "valid": 2, "test": 2, "held_out": 0},
            "rows": ROWS,
            "source": "artifacts/label/structures.db",
            "digest": "0123456789abcdef" * 4,
        },
    )
    members = {"train": range(8), "valid": range(8, 10), "test": range(10, 12)}
    database(12, splits=members).save(artifacts / "load/columns")
    write_json(artifacts / "load/card.json", CARD)
    receipt = {"computed": 12, "kept": 0, "seconds": 0.1, "bytes": 1000, "device": "cpu"}
    write_json(artifacts / "precompute_pairs/receipt.json", receipt)
    trained = {
        "epochs": 700,
        "best_epoch": 698,
        "seconds": 3.0,
        "n_parameters": 10,
        "device": "cpu",
        "stopped": "epochs",
    }
    write_json(artifacts / "train/receipt.json", trained)
    rows = "".join(f"{epoch},0.005,{1 / epoch},{2 / epoch}\n" for epoch in range(1, 701))
    (artifacts / "train/history.csv").write_text("epoch,learning_rate,train_loss,valid_loss\n" + rows, encoding="utf-8")
    (artifacts / "assemble").mkdir()
    (artifacts / "assemble/graph.md").write_text("# graph", encoding="utf-8")
    (artifacts / "train/model").mkdir()
    (artifacts / "train/model/model.json").write_text("{}", encoding="utf-8")
    (artifacts / "train/model/model.safetensors").write_bytes(b"weights")
    write_json(artifacts / "evaluate/metrics.json", {"test": {"forces": {"mae": 0.02, "rmse": 0.03, "r2": None}}})
    (artifacts / "evaluate/plots").mkdir()
    (artifacts / "evaluate/plots/parity_forces.png").write_bytes(b"\x89PNG")
    outs = [{"path": "artifacts/train/model", "md5": "abc.dir"}, {"path": "artifacts/train/history.csv", "md5": "def"}]
    old = {"outs": [{"path": "artifacts/record/run.json", "md5": "old"}]}
    (tmp_path / "dvc.lock").write_text(
        yaml.safe_dump({"schema": "2.0", "stages": {"train": {"outs": outs}, "record": old}})
    )
    (tmp_path / ".gitignore").write_text("artifacts/\nml*\n", encoding="utf-8")
    params.write(PARAMS)
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
    return tmp_path


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()


def recorded() -> Any:
    """The run that run.json names, read back through MLflow's own client."""
    where = read_json("artifacts/record/run.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MlflowClient(where["tracking_uri"]), MlflowClient(where["tracking_uri"]).get_run(where["run_id"])


def test_a_run_comes_back_whole(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record.STEP.run(PARAMS)
    said = capfd.readouterr()
    assert said.out == said.err == ""
    client, run = recorded()
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "trial"
    assert read_json("artifacts/record/run.json")["tracking_uri"] == f"sqlite:///{workspace}/mlflow.db"

    assert run.data.params == flat(PARAMS)
    assert run.data.metrics["test/forces/rmse"] == 0.03
    assert "test/forces/r2" not in run.data.metrics
    curve = client.get_metric_history(run.info.run_id, "valid_loss")
    assert sorted((one.step, one.value) for one in curve) == [(epoch, 2 / epoch) for epoch in range(1, 701)]

    assert run.data.tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert run.data.tags["git.dirty"] == "false"
    assert run.data.tags["dvc.artifacts/train/model"] == "abc.dir"
    assert "dvc.artifacts/record/run.json" not in run.data.tags
    assert "700 epochs" in run.data.tags["mlflow.note.content"]

    inputs = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert set(inputs) == {f"structures.db/{split}" for split in ("train", "valid", "test")}
    train = inputs["structures.db/train"]
    assert [(tag.key, tag.value) for tag in train.tags] == [("mlflow.data.context", "train")]
    assert json.loads(train.dataset.profile) == {
        "n_structures": 8,
        "digest": "0123456789abcdef" * 4,
        "rows": ROWS,
        "splits": {"train": 8, "valid": 2, "test": 2, "held_out": 0},
        "species": {"O": 8},
        "config_types": {"melt": 7, "bulk": 1},
    }
    hashes = {"/data/a.xyz": "a" * 64, "/data/b.xyz": "b" * 64}
    assert json.loads(train.dataset.source) == {
        "uri": "artifacts/label/structures.db",
        "files": [{"file": name, "sha256": digest} for name, digest in hashes.items()],
    }
    listed = "".join(f"{digest}  {Path(name).name}\n" for name, digest in hashes.items())
    assert train.dataset.digest == hashlib.sha256(listed.encode()).hexdigest()[:36]

    place = workspace / "mlartifacts" / run.info.run_id / "artifacts"
    files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    models = {"model/model.json", "model/model.safetensors"}
    shown = {"plots/parity_forces.png", "graph.md", "summary.txt", "data_card.html"}
    assert files == models | shown | {"made_from/dvc.lock", "made_from/params.yaml"}
    assert (place / "summary.txt").read_text(encoding="utf-8").startswith("data    12 structures")
    page = (place / "data_card.html").read_text(encoding="utf-8")
    assert page == Path("artifacts/record/data_card.html").read_text(encoding="utf-8")
    assert "<h1>Data card: structures.db</h1>" in page
    assert "Components of the forces" in page


def test_a_second_run_joins_the_experiment_and_sees_changed_code(workspace: Path) -> None:
    record.STEP.run(PARAMS)
    (workspace / "new_network.py").write_text("", encoding="utf-8")
    params.write({**PARAMS, "hardware": {}})
    record.STEP.run({**PARAMS, "tracking": {"experiment": "trial", "run_name": None}})
    client, run = recorded()
    assert run.data.tags["git.dirty"] == "true"
    assert run.info.run_name
    runs = client.search_runs([run.info.experiment_id], run_view_type=ViewType.ALL)
    assert len(runs) == 2


def test_outside_git_and_dvc_there_are_no_such_tags(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(workspace / ".git")
    (workspace / "dvc.lock").unlink()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.parent))
    record.STEP.run(PARAMS)
    tags = recorded()[1].data.tags
    assert not [name for name in tags if name.startswith(("git.", "dvc.", "mlflow.source.git"))]


@pytest.mark.parametrize(
    "missing",
    [
        "load/summary.json",
        "load/card.json",
        "train/history.csv",
        "train/model",
        "evaluate/metrics.json",
        "evaluate/plots",
    ],
)
def test_a_missing_file_is_named_and_nothing_is_recorded(workspace: Path, missing: str) -> None:
    path = workspace / "artifacts" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=f"artifacts/{missing} does not exist: run the step"):
        record.STEP.run(PARAMS)
    assert not (workspace / "artifacts/record/run.json").exists()
    assert not (workspace / "mlflow.db").exists()


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "uri", ["http://me:geheim@127.0.0.1:{port}", "bogus://here", "sqlite:////dev/null/x/mlflow.db"]
)
def test_a_tracker_that_is_not_there_is_told_in_one_line(
    uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TAKEN, uri.format(port=_closed_port()))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(tracking.TrackingDownError) as caught:
        record.STEP.run(PARAMS)
    told = str(caught.value)
    assert "MLFLOW_TRACKING_URI" in told
    assert "then start the run again" in told
    assert "\n" not in told
    assert "geheim" not in told
    assert capfd.readouterr().err == ""
    assert not Path("artifacts/record/run.json").exists()


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), AttributeError("x")])
def test_a_mistake_of_ours_is_not_laid_to_the_tracker(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> None:
        raise error

    monkeypatch.setattr(tracking, "_fill", fill)
    with pytest.raises(type(error)) as caught:
        record.STEP.run(PARAMS)
    assert caught.value is error


@pytest.mark.parametrize("name", [None, ""])
def test_an_experiment_without_a_name_is_told(name: str | None) -> None:
    params.write({**PARAMS, "tracking": {"experiment": name, "run_name": None}})
    with pytest.raises(ValueError, match=r"tracking\.experiment is (null|empty), expected the name"):
        params.read()


def test_a_run_that_breaks_off_is_marked_as_failed(workspace: Path) -> None:
    finished = Finished("trial", None, {"a": 1}, history=[], metrics={}, files={"model": workspace / "nowhere"})
    with pytest.raises(OSError, match="nowhere"):
        tracking.log(finished)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(tracking.address())
    (experiment,) = [one for one in client.search_experiments() if one.name == "trial"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def test_a_deleted_experiment_is_told() -> None:
    record.STEP.run(PARAMS)
    client, run = recorded()
    client.delete_experiment(run.info.experiment_id)
    with pytest.raises(
        ValueError, match=r"'trial' was deleted: restore it there, or give another tracking\.experiment"
    ):
        record.STEP.run(PARAMS)


def test_an_experiment_made_by_a_server_over_the_same_store_takes_runs_without_it(workspace: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MlflowClient(tracking.address()).create_experiment("trial", artifact_location="mlflow-artifacts:/7")
    record.STEP.run(PARAMS)
    run_id = read_json("artifacts/record/run.json")["run_id"]
    assert (workspace / "mlartifacts" / "7" / run_id / "artifacts" / "model" / "model.json").is_file()


def test_many_of_everything_goes_in(workspace: Path) -> None:
    files = [("/" + "long/" * 400 + f"{at}.xyz", "a" * 64) for at in range(300)]
    data = [DataSet("d", split, "x" * 64, "s", {"n": 1}, files) for split in ("train", "test")]
    many = {f"p{i}": "v" * 7000 for i in range(230)}
    run_id = tracking.log(Finished("trial", None, many, [], {f"m{i}": 1.0 for i in range(1500)}, data, {"t": "x"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = MlflowClient(tracking.address()).get_run(run_id)
    assert len(run.data.params) == 230
    assert len(run.data.metrics) == 1500
    source = json.loads(run.inputs.dataset_inputs[0].dataset.source)
    assert [(one["file"], one["sha256"]) for one in source["files"]] == files[: len(source["files"])]
    assert len(source["files"]) + source["more"] == 300


def test_one_file_gives_its_own_hash_and_none_the_columns(workspace: Path) -> None:
    for files, digest in (
        (CARD["files"][:1], "a" * 36),
        ([{**CARD["files"][0], "sha256": None}], "0123456789abcdef" * 4),
    ):
        write_json(workspace / "artifacts/load/card.json", CARD | {"files": files})
        record.STEP.run(PARAMS)
        assert {one.dataset.digest for one in recorded()[1].inputs.dataset_inputs} == {digest[:36]}


def test_flat_names_and_public_addresses() -> None:
    assert flat({"a": {"b": None, "c": [1, 2], "d": {}}, "e": [{"f": "x"}], "g": True, "h": 1e-6}) == {
        "a.b": "null",
        "a.c": "[1, 2]",
        "a.d": "{}",
        "e.0.f": "x",
        "g": "true",
        "h": "1e-06",
    }
    assert public("http://me:secret@host:5000/x") == "http://host:5000/x"
    assert public("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_only_what_the_run_is_made_of_makes_it_recorded_again() -> None:
    assert "hardware" not in record.STEP.params
    assert "tracking" in record.STEP.params
    assert record.STEP.retries == 2
