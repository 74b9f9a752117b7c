"""The flows as processes of their own, around three tiny steps: what they say, what they leave, how they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import fake_line

NAMES = ["first", "second", "third"]
LOUD = ("warning", "error", "traceback", "prefect")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One workspace for all: the first start of a server makes its database, which takes seconds."""
    return fake_line.make(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server for the tests that are not about the ephemeral one, which takes seconds to start each time."""
    code = (
        "import os, sys; from pipeline.flows.server import have_server\n"
        "with have_server():\n    print(os.environ['PREFECT_API_URL'], flush=True); sys.stdin.read()"
    )
    home = str(tmp_path_factory.mktemp("prefect"))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=fake_line.ROOT,
        env=fake_line.environment(PREFECT_HOME=home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield {"PREFECT_API_URL": process.stdout.readline().strip()}
        process.communicate()
    assert process.returncode == 0


@pytest.fixture(autouse=True)
def nothing_is_left(line: Path) -> Iterator[None]:
    yield
    assert [process.cmdline() for process in of_workspace(line)] == []


def of_workspace(line: Path) -> list[psutil.Process]:
    """The processes that work in `line`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(line) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def until_second_begins(run: subprocess.Popen[str]) -> None:
    assert run.stderr is not None
    assert any("second begins" in text for text in run.stderr)
    time.sleep(0.3)


def rest_of(run: subprocess.Popen[str]) -> str:
    said = run.communicate(timeout=60)[1]
    assert isinstance(said, str)
    return said


def test_first_run_does_all_and_the_second_nothing(line: Path) -> None:
    done = fake_line.run(line, "run", "first.x=10")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["ran"], result["skipped"]) == (NAMES, [])
    assert result["hashes"].keys() == {
        "artifacts/first",
        "artifacts/second/metrics.json",
        "artifacts/third/history.csv",
    }
    assert "second: no CUDA device here, so the CPU does it" in done.stderr or "GPU" in done.stderr
    assert "up to date" in fake_line.dvc(line, "status")

    again = fake_line.run(line, "run", "first.x=10")
    assert json.loads(again.stdout)["skipped"] == NAMES
    said = again.stderr.splitlines()
    assert said == ["first: kept", "second: kept", "third: kept", "nothing changed: nothing was recomputed"]


def test_after_dvc_repro_the_flow_has_nothing_to_do(line: Path, server: dict[str, str]) -> None:
    fake_line.python(line, "from pipeline import params; params.write(params.compose(['first.x=11']))")
    fake_line.dvc(line, "repro")
    done = fake_line.run(line, "run", "first.x=11", **server)
    assert json.loads(done.stdout)["ran"] == []
    assert "nothing was recomputed" in done.stderr


