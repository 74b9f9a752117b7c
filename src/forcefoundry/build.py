"""From plain configuration to objects: only what stands in the library's rooms can be named, nothing else is built."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch

import forcefoundry

ROOMS = ("networks", "objectives", "plots", "pairs", "targets", "losses")
"""Where a `_target_` may lie. Parameters come from outside; they may not name os.system."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def build(config: Mapping[str, Any], **known: Any) -> Any:
    """Make the object that a configuration names.

    Args:
        config: `_target_` names a class or function in one of the rooms, `forcefoundry.ROOM.MODULE.NAME`; the rest are
            its arguments. Nested configurations are built first.
        known: arguments that configuration cannot hold (nodes, other objects). An argument that is null in the
            configuration gives way to them.

    Raises:
        ValueError: for a target outside the rooms or one that does not exist, and for arguments that do not fit; each
            names the nearest.
    """
    if "_target_" not in config:
        raise ValueError(f"A configuration needs a _target_, got the keys {', '.join(config) or 'none'}.")
    target = find(str(config["_target_"]))
    arguments = {key: _nested(value) for key, value in config.items() if key != "_target_"}
    accepted = inspect.signature(target).parameters
    for key, value in known.items():
        if key in accepted and arguments.get(key) is None:
            arguments[key] = value
    for key in arguments:
        if key not in accepted:
            near = get_close_matches(key, accepted, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(accepted)}."
            raise ValueError(f"{config['_target_']} takes no argument {key!r}. {hint}")
    needed = [
        name
        for name, parameter in accepted.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in arguments
    ]
    if needed:
        raise ValueError(f"{config['_target_']} needs {', '.join(needed)}.")
    return target(**arguments)


def find(target: str) -> Callable[..., Any]:
    """The class or function of that dotted name, if it was defined in one of the rooms."""
    module_name, _, name = target.rpartition(".")
    candidates = list(_modules())
    if module_name not in candidates:
        near = get_close_matches(module_name, candidates, n=1)
        hint = f" Did you mean {near[0]}.{name}?" if near else f" Modules are {', '.join(candidates)}."
        raise ValueError(f"_target_ {target!r} names no module of the library's rooms ({', '.join(ROOMS)}).{hint}")
    module = importlib.import_module(module_name)
    defined = {
        key: value for key, value in vars(module).items() if _buildable(value, module_name) and not key.startswith("_")
    }
    if name not in defined:
        near = get_close_matches(name, defined, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(defined)}."
        raise ValueError(f"_target_ {target!r}: {module_name} defines no {name!r}. {hint}")
    found: Callable[..., Any] = defined[name]
    return found


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of that name."""
    if name not in DTYPES:
        raise ValueError(f"The dtype is {name!r}, expected {' or '.join(DTYPES)}.")
    return DTYPES[name]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed and new weights in float64, whatever precision they are cast to afterwards."""
    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast all weights but those that a module names in `keeps_float64`."""
    for part in module.modules():
        kept = getattr(part, "keeps_float64", ())
        for name, parameter in part.named_parameters(recurse=False):
            if name not in kept:
                parameter.data = parameter.data.to(dtype)


def _nested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return build(value) if "_target_" in value else {key: _nested(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nested(entry) for entry in value]
    return value


def _buildable(value: Any, module_name: str) -> bool:
    # Classes, and the recipes; the rooms' helper functions read and write files.
    kind_fits = inspect.isclass(value) or (inspect.isfunction(value) and module_name == "forcefoundry.objectives")
    return kind_fits and value.__module__ == module_name


def _modules() -> Iterator[str]:
    for room in ROOMS:
        name = f"{forcefoundry.__name__}.{room}"
        yield name
        package = importlib.import_module(name)
        for info in pkgutil.iter_modules(getattr(package, "__path__", [])):
            yield f"{name}.{info.name}"
