"""What dvc.lock files say of a folder that DVC keeps: which files are in it, and where DVC's cache has them.

A folder's md5 in dvc.lock is that of a listing (`.dir`), which DVC's cache holds like any file: a JSON list of
{"relpath", "md5"}. Nothing here calls dvc; git is asked for the dvc.lock files of commits.
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

LOCK = "dvc.lock"

_GIT_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # set in a hook, they would name another repository


class UnknownListingError(ValueError):
    """Something refers to files that cannot be known here; says what, and what to do."""


def cache_folder(workspace: Path) -> Path:
    """DVC's cache of a workspace: cache.dir of its configuration, the nearest first, relative to what says it."""
    home = Path(os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "~/.config")) / "dvc"
    own = workspace / ".dvc"
    for file in (own / "config.local", own / "config", home / "config", Path("/etc/xdg/dvc/config")):
        config = configparser.ConfigParser(interpolation=None)
        config.read(file, encoding="utf-8")
        folder = config.get("cache", "dir", fallback=None)
        if folder:
            return file.parent / Path(folder).expanduser()
    return own / "cache"


def cached(cache: Path, md5: str) -> Path | None:
    """Where DVC's cache has the file of that md5; None where it has not."""
    path = cache / "files" / "md5" / md5[:2] / md5[2:]
    return path if md5 and path.is_file() else None


def files_of(lock: str, out: Path, cache: Path, where: str) -> dict[str, Path | None]:
    """The files of the folder `out` as a dvc.lock says, by name, and where DVC's cache has each.

    Args:
        lock: the text of dvc.lock.
        out: the folder's path in the workspace.
        cache: DVC's cache of that workspace.
        where: what to call this dvc.lock in an error.

    Raises:
        UnknownListingError: the listing is not in the cache.
    """
    try:
        stages = ((yaml.safe_load(lock) or {}).get("stages") or {}).values()
        outs = {entry["path"]: entry.get("md5", "") for stage in stages for entry in stage.get("outs", ())}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise UnknownListingError(
            f"{where} cannot be read as DVC's lock file ({' '.join(str(error).split())[:120]}). Mend it there, after a "
            "merge for instance."
        ) from None
    md5 = outs.get(str(out), "")
    if not md5:
        return {}
    listing = cached(cache, md5)
    if listing is None:
        raise UnknownListingError(
            f"{where} refers to {out} ({md5}), and what is in it cannot be known: the listing is not in DVC's cache "
            f"{cache}. `dvc fetch` there brings it."
        )
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
        return {entry["relpath"]: cached(cache, entry["md5"]) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise UnknownListingError(
            f"{listing}, to which {where} refers, is damaged ({error!r}). `dvc fetch` there."
        ) from None


def locks_of(workspace: Path) -> Iterator[tuple[str, str]]:
    """Every dvc.lock that a workspace keeps, as (what to call it, text), equal ones once.

    That is the file as it lies there, and that of each branch, tag and HEAD of its git repository.

    Raises:
        UnknownListingError: git cannot read the repository.
    """
    seen = set()
    if (workspace / LOCK).is_file():
        text = (workspace / LOCK).read_text(encoding="utf-8")
        seen.add(text)
        yield str(workspace / LOCK), text
    for name, text in _committed(workspace):
        if text not in seen:
            seen.add(text)
            yield f"{LOCK} of {name} in {workspace}", text


def _committed(workspace: Path) -> Iterator[tuple[str, str]]:
    if _git(workspace, "rev-parse", "--is-inside-work-tree", fine=(0, 128)) is None:
        return
    heads = (_git(workspace, "worktree", "list", "--porcelain") or "").splitlines()
    names = {line.removeprefix("HEAD "): f"HEAD {line[5:12]}" for line in heads if line.startswith("HEAD ")}
    listed = _git(workspace, "for-each-ref", "--format=%(objectname) %(refname:short)", "refs/heads", "refs/tags") or ""
    for line in listed.splitlines():
        commit, name = line.split(" ", 1)
        names[commit] = name
    prefix = (_git(workspace, "rev-parse", "--show-prefix") or "").strip()
    for commit, name in names.items():
        text = _git(workspace, "cat-file", "blob", f"{commit}:{prefix}{LOCK}", fine=(0, 128))
        if text is not None:
            yield name, text


def _git(workspace: Path, *words: str, fine: tuple[int, ...] = (0,)) -> str | None:
    """What git prints; None where it ends with another code that is fine."""
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=workspace,
            env={**environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UnknownListingError(f"git is not installed: which commits {workspace} keeps cannot be known.") from None
    if done.returncode == 0:
        return done.stdout
    if done.returncode in fine and "dubious ownership" not in done.stderr:
        return None
    told = " ".join(done.stderr.split())
    raise UnknownListingError(f"git cannot say which commits {workspace} keeps: {told}")
