"""Who needs which pairs, and where else they are: what the workspaces that are noted in a store say of its shards."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.listings import LOCK, UnknownListingError, cache_folder, files_of, locks_of
from pipeline.steps.workspace import LOAD, OWN_STORE, PAIRS, store_root

if TYPE_CHECKING:
    from forcefoundry.databases.keys import Keys
    from forcefoundry.pairs import PairStore
    from forcefoundry.pairs.store.filling import Structures
    from forcefoundry.pairs.store.workspaces import Workspace

logger = logging.getLogger(__name__)

VIEW = PAIRS / "shards"


def roots() -> list[Path]:
    """The machine's store, and the one that this workspace has where that could not be written."""
    return [store_root(), *([OWN_STORE] if OWN_STORE.is_dir() else [])]


def workspaces() -> Iterator[Path]:
    """This workspace, and all that are noted and can be seen."""
    from forcefoundry.pairs.store.workspaces import registered

    here = Path.cwd()
    yield here
    for root in roots():
        yield from (one.folder for one in registered(root) if one.folder != here and _is_dir(one.folder))


def elsewhere() -> dict[str, list[Path]]:
    """Files of workspaces, and of their DVC caches, that should hold the bytes of shards, by the shard's name."""
    found = defaultdict(list)
    for workspace in workspaces():
        for path in sorted((workspace / VIEW).glob("*.arrow")):
            found[path.name].append(path)
        try:
            if (workspace / LOCK).is_file():
                lock = (workspace / LOCK).read_text(encoding="utf-8")
                kept = files_of(lock, VIEW, cache_folder(workspace), str(workspace / LOCK))
                for name, place in _shards(kept):
                    found[name].append(place)
        except (OSError, UnknownListingError) as error:
            logger.info("%s is not looked at: %s", workspace, error)
    return dict(found)


def _shards(files: dict[str, Path | None]) -> Iterable[tuple[str, Path]]:
    return ((name, path) for name, path in files.items() if path is not None and name.endswith(".arrow"))


def structures() -> Iterator[tuple[Keys, Structures]]:
    """The structures of this workspace and of the others, with their keys."""
    from forcefoundry.databases import Database

    for workspace in workspaces():
        try:
            stored = Database.load(workspace / LOAD / "columns")
            yield stored.keys(), stored
        except (OSError, ValueError) as error:
            logger.info("the structures of %s cannot be had: %s", workspace, error)


@dataclass
class Kept:
    """Who refers to what.

    names: shards that something refers to. unknown: what may refer to others, in words. gone: workspaces that are noted
    and are no more. away: those of other machines that cannot be seen.
    """

    names: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    gone: list[Workspace] = field(default_factory=list)
    away: list[Workspace] = field(default_factory=list)


def kept(root: Path) -> Kept:
    """What this workspace, those that are noted below a root, and the commits that they keep refer to."""
    from forcefoundry.pairs.store.workspaces import registered

    found, here = Kept(), Path.cwd()
    _add(found, here)
    for one in registered(root):
        if one.folder == here:
            continue
        if _is_dir(one.folder):
            _add(found, one.folder)
        elif one.is_here:
            found.gone.append(one)
        else:
            found.away.append(one)
            found.unknown.append(f"workspace {one.folder} is on {one.host} and cannot be seen from here. Run gc there.")
    return found


def _add(kept: Kept, workspace: Path) -> None:
    cache = cache_folder(workspace)
    try:
        if (workspace / VIEW).is_dir():
            kept.names.update(path.name for path in (workspace / VIEW).iterdir() if path.suffix == ".arrow")
        for where, lock in locks_of(workspace):
            try:
                kept.names.update(name for name in files_of(lock, VIEW, cache, where) if name.endswith(".arrow"))
            except UnknownListingError as error:
                kept.unknown.append(str(error))
    except (OSError, UnknownListingError) as error:
        kept.unknown.append(str(error))


def _is_dir(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except PermissionError:
        return True  # it is there, and what it refers to will be found unknown


def stores() -> list[PairStore]:
    from forcefoundry.pairs.store.store import stores_below

    return [store for root in roots() for store in stores_below(root)]


def shards_here() -> dict[tuple[Path, str], Path]:
    """The shards of the stores, by folder and name."""
    from forcefoundry.pairs.store.store import shards_below

    found = {store.folder: shards_below(store.folder) for store in stores()}
    return {(folder, name): path for folder, paths in found.items() for name, path in paths.items()}
