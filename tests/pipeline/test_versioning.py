"""DVC behind its door: what has changed, doing it, and the books that stay the same whichever way it is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline import versioning
from pipeline.lifetime import WorkspaceBusyError, one_run_at_a_time
from pipeline.rendering import render
from pipeline.step import Step
from tests import fake_line

NAMES = ("first", "second", "third")


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh workspace, and this process in it."""
    fake_line.make(tmp_path)
    (tmp_path / ".forcefoundry").mkdir()
    monkeypatch.chdir(tmp_path)
    # Whoever calls from outside the virtual environment still gets its python.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def do_all() -> list[versioning.Outcome]:
    return [versioning.reproduce(name) for name in NAMES]


def set_parameter(line: Path, section: str, key: str, value: object) -> None:
    params = yaml.safe_load((line / "params.yaml").read_text())
    params[section][key] = value
    (line / "params.yaml").write_text(yaml.safe_dump(params))


def nothing(_: object) -> None:
    """Stand in for a step's work."""


def test_rendered_text_says_all_that_the_step_says_and_nothing_twice() -> None:
    step = Step(
        "judge",
        nothing,
        deps=("in.npy", "${database.path}"),
        params=("network", "pairs.cutoff"),
        outs=("out",),
        metrics=("metrics.json",),
        plots=("history.csv", "pictures"),
    )
    text = render([step, Step("bare", nothing, outs=("x",))])
    assert text.startswith("# Rendered by `python -m pipeline render`")
    stages = yaml.safe_load(text)["stages"]
    assert list(stages) == ["judge", "bare"]
    assert stages["bare"] == {"cmd": "python -m pipeline bare", "outs": ["x"]}
    assert stages["judge"] == {
        "cmd": "python -m pipeline judge",
        "deps": ["in.npy", "${database.path}"],
        "params": ["network", "pairs.cutoff"],
        "outs": ["out"],
        "metrics": ["metrics.json"],
        "plots": [{"history.csv": {"x": "epoch"}}, "pictures"],
    }
    assert render([step]) == render([step])


def test_a_step_is_done_once(line: Path) -> None:
    assert versioning.pending() == NAMES
    assert all(outcome.ran for outcome in do_all())
    assert versioning.pending() == ()
    again = do_all()
    assert not any(outcome.ran or outcome.restored for outcome in again)
    lock = yaml.safe_load((line / "dvc.lock").read_text())
    assert again[1].hashes == {"artifacts/second/metrics.json": lock["stages"]["second"]["outs"][0]["md5"]}
    assert again[0].hashes["artifacts/first"].endswith(".dir")


def test_books_are_those_of_dvc_repro(line: Path) -> None:
    do_all()
    ours = (line / "dvc.lock").read_text()
    assert "up to date" in fake_line.dvc(line, "status")
    assert "Running" not in fake_line.dvc(line, "repro")
    (line / "dvc.lock").unlink()
    for name in ("artifacts", ".dvc/cache"):
        subprocess.run(["rm", "-rf", name], cwd=line, check=True)
    fake_line.dvc(line, "repro")
    assert (line / "dvc.lock").read_text() == ours
    assert versioning.pending() == ()


def test_only_what_a_change_reaches_is_done_again(line: Path) -> None:
    do_all()
    set_parameter(line, "second", "sleep", 0.01)
    assert versioning.pending() == ("second",)
    assert [outcome.ran for outcome in do_all()] == [False, True, False]
    set_parameter(line, "hardware", "device", "cpu")
    assert versioning.pending() == ()


