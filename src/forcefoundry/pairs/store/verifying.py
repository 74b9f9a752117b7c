"""Damage to shards: found by hashing every byte, and told with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from forcefoundry.pairs.store.index import stamp_of
from forcefoundry.pairs.store.index_files import read_index
from forcefoundry.pairs.store.shard import SUFFIX, digest_of_file, fits
from forcefoundry.pairs.store.store import PairStore, shards_below

_MAGIC = b"ARROW1"  # what an Arrow file ends with


@dataclass(frozen=True)
class Damage:
    """A file that does not hold the bytes of its name, and what is the matter with it."""

    path: Path
    reason: str


def verify(store: PairStore, progress: Callable[[Path], None] = lambda path: None) -> list[Damage]:
    """Hash every shard of a store against its name, whatever an index says; gives the damaged ones.

    Where there are none the index is made to fit what lies there.

    Args:
        store: whose shards are looked at.
        progress: told of each shard once it has been hashed.
    """
    damages, stamps = [], {}
    sizes = {name: size for name, (size, _, _) in _seen(store).items()}
    for name, path in shards_below(store.folder).items():
        try:
            stamp = stamp_of(path)
            reason = reason_of(path, name, sizes.get(name)) or misplaced(path, store.cutoff)
        except FileNotFoundError:
            continue  # another process has just dropped it
        if reason:
            damages.append(Damage(path, reason))
        else:
            stamps[name] = stamp
        progress(path)
    if not damages:
        store.take(stamps)
    return damages


def verify_copies(
    copies: Mapping[str, Iterable[Path]],
    apart_from: Iterable[Path] = (),
    progress: Callable[[Path], None] = lambda path: None,
) -> list[Damage]:
    """Hash other files that should hold the bytes of shards, by the shard's name; each file on disk once.

    apart_from: files that have been hashed already. A hard link to one of them is not hashed again.
    """
    seen = {inode for path in apart_from if (inode := inode_of(path))}
    damages = []
    for name, paths in sorted(copies.items()):
        for path in paths:
            inode = inode_of(path)
            if inode is None or inode in seen:
                continue
            seen.add(inode)
            reason = reason_of(path, name)
            if reason:
                damages.append(Damage(path, reason))
            progress(path)
    return damages


def reason_of(path: Path, name: str, size: int | None = None) -> str | None:
    """What is the matter with a file that should hold the bytes of a shard; None where nothing is.

    size: how many bytes it had, where that is known.
    """
    try:
        if digest_of_file(path) == name.removesuffix(SUFFIX):
            return None
        now = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(now - len(_MAGIC), 0))
            ends = file.read() == _MAGIC
    except FileNotFoundError:
        raise
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if size is not None and now < size:
        return f"it is cut short: {now} of {size} bytes"
    if now == 0:
        return "it is empty"
    if size is None and not ends:
        return f"its bytes are not those of its name, and its end is not that of a shard ({now} bytes)"
    return f"its bytes are not those of its name ({now} bytes)"


def misplaced(path: Path, cutoff: float) -> str | None:
    """What is the matter with a shard that is whole and yet not one of this cutoff; None where nothing is."""
    return None if fits(path, cutoff) else f"it holds no pairs within {cutoff} Å that this version reads"


def _seen(store: PairStore) -> dict[str, tuple[int, int, int]]:
    index = read_index(store.folder)
    return dict(zip(index.names, index.stamps, strict=True))


def inode_of(path: Path) -> tuple[int, int] | None:
    """Which file on disk a path names: hard links to one have one. None where there is none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
