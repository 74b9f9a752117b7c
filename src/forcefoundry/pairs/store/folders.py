"""Folders and links of the store: whose they are, and what to do where links cannot be had."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
from pathlib import Path

from forcefoundry.files import write_json, written_whole
from forcefoundry.pairs.contract import CONTRACT_VERSION
from forcefoundry.pairs.store.shard import FORMAT

log = logging.getLogger(__name__)


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder of the store, and those above it, with the permissions that the root has.

    So a root that a group may write to (`chmod g+ws ROOT`) stays one that the group may write to.
    """
    if folder.is_dir():
        return
    if folder == root or root not in folder.parents:
        folder.mkdir(parents=True, exist_ok=True)
        return
    make_folder(folder.parent, root)
    try:
        folder.mkdir()
    except FileExistsError:
        return  # another process was first
    folder.chmod(root.stat().st_mode & 0o7777)


def link_or_copy(source: Path, place: Path) -> bool:
    """Hard-link a file, or copy it where links cannot be had (another file system); whether it was linked."""
    # The link is to the file itself: a link to a symbolic link (DVC can be told to make these) ends where that ends.
    source = source.resolve()
    if place.is_symlink():
        place.unlink()
    try:
        os.link(source, place)
        return True
    except FileExistsError:
        return True
    except FileNotFoundError:
        raise  # copying would tell it no better
    except OSError:
        log.info("no hard link from %s to %s: copying", source, place)
        with written_whole(place) as draft:
            shutil.copyfile(source, draft)
            draft.chmod(0o444)
        return False


def can_write(folder: Path) -> bool:
    """Whether this process may put files into a folder or, where it is not there yet, make it."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def register_workspace(root: Path, path: Path) -> Path:
    """Note in the store that a workspace uses it, so that cleaning asks there what is needed; gives the note's place.

    ROOT/workspaces/SHA256.json, named after the workspace's absolute path, says {"path": that path, "host": the
    machine's name}.
    """
    where = str(path.absolute())
    place = root / "workspaces" / f"{hashlib.sha256(where.encode()).hexdigest()}.json"
    if not place.exists():
        make_folder(place.parent, root)
        write_json(place, {"path": where, "host": socket.gethostname()})
        place.chmod(0o644)  # the others of a group must be able to read it, whatever this one's umask
    return place


def old_formats(root: Path) -> list[str]:
    """The folders of a root, by their path below it, that hold pairs in another format or by another contract."""
    ours = (f"pairs-{FORMAT}", f"pairs-{FORMAT}/contract-{CONTRACT_VERSION}")
    found = [(root, re.compile(r"v\d+|pairs-\d+")), (root / ours[0], re.compile(r"contract-\d+"))]
    inside = [path for folder, named in found for path in folder.glob("*") if named.fullmatch(path.name)]
    return sorted(str(path.relative_to(root)) for path in inside if str(path.relative_to(root)) not in ours)
