"""Removing what nobody refers to: shards, drafts of processes that are gone, folders of older formats."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forcefoundry.pairs.store.folders import old_formats
from forcefoundry.pairs.store.shard import ASIDE, SUFFIX
from forcefoundry.pairs.store.store import shards_below, stores_below

log = logging.getLogger(__name__)

YOUNG = 86400.0
"""Seconds, a day. What is younger may be of a run that still fills, or that was killed and will be taken up again."""


@dataclass(frozen=True)
class Unused:
    """Something that may go: a file or a folder.

    what: in words. n_bytes: its size. linked: whether it has other names on this disk, so that removing this one frees
    nothing.
    """

    path: Path
    what: str
    n_bytes: int
    linked: bool = False


def unused(
    root: Path | str, kept: Collection[str], least_age: float = YOUNG, formats: bool = False
) -> Iterator[Unused]:
    """What may be removed below a root, stores of all cutoffs together.

    Args:
        root: where the stores lie.
        kept: names of the shards that are referred to.
        least_age: seconds; what is younger is kept.
        formats: whether folders of other formats and contracts go as well, whatever their age.
    """
    now = time.time()
    for store in stores_below(root):
        for name, path in shards_below(store.folder).items():
            if name not in kept:
                yield from _if_old(path, "shard", now - least_age)
        for path in sorted(store.folder.glob(f"*{SUFFIX}{ASIDE}")):
            yield from _if_old(path, "damaged shard", now - least_age)
        yield from drafts(store.folder, now - max(least_age, YOUNG))
    for name in old_formats(Path(root)) if formats else ():
        yield Unused(Path(root) / name, "older format", _size(Path(root) / name))


def drafts(folder: Path, before: float) -> Iterator[Unused]:
    """What processes that were killed left half-written in a folder: hidden folders not touched since `before`.

    A shard takes seconds to write, so one that has not been touched for a day is nobody's.
    """
    for path in sorted(folder.glob(".*")):
        if path.is_dir():
            yield from _if_old(path, "draft", before)


def remove(found: Iterable[Unused]) -> tuple[int, list[str]]:
    """Remove what `unused` found; gives the bytes that were freed and what could not be removed, in words."""
    freed, failed = 0, []
    for one in found:
        try:
            if one.path.is_dir():
                shutil.rmtree(one.path)
            else:
                one.path.unlink()
        except FileNotFoundError:
            continue  # another process was first
        except OSError as error:
            failed.append(f"{one.path} cannot be removed: {error.strerror}")
            continue
        freed += 0 if one.linked else one.n_bytes
    return freed, failed


def clear_drafts(folder: Path) -> None:
    """Remove old drafts of a folder; those of another user that may not be removed stay."""
    remove(drafts(folder, time.time() - YOUNG))


def _if_old(path: Path, what: str, before: float) -> Iterator[Unused]:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        # ctime moves when a name is added or taken away: a shard that was linked a moment ago is young again.
        if max(found.st_mtime, found.st_ctime) <= before:
            yield Unused(path, what, _size(path), path.is_file() and found.st_nlink > 1)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
