"""The verbs as people type them: real processes for the exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forcefoundry.files import DiskFullError, write_json
from pipeline import __main__ as door
from pipeline import params
from pipeline.environment import OUR_LOGGERS
from pipeline.lifetime import one_run_at_a_time
from pipeline.step import Step
from pipeline.versioning import StepFailedError

ROOT = Path(__file__).parents[2]
NAMES = ["label", "load", "precompute_pairs", "assemble", "train", "evaluate", "record"]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCEFOUNDRY_TRACEBACK", raising=False)
    for name in ("PREFECT_HOME", "MLFLOW_TRACKING_URI"):  # set by the door for its own process; not to outlive a test
        monkeypatch.setenv(name, str(tmp_path / name))
    yield tmp_path
    for name in OUR_LOGGERS:  # the door's handler writes to the terminal of this test alone
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)


def typed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline WORDS` in the current directory, as a process of its own."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, capture_output=True, text=True, env=given, check=False, timeout=120)


def failing(error: BaseException) -> Callable[[Mapping[str, Any]], None]:
    def run(_: Mapping[str, Any]) -> None:
        raise error

    return run


def test_bare_lists_the_verbs_and_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert door.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name}" in shown for name in [*door.VERBS, *NAMES])
    assert shown.index("  label") < shown.index("  train") < shown.index("  record")


def test_a_typed_command_writes_params_and_tells_whether_anything_changed() -> None:
    first, second = typed("params", "training.max_epochs=20"), typed("params", "training.max_epochs=20")
    assert (first.returncode, first.stdout, first.stderr) == (0, "params.yaml written\n", "")
    assert (second.returncode, second.stdout, second.stderr) == (0, "params.yaml says the same already\n", "")
    assert params.read()["training"]["max_epochs"] == 20


@pytest.mark.parametrize("verb", ["run", "params"])
def test_a_mistyped_key_is_one_line_and_leaves_params_alone(verb: str) -> None:
    said = typed(verb, "training.max_epoch=3")
    told = "forcefoundry: training.max_epoch is not a parameter. Did you mean training.max_epochs?\n"
    assert (said.returncode, said.stdout, said.stderr) == (2, "", told)
    assert not Path("params.yaml").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "There is no verb 'trian'. Did you mean train?"),
        (["rnu"], "There is no verb 'rnu'. Did you mean run?"),
        (["xyzzy"], "There is no verb 'xyzzy'. Known are run, retrain, params,"),
        (["train", "training.max_epochs=3"], "first `python -m pipeline params training.max_epochs=3`"),
        (["run", "--config-dri", "x"], "python -m pipeline run: unrecognized arguments: --config-dri"),
        (["params", "--config-dir", "nowhere"], "nowhere is not a folder"),
        (["summary", "twice"], "python -m pipeline summary: unrecognized arguments: twice"),
        (["summary"], "There is nothing to show in"),
        (["train"], "There is no params.yaml in"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.main(words) in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("forcefoundry: ")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_options_may_stand_between_the_words(tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntraining: {seed: 5}\n", encoding="utf-8"
    )
    assert door.main(["params", "experiment=mine", "--config-dir", "mine", "training.max_epochs=2"]) == 0
    assert (params.read()["training"]["seed"], params.read()["training"]["max_epochs"]) == (5, 2)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("row 7:\n  NaN"), 2, "forcefoundry: row 7: NaN\n"),
        (FileNotFoundError("x.db does not exist"), 1, "forcefoundry: x.db does not exist\n"),
        (DiskFullError(28, "The disk is full"), 1, "forcefoundry: [Errno 28] The disk is full\n"),
        (StepFailedError("Step 'train' failed"), 1, "forcefoundry: Step 'train' failed\n"),
        (KeyboardInterrupt("epoch 3 is kept"), 130, "forcefoundry: epoch 3 is kept\n"),
        (KeyboardInterrupt(""), 130, "forcefoundry: interrupted; the same command goes on from what is complete.\n"),
        (KeyboardInterrupt(), 130, "forcefoundry: interrupted; the same command goes on from what is complete.\n"),
    ],
)
def test_what_a_step_raises_becomes_one_line_and_a_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params.write(params.compose())
    monkeypatch.setattr(door, "STEPS", (Step("train", failing(error)),))
    assert door.main(["train"]) == code
    assert capsys.readouterr().err == told
    monkeypatch.setenv("FORCEFOUNDRY_TRACEBACK", "1")
    with pytest.raises(type(error)):
        door.main(["train"])


@pytest.mark.parametrize("error", [KeyError("ours"), TypeError("a\n b"), RuntimeError("x"), AttributeError("y")])
def test_a_mistake_of_ours_is_told_as_ours_and_keeps_its_traceback_for_who_asks(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params.write(params.compose())
    monkeypatch.setattr(door, "STEPS", (Step("train", failing(error)),))
    assert door.main(["train"]) == 3
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    told = f"this is a mistake of the program, not yours: {what} (set FORCEFOUNDRY_TRACEBACK=1 to see where)"
    assert capsys.readouterr().err == f"forcefoundry: {told}\n"
    monkeypatch.setenv("FORCEFOUNDRY_TRACEBACK", "1")
    with pytest.raises(type(error)):
        door.main(["train"])


def test_a_workspace_in_which_a_run_is_under_way_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params.write(params.compose())
    before = params.PARAMS.read_bytes()
    got: list[Mapping[str, Any]] = []
    monkeypatch.setattr(door, "STEPS", (Step("load", got.append),))
    monkeypatch.setattr(door, "die_with_parent", lambda: None)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with one_run_at_a_time():
        for words in (["params", "training.seed=3"], ["load"]):
            assert door.main(words) == 2
            said = capsys.readouterr().err
            assert f"A run (process {os.getpid()}) is under way" in said
            assert f"end it with `kill {os.getpid()}`" in said
            assert said.count("\n") == 1
        assert not got
        assert params.PARAMS.read_bytes() == before
        monkeypatch.setenv("DVC_STAGE", "load")  # as DVC starts it, inside the run
        assert door.main(["load"]) == 0
    monkeypatch.delenv("DVC_STAGE")
    assert door.main(["params", "training.seed=3"]) == door.main(["load"]) == 0
    assert [one["training"]["seed"] for one in got] == [0, 3]


def test_a_step_gets_the_parameters_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    params.write(params.compose(["pairs.cutoff=4.5"]))
    got: list[Mapping[str, Any]] = []
    monkeypatch.setattr(door, "STEPS", (Step("load", got.append),))
    assert door.main(["load"]) == 0
    assert got == [params.read()]


@pytest.mark.parametrize(
    ("done", "last"),
    [
        ({"ran": ["train"], "restored": [], "skipped": ["load"]}, "review  "),
        ({"ran": [], "restored": [], "skipped": NAMES}, "nothing changed: nothing was recomputed (7 steps up to date)"),
        (
            {"ran": [], "restored": NAMES[3:], "skipped": NAMES[:3]},
            "nothing was recomputed (3 steps up to date, 4 put back from an earlier run)",
        ),
    ],
)
def test_run_ends_with_the_table(
    done: dict[str, Any], last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline import flows

    write_json("artifacts/record/run.json", {"run_id": "r1", "experiment": "e", "tracking_uri": "u"})
    asked: list[Any] = []
    monkeypatch.setattr(flows, "run", lambda *words, again: asked.append((*words, again)) or done)
    assert door.main(["run", "training.max_epochs=1"]) == 0
    assert asked == [(["training.max_epochs=1"], None, False)]
    assert capsys.readouterr().out.splitlines()[-1].startswith(last)


def test_retrain_ends_with_the_table_or_says_that_nothing_changed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline import flows

    write_json("artifacts/record/run.json", {"run_id": "r1", "experiment": "e", "tracking_uri": "u"})
    done: dict[str, Any] = {"ran": ["train"], "restored": [], "skipped": NAMES[:4]}
    asked: list[Any] = []
    monkeypatch.setattr(flows, "run", lambda *words, again: asked.append((*words, again)) or done)
    (workspace / "mine").mkdir()
    assert door.main(["retrain", "training.max_epochs=1", "--config-dir", "mine"]) == 0
    assert asked == [(["training.max_epochs=1"], str(workspace / "mine"), True)]
    assert capsys.readouterr().out.splitlines()[-1].startswith("review  ")
    done.update(ran=[], skipped=NAMES)
    assert door.main(["retrain"]) == 0
    assert capsys.readouterr().out == "nothing changed: nothing was recomputed (7 steps up to date)\n"
    assert door.main(["retrain", "training.max_epoch=1"]) == 2
    assert "Did you mean training.max_epochs?" in capsys.readouterr().err


def test_summary_and_render_do_what_they_say(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json("artifacts/record/run.json", {"run_id": "r1", "experiment": "e", "tracking_uri": "u"})
    assert door.main(["summary"]) == 0
    assert capsys.readouterr().out == "review  MLflow experiment e, run r1   make ui\n"
    assert door.main(["render"]) == 0
    assert "python -m pipeline record" in (workspace / "dvc.yaml").read_text(encoding="utf-8")


def test_ui_says_which_port_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_PORT", "many")
    assert door.main(["ui"]) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MLFLOW_PORT", str(port))
        assert door.main(["ui"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "forcefoundry: MLFLOW_PORT is 'many': give a port number, for instance MLFLOW_PORT=5001."
    assert said[1] == f"forcefoundry: Port {port} is taken on this machine: give another one, MLFLOW_PORT={port + 1}."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_PORT", "5001")
    assert door.main(["ui"]) == 0
    assert "MLflow runs already at http://127.0.0.1:9" in capsys.readouterr().out