def test_without_a_network_nothing_complains(line: Path) -> None:
    alone = ["unshare", "--net", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a process be cut off from the network")
    up = (
        "import fcntl, os, socket, struct, sys\n"
        "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x41))\n"  # SIOCSIFFLAGS: the loopback up
        "os.execv(sys.executable, [sys.executable, '-m', 'pipeline', 'run', 'first.x=12'])"
    )
    command = [*alone, sys.executable, "-c", up]
    done = subprocess.run(command, cwd=line, env=fake_line.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "first" in json.loads(done.stdout)["ran"]
    assert not [word for word in LOUD if word in done.stderr.lower()], done.stderr


def test_a_failing_step_ends_the_run_in_words(line: Path, server: dict[str, str]) -> None:
    done = fake_line.run(line, "run", "first.fail=true", **server)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[0] == "first: starts"
    assert said[1] == "said: the first step cannot read what it was given"
    assert said[2].startswith("said: Step 'first' failed (exit code 1)")
    assert len(said) == 3  # no traceback, and no second try where trying again cannot help


def test_a_step_that_may_be_tried_again_is(line: Path, server: dict[str, str]) -> None:
    (line / ".forcefoundry/tries").unlink(missing_ok=True)
    done = fake_line.run(line, "run", "first.x=13", "third.fail_once=true", **server)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ran"] == NAMES
    assert done.stderr.count("the third step found the tracker away") == 1


def test_retrain_ends_at_once_unless_the_data_changed(line: Path, server: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("theirs")
    words = ("retrain", f"first.path={data}")
    first = fake_line.run(line, *words, **server)
    assert "changed: first" in first.stderr
    assert json.loads(first.stdout)["ran"] == NAMES
    second = fake_line.run(line, *words, **server)
    assert second.stderr == "nothing changed since the last training: nothing was recomputed\n"
    assert json.loads(second.stdout)["ran"] == []
    data.write_text("theirs, grown")
    third = fake_line.run(line, *words, **server)
    assert "changed: first" in third.stderr
    assert json.loads(third.stdout)["ran"] == NAMES


@pytest.mark.parametrize("to_all", [True, False], ids=["as a terminal does", "to the run alone"])
def test_interrupt_ends_everything_and_harms_nothing(line: Path, server: dict[str, str], to_all: bool) -> None:
    words = ("run", "first.x=14", f"second.sleep={60 + to_all}")
    run = fake_line.start(line, *words, **({} if to_all else server))
    until_second_begins(run)

    refused = fake_line.run(line, "run", "first.x=99", **server)
    assert refused.returncode == 1
    assert f"A run (process {run.pid}) is under way" in refused.stderr

    begun = time.monotonic()
    (os.killpg if to_all else os.kill)(run.pid, signal.SIGINT)
    said = rest_of(run)
    assert run.returncode == 130
    assert time.monotonic() - begun < 15
    assert not [word for word in LOUD if word in said.lower()], said
    held = json.loads((line / ".dvc/tmp/rwlock").read_text())
    assert not [by for by in held.get("write", {}).values() if by["pid"] == run.pid]

    after = fake_line.run(line, "run", "first.x=14", f"second.sleep=0.0{1 + to_all}", **server)
    assert after.returncode == 0, after.stderr
    assert json.loads(after.stdout)["ran"][0] != "first"  # what was complete is kept


def test_terminate_ends_everything(line: Path, server: dict[str, str]) -> None:
    run = fake_line.start(line, "run", "first.x=15", "second.sleep=60", **server)
    until_second_begins(run)
    run.terminate()
    rest_of(run)
    assert run.returncode == 143


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_killed_run_takes_its_step_and_its_server_along(line: Path, server: dict[str, str], shell: str) -> None:
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    run = fake_line.start(line, "run", "first.x=16", "second.sleep=60", SHELL=shell)
    until_second_begins(run)
    family = of_workspace(line)
    assert len(family) >= 3  # the run, its server, its step
    run.kill()
    psutil.wait_procs(family, timeout=10)
    assert of_workspace(line) == []
    rest_of(run)
    after = fake_line.run(line, "run", "first.x=16", **server)
    assert after.returncode == 0, after.stderr


def test_the_gpu_is_asked_for_only_where_there_is_one_and_work_for_it(line: Path, server: dict[str, str]) -> None:
    code = (
        "import sys; sys.stderr = sys.stdout\n"
        "from pipeline import environment; environment.prepare(); environment.log_to_terminal()\n"
        "import pipeline.flows.gpu as gpu; gpu.cuda_is_here = lambda: True\n"
        "from pipeline.flows import run\n"
        "for words in (['first.x=1717'], ['first.x=1717'], ['first.x=18181', 'hardware.device=cpu']):\n"
        "    print('----'); run(words)\n"
        "from prefect.client.orchestration import get_client\n"
        "with get_client(sync_client=True) as client:\n"
        "    limit = client.read_global_concurrency_limit_by_name('gpu')\n"
        "    print('----'); print(limit.limit, limit.active_slots)\n"
    )
    _, first, second, third, limit = fake_line.python(line, code, fake_line.environment(**server)).split("----\n")
    assert "second: waits for its turn on the GPU" in first
    assert "second: on the GPU" in first
    assert "GPU" not in second
    assert "second: on the CPU, as hardware.device asks" in third
    assert limit.split() == ["1", "0"]
