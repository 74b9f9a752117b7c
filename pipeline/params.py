"""Hydra's only door: conf/ and overrides in, one plain resolved dictionary out, kept in params.yaml."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from forcefoundry.files import written_whole
from pipeline.values import check, common, did_you_mean, held_to, may_be_null, missing, names, unknown

if TYPE_CHECKING:  # Hydra takes 0.4 s to import, and a step that only reads params.yaml never needs it.
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

CONF = Path("conf")
PARAMS = Path("params.yaml")
HEADER = "# Composed from conf/ by `python -m pipeline params`: change conf/ or give overrides; edits here get lost.\n"
_SETTLED = ("database", "pairs", "training", "hardware", "tracking")  # groups whose keys the steps read one by one
_FREE = frozenset({"database.keys"})  # any property that the rows carry
_lock = threading.Lock()  # Hydra keeps its state in one global of the process.


def compose(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> dict[str, Any]:
    """Resolve conf/ of the current directory, with `overrides` as Hydra writes them, into plain containers.

    `config_dir` is a folder of one's own with groups as in conf/ (network/mine.yaml, experiment/mine.yaml ...).
    ValueError, in one line, for an unknown key, group or option and for a value of the wrong kind;
    FileNotFoundError for a missing folder.
    """
    config_dir = None if config_dir is None else Path(config_dir)
    options = _options(config_dir)
    asked = _parsed(overrides)
    choosing = [one for one in asked if one.key_or_group in options and str(one.input_line) != "experiment=null"]
    setting = [one for one in asked if one.key_or_group not in options]
    for one in choosing:
        _check_option(one, options[one.key_or_group])
    with _lock:
        chosen = _composed(choosing, config_dir)
        experiment = chosen.hydra.runtime.choices.get("experiment")
        bare = _composed(_without_experiment(chosen, options), config_dir) if experiment else chosen
        shape = _with_own(_plain(bare), bare.hydra.runtime.choices, config_dir)
        for one in setting:
            _check_key(one, names(shape))
        full = _plain(_composed([*choosing, *setting], config_dir) if setting else chosen)
    added = {one.key_or_group for one in setting if one.is_add() or one.is_force_add()}
    full.setdefault("plots", [])
    params: dict[str, Any] = held_to(shape, full, "", added, f" (experiment {experiment} sets it)")
    _check_given(params)
    params["database"]["path"] = os.path.expanduser(params["database"]["path"])  # DVC, which watches it, knows no ~
    check(params)
    return params


def write(params: Mapping[str, Any], path: Path = PARAMS) -> bool:
    """Write `params` as YAML with sorted keys; True if the file changed, False if it said the same already."""
    text = HEADER + yaml.safe_dump(dict(params), sort_keys=True, allow_unicode=True, width=110)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return True


def read(path: Path = PARAMS) -> dict[str, Any]:
    """Read what `write` wrote, and what a person may have edited since.

    FileNotFoundError and ValueError name the file and the command that makes it anew.
    """
    remedy = "compose it with `python -m pipeline params`."
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no {path} in {Path.cwd()}: {remedy}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not readable as YAML ({_one_line(error)}): mend it, or {remedy}") from None
    if not isinstance(params, dict) or not isinstance(params.get("database"), dict):
        raise ValueError(f"{path} has no section 'database': {remedy}")
    check(params)
    return params


def _options(config_dir: Path | None) -> dict[str, list[str]]:
    # group -> its options, ours and one's own
    if not (CONF / "config.yaml").is_file():
        raise FileNotFoundError(f"There is no conf/config.yaml in {Path.cwd()}: start this from the repository's root.")
    if config_dir is not None and not config_dir.is_dir():
        raise FileNotFoundError(f"--config-dir {config_dir} is not a folder: give one that holds GROUP/NAME.yaml.")
    found: dict[str, list[str]] = {}
    for file in sorted(CONF.glob("*/**/*.yaml")):
        group, *name = file.relative_to(CONF).with_suffix("").parts
        found.setdefault(group, []).append("/".join(name))
    for file in sorted(config_dir.glob("*/*.yaml")) if config_dir else ():
        group = file.parent.name
        if file.stem in found.get(group, ()) and not file.samefile(CONF / group / file.name):
            raise ValueError(f"{file} would be hidden by {CONF / group / file.name}: give it another name.")
        if group in found:
            found[group].append(file.stem)
    return found


def _with_own(shape: dict[str, Any], choices: Mapping[str, Any], config_dir: Path | None) -> dict[str, Any]:
    """`shape`, with the sections from one's own option files held to the keys of ours of the same group."""
    shape.setdefault("plots", [])  # plots=[] chooses no option at all
    for group in _SETTLED if config_dir else ():
        file = Path(config_dir or "") / group / f"{choices[group]}.yaml"
        if not file.is_file():
            continue
        ours = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((CONF / group).glob("*.yaml"))]
        given = shape.get(group) or {}
        try:
            shape[group] = held_to(common(ours), given, group, _FREE, "")
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        lacking = missing(ours, given, group)
        if lacking:
            raise ValueError(f"{file}: {lacking} is missing: write it as the files in {CONF / group} do.")
    return shape


