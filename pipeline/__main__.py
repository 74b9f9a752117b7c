"""`python -m pipeline VERB`: what DVC calls for each step, and the verbs that people type."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline import environment, params, summary
from pipeline.lifetime import die_with_parent, one_run_at_a_time
from pipeline.step import Step
from pipeline.steps import STEPS
from pipeline.values import did_you_mean
from pipeline.versioning import StepFailedError

VERBS = {
    "run": "do the whole job: run [GROUP=OPTION] [KEY=VALUE ...] [--config-dir DIR]",
    "retrain": "the same if the data, the parameters or the code changed since the last run",
    "params": "only compose params.yaml, with the same words as run",
    "summary": "print the table of what was reached last",
    "inspect": "look at a file before anything is configured: inspect FILE [PROPERTY=KEY ...] [--write NAME]",
    "quarantine": "rows that were set apart: quarantine list|show|accept|reject|undo|export",
    "pairs": "look after the pair cache: pairs verify|stats|repair|gc|archive",
    "ui": "open the MLflow page (MLFLOW_PORT, default 5000)",
    "serve": "start a Prefect server, a worker and MLflow on this machine",
    "stop": "end what serve started",
    "render": "write dvc.yaml anew from the steps",
}
_TRACEBACK = "FORCEFOUNDRY_TRACEBACK"
_QUIET_SERVER = {
    "PYTHONWARNINGS": "ignore",  # MLflow's own use of its libraries warns; nobody here can act on it
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for what nothing here uses, slow to end
}


def main(words: Sequence[str] | None = None) -> int:
    """Do one verb and give the exit code.

    0, 1 (failed), 2 (asked for something impossible), 3 (a mistake of this program) or 130 (interrupted).
    """
    words = sys.argv[1:] if words is None else list(words)
    try:
        environment.prepare()
        return _do(words)
    except KeyboardInterrupt as error:
        return _complain(str(error) or "interrupted; the same command goes on from what is complete.", 130)
    except ValueError as error:
        return _complain(error, 2)
    except (OSError, StepFailedError) as error:
        return _complain(error, 1)
    except Exception as error:
        told = f"this is a mistake of the program, not yours: {type(error).__name__}: {error}"
        return _complain(f"{told} (set {_TRACEBACK}=1 to see where)", 3)


def _do(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    verb, rest = words[0], words[1:]
    steps = {step.name: step for step in STEPS}
    if verb in steps:
        return _step(steps[verb], rest)
    if verb not in VERBS:
        raise ValueError(f"There is no verb {verb!r}. {did_you_mean(verb, [*VERBS, *steps])}")
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "run": _run,
        "retrain": _retrain,
        "params": _params,
        "summary": _summary,
        "inspect": _inspect,
        "quarantine": _quarantine,
        "pairs": _pairs,
        "ui": _ui,
        "serve": _serve,
        "stop": _stop,
        "render": _render,
    }
    return verbs[verb](rest)


def _help() -> str:
    lines = ["python -m pipeline VERB", "", *(f"  {verb:<18}{what}" for verb, what in VERBS.items()), ""]
    lines += ["one step alone, on params.yaml as it stands:", *(f"  {step.name}" for step in STEPS)]
    return "\n".join(lines)


def _step(step: Step, rest: Sequence[str]) -> int:
    if rest:
        words = " ".join(rest)
        raise ValueError(f"A step reads params.yaml and takes no words: first `python -m pipeline params {words}`.")
    die_with_parent()
    environment.log_to_terminal()
    # A step that DVC starts belongs to a run, which holds the workspace already.
    with contextlib.nullcontext() if "DVC_STAGE" in os.environ else one_run_at_a_time():
        step.run(params.read())
    return 0


def _run(rest: Sequence[str]) -> int:
    done = _flow("run", rest)
    print(summary.table(Path()))
    if not done["ran"]:
        print(f"\n{_unchanged(done)}")
    return 0


def _retrain(rest: Sequence[str]) -> int:
    done = _flow("retrain", rest)
    if done["ran"] or done["restored"]:
        print(summary.table(Path()))
    if not done["ran"]:
        print(_unchanged(done))
    return 0


def _flow(verb: str, rest: Sequence[str]) -> dict[str, Any]:
    overrides, config_dir = _overrides(verb, rest)
    params.compose(overrides, config_dir)  # so that a mistyped word is told at once
    environment.log_to_terminal()
    from pipeline import flows  # Prefect, which takes its seconds to load

    return flows.run(overrides, config_dir, again=verb == "retrain")


def _unchanged(done: Mapping[str, Any]) -> str:
    what = f"{len(done['skipped'])} steps up to date"
    if done["restored"]:
        return f"nothing was recomputed ({what}, {len(done['restored'])} put back from an earlier run)"
    return f"nothing changed: nothing was recomputed ({what})"


def _params(rest: Sequence[str]) -> int:
    overrides, config_dir = _overrides("params", rest)
    composed = params.compose(overrides, config_dir)
    with one_run_at_a_time():  # a run reads params.yaml until it ends
        changed = params.write(composed)
    print(f"{params.PARAMS} {'written' if changed else 'says the same already'}")
    return 0


def _overrides(verb: str, rest: Sequence[str]) -> tuple[list[str], str | None]:
    parser = _Parser(prog=f"python -m pipeline {verb}", description=VERBS[verb])
    parser.add_argument("overrides", nargs="*", metavar="GROUP=OPTION or KEY=VALUE", help="as Hydra writes them")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of one's own configurations, laid out like conf/")
    given = parser.parse_intermixed_args(rest)
    # Absolute, so that a flow started elsewhere from the same words finds it.
    return given.overrides, given.config_dir and str(Path(given.config_dir).expanduser().absolute())


def _summary(rest: Sequence[str]) -> int:
    _Parser(prog="python -m pipeline summary").parse_args(rest)
    print(summary.table(Path()))
    return 0


def _inspect(rest: Sequence[str]) -> int:
    from pipeline import inspecting

    given = inspecting.add_arguments(_Parser(prog="python -m pipeline inspect", description=VERBS["inspect"]))
    environment.log_to_terminal()
    return inspecting.do(given.parse_intermixed_args(rest))


def _quarantine(rest: Sequence[str]) -> int:
    from pipeline import quarantine

    parser = _Parser(prog="python -m pipeline quarantine", description=VERBS["quarantine"])
    return quarantine.do(quarantine.add_arguments(parser).parse_args(rest))


def _pairs(rest: Sequence[str]) -> int:
    from pipeline import pairs

    given = pairs.add_arguments(_Parser(prog="python -m pipeline pairs", description=VERBS["pairs"])).parse_args(rest)
    environment.log_to_terminal()
    return pairs.do(given)


def _render(rest: Sequence[str]) -> int:
    from forcefoundry.files import written_whole
    from pipeline.rendering import render

    _Parser(prog="python -m pipeline render").parse_args(rest)
    with written_whole("dvc.yaml") as draft:
        draft.write_text(render(STEPS), encoding="utf-8")
    return 0


def _serve(rest: Sequence[str]) -> int:
    from pipeline.serve import serve

    _Parser(prog="python -m pipeline serve").parse_args(rest)
    serve()
    return 0


def _stop(rest: Sequence[str]) -> int:
    from pipeline.serve import stop

    _Parser(prog="python -m pipeline stop").parse_args(rest)
    stop()
    return 0


def _ui(rest: Sequence[str]) -> int:
    _Parser(prog="python -m pipeline ui").parse_args(rest)
    store, port = os.environ["MLFLOW_TRACKING_URI"], _port(os.environ.get("MLFLOW_PORT", "5000"))
    if store.startswith("http"):
        print(f"MLflow runs already at {store} (MLFLOW_TRACKING_URI)")
        return 0
    print(f"MLflow at http://127.0.0.1:{port} in some seconds (Ctrl-C ends it)", flush=True)
    for name, value in _QUIET_SERVER.items():
        os.environ.setdefault(name, value)
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", *command, "--backend-store-uri", store])


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"MLFLOW_PORT is {text!r}: give a port number, for instance MLFLOW_PORT=5001.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except OSError:
            told = f"Port {text} is taken on this machine: give another one, MLFLOW_PORT={int(text) + 1}."
            raise ValueError(told) from None
    return int(text)


def _complain(error: object, code: int) -> int:
    if os.environ.get(_TRACEBACK, "") not in ("", "0"):
        raise  # only called while an exception is handled
    print(f"forcefoundry: {' '.join(str(error).split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Complains in one line like everything else, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self.prog}: {message}.")


if __name__ == "__main__":
    sys.exit(main())