def test_data_outside_the_workspace_is_watched_by_content(line: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("elsewhere") / "data.txt"
    data.write_text("theirs")
    set_parameter(line, "first", "path", str(data))
    do_all()
    assert versioning.pending() == ()
    os.utime(data)
    assert versioning.pending() == ()
    data.write_text("more of theirs")
    assert versioning.pending() == ("first",)


def test_earlier_results_are_put_back_and_nothing_runs(line: Path) -> None:
    before = do_all()
    set_parameter(line, "first", "x", 2)
    do_all()
    set_parameter(line, "first", "x", 1)
    back = do_all()
    assert not any(outcome.ran for outcome in back)
    assert back[0].restored
    assert [outcome.hashes for outcome in back] == [outcome.hashes for outcome in before]


def test_a_failing_step_is_one_line_and_leaves_the_books_alone(line: Path, capfd: pytest.CaptureFixture[str]) -> None:
    do_all()
    before = (line / "dvc.lock").read_text()
    set_parameter(line, "first", "fail", True)
    capfd.readouterr()
    with pytest.raises(versioning.StepFailedError, match=r"^Step 'first' failed \(exit code 1\); .*$") as caught:
        versioning.reproduce("first")
    assert "\n" not in str(caught.value)
    assert (line / "dvc.lock").read_text() == before
    shown = capfd.readouterr()
    assert shown.err == "said: the first step cannot read what it was given\n"
    assert shown.out == ""
    set_parameter(line, "first", "fail", False)
    assert versioning.reproduce("first").restored


def test_missing_data_is_told_with_its_parameter(line: Path) -> None:
    set_parameter(line, "first", "path", "/no/such/file")
    with pytest.raises(ValueError, match=r"reads /no/such/file, which does not exist\. .*first\.path=PATH"):
        versioning.reproduce("first")
    with pytest.raises(ValueError, match=r"'third' reads artifacts/second/metrics.json.* Run the step that writes it"):
        versioning.reproduce("third")


def test_a_folder_that_is_no_workspace_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"is no workspace: it has no folder \.dvc"):
        versioning.pending()


def test_works_in_a_fresh_clone(
    line: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path_factory.mktemp("clones") / "clone"
    subprocess.run(["git", "clone", "-q", str(line), str(clone)], check=True)
    (clone / ".forcefoundry").mkdir()
    monkeypatch.chdir(clone)
    assert all(outcome.ran for outcome in do_all())
    said = subprocess.run(["git", "status", "--short"], cwd=clone, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["??", "dvc.lock"]


def test_results_come_back_from_a_remote(line: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    do_all()
    fake_line.dvc(line, "remote", "add", "-q", "-d", "store", str(tmp_path_factory.mktemp("remote")))
    fake_line.dvc(line, "push", "-q")
    for name in ("artifacts", ".dvc/cache", ".dvc/tmp"):
        subprocess.run(["rm", "-rf", name], cwd=line, check=True)
    fake_line.dvc(line, "pull", "-q")
    assert versioning.pending() == ()


def test_metrics_plots_and_experiments_of_dvc_work(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "tester@localhost")
    do_all()
    fake_line.commit(line)
    fake_line.dvc(line, "exp", "run", "-S", "first.x=12345")
    assert yaml.safe_load((line / "params.yaml").read_text())["first"]["x"] == 12345
    assert versioning.pending() == ()
    difference = json.loads(fake_line.dvc(line, "metrics", "diff", "--json"))
    assert difference["artifacts/second/metrics.json"]["mae"] == {"old": 10, "new": 14, "diff": 4}
    assert "artifacts/third/history.csv" in json.loads(fake_line.dvc(line, "plots", "diff", "--json"))["data"]


def test_a_workspace_takes_one_run_at_a_time(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from pathlib import Path; from pipeline.lifetime import one_run_at_a_time\n"
            f"with one_run_at_a_time(Path({str(tmp_path)!r})):\n    print('held', flush=True); time.sleep(60)",
        ],
        cwd=fake_line.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(WorkspaceBusyError, match=rf"process {holder.pid}\b.*one at a time"),
            one_run_at_a_time(tmp_path),
        ):
            pass
        holder.kill()
    with one_run_at_a_time(tmp_path):
        pass


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_step_dies_with_the_dvc_that_started_it(line: Path, shell: str, by_dvc: bool) -> None:
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    set_parameter(line, "second", "sleep", 60)
    versioning.reproduce("first")
    environment = fake_line.environment(SHELL=shell)
    code = "from pipeline import versioning; versioning.reproduce('second')"
    command = ["-m", "dvc", "repro", "-s", "second"] if by_dvc else ["-c", code]
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=line,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stderr is not None
        begun = next(text for text in starter.stderr if "second begins" in text)
        step = psutil.Process(int(begun.split()[-1]))
        time.sleep(0.2)
        starter.kill()
    _, alive = psutil.wait_procs([step], timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