def _parsed(overrides: Sequence[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for text in map(_at_home, overrides):
        try:
            one = OverridesParser.create().parse_overrides([text])[0]
            if not one.key_or_group:
                raise HydraException
        except HydraException:
            raise ValueError(
                f"{text!r} cannot be read as KEY=VALUE. A value with unusual signs goes in quotes twice: KEY=\"'a=b'\"."
            ) from None
        if one.is_sweep_override():
            raise ValueError(f"{text!r} gives several values to one run: give one, or a list as KEY=[a,b].")
        parsed.append(one)
    return parsed


def _at_home(text: str) -> str:
    # KEY=~/x with the home folder written out: no shell does it after a name with a dot, and Hydra refuses a ~ there.
    key, _, value = text.partition("=")
    whole = os.path.expanduser(value)
    return text if whole == value else f"{key}='" + whole.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _check_option(one: Override, options: Sequence[str]) -> None:
    group, value = one.key_or_group, one.value()
    if one.is_delete():
        raise ValueError(f"{group} is a group that every run needs: choose one of {', '.join(options)}.")
    if value == [] and group != "plots":
        raise ValueError(f"{group} is a group that every run needs: choose one of {', '.join(options)}.")
    for name in value if isinstance(value, list) else [value]:
        if name not in options and not (group == "experiment" and name is None):
            word = "null" if name is None else str(name)
            raise ValueError(f"{group} has no option {word!r}. {did_you_mean(word, options)}")
    if one.is_add() or one.is_force_add():
        raise ValueError(f"Every run has the group {group}: write {str(one.input_line).lstrip('+')}, without the plus.")


def _check_key(one: Override, known: Sequence[str]) -> None:
    key = one.key_or_group
    if one.is_delete():
        instead = f"write {key}=null" if may_be_null(key) else "give it another value"
        raise ValueError(f"{one.input_line} would take a parameter away, and steps count on it: {instead}.")
    if one.is_add() and key in known:
        raise ValueError(f"{key} is a parameter already: write {str(one.input_line).lstrip('+')}, without the plus.")
    if one.is_add() or one.is_force_add() or key.startswith("hydra."):
        return
    in_list = any(key.startswith(f"{name}.") and key[len(name) + 1].isdigit() for name in known)
    has_keys = any(name.startswith(f"{key}.") for name in known)
    value = one.value()
    for name in [key, *(names(value, f"{key}.") if has_keys and isinstance(value, dict) else ())]:
        if name not in known and not in_list:
            raise ValueError(unknown(name, known))


def _composed(overrides: Sequence[Override | str], config_dir: Path | None) -> DictConfig:
    from hydra import compose as composed_by_hydra
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    lines = [one if isinstance(one, str) else str(one.input_line) for one in overrides]
    if config_dir is not None:
        place = str(config_dir.resolve()).replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"hydra.searchpath=['file://{place}']")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
            return composed_by_hydra("config", overrides=lines, return_hydra_config=True)
    except (HydraException, yaml.YAMLError) as error:
        raise ValueError(f"conf/ could not be composed: {_one_line(error)}") from None


def _without_experiment(config: DictConfig, options: Mapping[str, Sequence[str]]) -> list[str]:
    # The options that the experiment chose, but not what it sets: so its own mistyped keys can be told.
    chosen = config.hydra.runtime.choices
    return [f"{group}={chosen[group]}" for group in options if group != "experiment" and group in chosen]


def _plain(config: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    rest = copy.deepcopy(config)
    OmegaConf.set_struct(rest, False)
    rest.pop("hydra")
    try:
        plain: dict[str, Any] = OmegaConf.to_container(rest, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ValueError(f"conf/ could not be resolved at {error.full_key}: {str(error).splitlines()[0]}.") from None
    return plain


def _check_given(params: Mapping[str, Any]) -> None:
    # Hydra's ??? marks what only the user can know.
    for name in names(params):
        value: Any = params
        for key in name.split("."):
            value = value[key]
        if value == "???":
            raise ValueError(f"{name} is not set: give {name}=..., or write it in your option file of that group.")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
