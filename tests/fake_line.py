"""A line of three tiny steps in a workspace of its own: the real edge around work that takes no time.

`first` reads an external file, `second` can be told to sleep and counts as the GPU's step, `third` may be tried twice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
EDGE = ("__init__", "environment", "lifetime", "rendering", "services", "serve", "step", "versioning")

STEPS = """
import json, os, sys, time
from pathlib import Path
from pipeline.step import Step

OUT = Path("artifacts")

def _write(path, text):
    (OUT / path).parent.mkdir(parents=True, exist_ok=True)
    (OUT / path).write_text(text)

def first(params):
    if params["first"]["fail"]:
        raise ValueError("the first step cannot read what it was given")
    _write("first/a.txt", Path(params["first"]["path"]).read_text() + str(params["first"]["x"]))

def second(params):
    print(f"second begins: {os.getpid()}", file=sys.stderr, flush=True)
    time.sleep(params["second"]["sleep"])
    _write("second/metrics.json", json.dumps({"mae": len((OUT / "first/a.txt").read_text())}))

def third(params):
    tries = Path(".forcefoundry/tries")
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if params["third"]["fail_once"] and len(tries.read_text()) == 1:
        raise ValueError("the third step found the tracker away")
    _write("third/history.csv", "epoch,loss\\n1,2\\n2,1\\n")

METRICS, HISTORY = "artifacts/second/metrics.json", "artifacts/third/history.csv"

STEPS = (
    Step("first", first, deps=("${first.path}",), params=("first",), outs=("artifacts/first",)),
    Step("second", second, deps=("artifacts/first",), params=("second",), metrics=(METRICS,), gpu=True),
    Step("third", third, deps=(METRICS,), params=("third",), plots=(HISTORY,), retries=1),
)
"""

PARAMS = '''
import yaml
from pathlib import Path

DEFAULT = """
first: {x: 1, fail: false, path: data.txt, nothing: null}
second: {sleep: 0}
third: {fail_once: false}
hardware: {device: auto}
"""

def compose(overrides=(), config_dir=None):
    params = yaml.safe_load(DEFAULT)
    for one in overrides:
        key, value = one.split("=")
        section, name = key.split(".")
        params[section][name] = yaml.safe_load(value)
    return params

def write(params, path=Path("params.yaml")):
    text = yaml.safe_dump(params)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)

def read(path=Path("params.yaml")):
    return yaml.safe_load(path.read_text())
'''

DOOR = """
import json, sys
from pipeline import environment
environment.prepare()
environment.log_to_terminal()
from pipeline import params
from pipeline.lifetime import die_with_parent
from pipeline.steps import STEPS

def main(verb, words):
    steps = {step.name: step for step in STEPS}
    if verb in steps:
        die_with_parent()
        steps[verb].run(params.read())
    else:
        from pipeline.flows import run
        print(json.dumps(run(words, again=verb == "retrain")))

try:
    main(sys.argv[1], sys.argv[2:])
except KeyboardInterrupt:
    sys.exit(130)
except (ValueError, RuntimeError, OSError) as error:
    print(f"said: {error}", file=sys.stderr)
    sys.exit(1)
"""


def make(root: Path) -> Path:
    """Lay out the workspace in `root`: code, parameters, dvc.yaml, and one commit."""
    package = root / "pipeline"
    (package / "steps").mkdir(parents=True)
    for name in EDGE:
        shutil.copy(ROOT / "pipeline" / f"{name}.py", package)
    shutil.copytree(ROOT / "pipeline" / "flows", package / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {"steps/__init__": STEPS, "params": PARAMS, "__main__": DOOR}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root)
    (root / "data.txt").write_text("some data", encoding="utf-8")
    python(
        root,
        "from pathlib import Path; from pipeline import params; from pipeline.rendering import render;"
        "from pipeline.steps import STEPS; params.write(params.compose()); Path('dvc.yaml').write_text(render(STEPS))",
    )
    commit(root)
    return root


def commit(root: Path) -> None:
    """Put all of `root` under git."""
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *words], cwd=root, check=True)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what a workspace sets for itself, `.venv/bin` first on PATH."""
    own = ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", **more}


def python(root: Path, code: str, env: Mapping[str, str] | None = None) -> str:
    """What `code` prints, run in `root` by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=env or environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(root: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline WORDS` in `root`, to its end."""
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=root, env=environment(**more), capture_output=True, text=True, check=False)


def start(root: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """`python -m pipeline WORDS` in `root`, in a process group of its own; its stderr is a pipe."""
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def dvc(root: Path, *words: str) -> str:
    """What `dvc WORDS` prints in `root`."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
