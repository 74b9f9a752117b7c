"""Files that are either whole or absent: everything is written beside its place and renamed into it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


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


class ContentFile(io.RawIOBase):
    """What `named_by_content` gives: write to it, and find its place once the block has ended.

    Attributes:
        path: its place.
        placed: whether what lies there is this file, and not one that was there already.
    """

    def __init__(self, file: BinaryIO, prefix: str, suffix: str):
        super().__init__()
        self._file, self._prefix, self._suffix = file, prefix, suffix
        self._digest = hashlib.sha256()
        self.path: Path | None = None
        self.placed = False

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any) -> int:
        """Append bytes."""
        self._digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        """Nothing: the bytes are synced when the block ends. Writers of other libraries ask for it."""

    @property
    def closed(self) -> bool:
        """Whether the block has ended."""
        return self._file.closed

    @property
    def final_name(self) -> str:
        """The sha256 of what was written so far, between prefix and suffix."""
        return f"{self._prefix}{self._digest.hexdigest()}{self._suffix}"


@contextmanager
def named_by_content(folder: Path | str, suffix: str, prefix: str = "", durable: bool = True) -> Iterator[ContentFile]:
    """A file in `folder` that will be named after the sha256 of its bytes, read-only and whole or not there at all.

    One that is there already stays as it is. A full disk is told as `DiskFullError`. What is not `durable` is not
    waited for until it is on the disk: after a power cut it may not be what its name says.
    """
    folder = Path(folder)
    place = folder / f"{prefix}...{suffix}"
    try:
        beside = Path(tempfile.mkdtemp(prefix=".draft.", dir=folder))
    except OSError as error:
        raise _told(error, place) from error
    try:
        draft = beside / "draft"
        with draft.open("wb") as file:
            content = ContentFile(file, prefix, suffix)
            yield content
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.chmod(0o444)
        content.path = folder / content.final_name
        if not content.path.exists():
            os.replace(draft, content.path)
            content.placed = True
    except OSError as error:
        raise _told(error, place) from error
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


@contextmanager
def told_as(path: Path | str) -> Iterator[None]:
    """Tell a disk that is full while parts of `path` are written elsewhere as that of `path`."""
    try:
        yield
    except DiskFullError as error:
        raise _told(OSError(error.errno, ""), Path(path)) from error


def _told(error: OSError, path: Path) -> OSError:
    if isinstance(error, DiskFullError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return DiskFullError(
        error.errno,
        f"The disk is full: {path} could not be written, and nothing was put in its place. "
        "Free some space there, or point the run at another disk, and start it again.",
    )
