"""MLflow's only door: a finished run, with all that a reviewer asks of it, into the store the environment names."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from forcefoundry.files import DiskFullError
from pipeline.values import flat

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

VARIABLE = "MLFLOW_TRACKING_URI"
_MOST_METRICS, _MOST_OTHERS, _LONGEST_VALUE, _LONGEST_DIGEST = 1000, 100, 6000, 36  # what MLflow takes at once
_MOST_FILES, _LONGEST_SOURCE = 100, 65_535  # named with their hashes in each split's source; bytes that it holds
_OURS = (TypeError, AttributeError, NameError, LookupError, ArithmeticError, AssertionError)  # mistakes of a program
_DEFAULTS = {
    # A tracker that is down is told in seconds: MLflow's own defaults wait for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class TrackingDownError(ConnectionError):
    """The MLflow store could not be reached or did not take the run."""


class DeletedExperimentError(ValueError):
    """The experiment lies in MLflow's bin, where no run can be added to it."""


@dataclass(frozen=True)
class DataSet:
    """One split as MLflow shows it.

    `source` is where the data came from, `files` are the files there with their sha256, `digest` is a hash of what
    came in, and `profile` what else is told of the split.
    """

    name: str
    split: str
    digest: str
    source: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Finished:
    """A finished run: `params` nested as in params.yaml, `history` one row an epoch (with the key "epoch"),
    `metrics` by name, `files` by the place that the file or folder has in the run."""

    experiment: str
    name: str | None
    params: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    metrics: Mapping[str, float]
    datasets: Sequence[DataSet] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def address() -> str:
    """Where runs are tracked: MLFLOW_TRACKING_URI, or mlflow.db in the current directory."""
    return os.environ.get(VARIABLE) or f"sqlite:///{Path('mlflow.db').resolve()}"


def public(uri: str) -> str:
    """`uri` without a name or password that it may carry, fit for messages and files."""
    host = urlsplit(uri).netloc
    return uri.replace(host, host.rpartition("@")[2], 1) if "@" in host else uri


def log(run: Finished) -> str:
    """Write `run` into the store and give its id. A run that could not be written whole is marked as failed.

    Raises:
        TrackingDownError: the store is not there, in one line that names MLFLOW_TRACKING_URI.
        DeletedExperimentError: the experiment has been deleted in MLflow.
    """
    with _told(address()), _quiet():
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        client = MlflowClient(address())
        run_id: str = client.create_run(_experiment(client, run.experiment), run_name=run.name).info.run_id
        try:
            _fill(client, run_id, run)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        return run_id


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=_beside_sqlite(address())))
    if found.lifecycle_stage != "active":
        raise DeletedExperimentError(
            f"The MLflow experiment {name!r} was deleted: restore it there, or give another tracking.experiment."
        )
    return str(found.experiment_id)


def _beside_sqlite(uri: str) -> str | None:
    # With a server the server decides; for a SQLite file MLflow would make ./mlruns, wherever one happens to stand.
    kind, _, file = uri.partition(":///")
    return (Path(file).resolve().parent / "mlartifacts").as_uri() if kind == "sqlite" else None


def _fill(client: MlflowClient, run_id: str, run: Finished) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    metrics = [
        Metric(name, float(value), now, int(row["epoch"]))
        for row in run.history
        for name, value in row.items()
        if name != "epoch"
    ]
    metrics += [Metric(name, float(value), now, 0) for name, value in run.metrics.items()]
    params = [Param(name, text[:_LONGEST_VALUE]) for name, text in flat(run.params).items()]
    tags = [RunTag(name, text) for name, text in run.tags.items()]
    # A call is a transaction: as much as MLflow takes in each.
    for start in range(0, len(metrics), _MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _MOST_METRICS])
    for start in range(0, max(len(params), len(tags)), _MOST_OTHERS):
        part = slice(start, start + _MOST_OTHERS)
        client.log_batch(run_id, params=params[part], tags=tags[part])
    client.log_inputs(run_id, [_input(one) for one in run.datasets])
    kept = _artifacts(client, run_id)
    for place, path in run.files.items():
        if path.is_dir():
            kept.log_artifacts(str(path), place)
        else:
            kept.log_artifact(str(path), place.rpartition("/")[0] or None)


def _input(data: DataSet) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about = Dataset(
        name=f"{data.name}/{data.split}",
        digest=data.digest[:_LONGEST_DIGEST],
        source_type="local",
        source=_source(data, _MOST_FILES),
        profile=json.dumps(data.profile, ensure_ascii=False),
    )
    return DatasetInput(about, [InputTag("mlflow.data.context", data.split)])


def _source(data: DataSet, most: int) -> str:
    """Where a split came from, with as many of its files as MLflow takes."""
    told: dict[str, Any] = {"uri": data.source}
    if data.files:
        told["files"] = [{"file": name, "sha256": digest} for name, digest in data.files[:most]]
        told |= {"more": len(data.files) - most} if len(data.files) > most else {}
    text = json.dumps(told)
    return text if len(text) <= _LONGEST_SOURCE or most == 1 else _source(data, most // 2)


def _artifacts(client: MlflowClient, run_id: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri: str = client.get_run(run_id).info.artifact_uri
    local = _beside_sqlite(address())
    if local and uri.startswith("mlflow-artifacts:"):
        # A server over this very SQLite file made the experiment, and keeps its files there; it need not run now.
        uri = f"{local}{urlsplit(uri).path}"
    return get_artifact_repository(uri, tracking_uri=address())


@contextmanager
def _quiet() -> Iterator[None]:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow's own use of SQLAlchemy and pydantic warns; nobody here can act on it.
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _told(uri: str) -> Iterator[None]:
    try:
        yield
    except (DeletedExperimentError, *_OURS):
        raise
    except Exception as error:
        code = getattr(error, "errno", None)
        if code == errno.ENOENT:
            raise  # a file of ours that was to be kept there
        if code in (errno.ENOSPC, errno.EDQUOT):
            place = getattr(error, "filename", None) or public(uri)
            told = (
                f"The disk is full: {place} could not be written and the run not recorded. Free some space, run again."
            )
            raise DiskFullError(code, told) from None
        reason = " ".join(str(_first(error)).split())[:200].replace(urlsplit(uri).password or "\0", "***")
        raise TrackingDownError(
            f"The run could not be recorded in MLflow at {public(uri)} ({reason}). Start it or set {VARIABLE} to "
            "one that runs (unset: mlflow.db in this folder), then start the run again: only this step is missing."
        ) from error


def _first(error: BaseException) -> BaseException:
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
