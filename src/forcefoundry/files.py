"""Files that are either whole or absent: everything is written beside its place and renamed into it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class DiskFullError(OSError):
    """The disk (or the quota) was full; nothing half-written was left at the named place."""


@contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, then rename it into place.

    Works for one file and for one folder (create it yourself at the path given). If the block raises, what was
    written so far is removed and whatever lay at `path` before is untouched. A full disk is told as `DiskFullError`
    naming the file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _told(error, path) from error
    draft = beside / path.name
    try:
        yield draft
        if draft.is_dir():
            _replace_folder(draft, path)
        else:
            _sync(draft)
            os.replace(draft, path)
    except OSError as error:
        raise _told(error, path) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON with sorted keys and a closing newline, so that equal values give equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file that an earlier step wrote; a missing one is told with its name."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: run the step that writes it first.") from None


def _replace_folder(draft: Path, path: Path) -> None:
    # A folder cannot be renamed over a folder that has files: the old one steps aside first.
    if not path.is_dir() or path.is_symlink():
        os.replace(draft, path)
        return
    aside = draft.parent / "replaced"
    os.replace(path, aside)
    try:
        os.replace(draft, path)
    except BaseException:
        os.replace(aside, path)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _told(error: OSError, path: Path) -> OSError:
    if isinstance(error, DiskFullError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return DiskFullError(
        error.errno,
        f"The disk is full: {path} could not be written, and nothing was put in its place. "
        "Free some space there, or point the run at another disk, and start it again.",
    )
