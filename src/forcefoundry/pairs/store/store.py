"""The pair store: pair lists on disk, found again by the content of their structure.

    ROOT/pairs-3/contract-1/cutoff-0x1.4000000000000p+2/SHA256.arrow ...   immutable shards (`shard.py`)
                                                        index-SHA256.arrow  a convenience (`index.py`)

A structure whose positions, cell, pbc or species changed has another key, another cutoff is another folder, so a stale
hit cannot happen. What is missing goes into a new shard, written beside its place and renamed into it: two processes
may fill one store, and one that is killed leaves no shard that is not whole.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from forcefoundry.databases.keys import Keys
from forcefoundry.pairs.contract import CONTRACT_VERSION, Ints, check_cutoff
from forcefoundry.pairs.half import HalfPairs
from forcefoundry.pairs.store.folders import link_or_copy, make_folder, old_formats
from forcefoundry.pairs.store.index import (
    EMPTY,
    Index,
    Stamp,
    extended,
    first_of_each,
    make_index,
    stamp_of,
)
from forcefoundry.pairs.store.index_files import read_index, write_index
from forcefoundry.pairs.store.shard import (
    FORMAT,
    SUFFIX,
    DamagedShardError,
    Shard,
    check_digest,
    fits,
    open_shard,
    written_shard,
)
from forcefoundry.pairs.table import PairTable, Part

log = logging.getLogger(__name__)

_NAME = 64 + len(SUFFIX)


def store_folder(root: Path | str, cutoff: float) -> Path:
    """Where under a store's root the shards of one cutoff lie.

    The folder is named after the exact bits of the cutoff: 5.0 and 5.000000000000001 are two folders.
    """
    return Path(root) / f"pairs-{FORMAT}" / f"contract-{CONTRACT_VERSION}" / f"cutoff-{check_cutoff(cutoff).hex()}"


def shards_below(folder: Path) -> dict[str, Path]:
    """The files of a store's folder that are named like shards, by name, sorted."""
    return {path.name: path for path in sorted(folder.glob(f"*{SUFFIX}")) if len(path.name) == _NAME}


def stores_below(root: Path | str) -> list[PairStore]:
    """The stores of this format and contract below a root: one a cutoff, the shortest first."""
    folders = (Path(root) / f"pairs-{FORMAT}" / f"contract-{CONTRACT_VERSION}").glob("cutoff-*")
    found = []
    for folder in folders:
        with contextlib.suppress(ValueError):
            found.append(PairStore(root, float.fromhex(folder.name.removeprefix("cutoff-"))))
    return sorted((store for store in found if store.folder.is_dir()), key=lambda store: store.cutoff)


class PairStore:
    """Pairs within one cutoff, kept on disk.

    A shard's bytes are checked against its name when it is first seen, by this process or by one that kept an index.
    Of a shard that this store has just written they are known.

    Args:
        root: where all stores of this machine lie; the shards are in `store_folder(root, cutoff)`.
        cutoff: Å, within which all pairs of this store are.
    """

    def __init__(self, root: Path | str, cutoff: float):
        self.cutoff = check_cutoff(cutoff)
        self.root = Path(root)
        self.folder = store_folder(root, cutoff)
        self._index: Index | None = None
        self._open: dict[str, Shard] = {}
        # Shards that this store wrote, and how they looked then: their names were made of what was written.
        self._own: dict[str, Stamp] = {}

    @property
    def index(self) -> Index:
        """Where everything is, as this process last looked."""
        if self._index is None:
            self.refresh()
        assert self._index is not None
        return self._index

    def refresh(self) -> None:
        """Look at what lies in the folder now. A shard that does not hold the bytes of its name is an error."""
        if self._index is None:
            for name in old_formats(self.root):
                log.warning(
                    "%s holds pairs of another format (this one is pairs-%d): they are not read, and nothing there is "
                    "changed. `python -m pipeline pairs gc --old-formats` removes them.",
                    self.root / name,
                    FORMAT,
                )
        here = shards_below(self.folder)
        stamps: dict[str, Stamp] = {}
        for name, path in here.items():
            try:
                stamps[name] = stamp_of(path)
            except FileNotFoundError:
                continue  # another process has just dropped it
        known = self._index if self._index is not None else read_index(self.folder)
        seen = dict(zip(known.names, known.stamps, strict=True))
        if seen == stamps:
            self._index = known
            return
        for name in [name for name, stamp in stamps.items() if seen.get(name) != stamp]:
            self._open.pop(name, None)
            if self._own.get(name) == stamps[name]:
                continue
            try:
                check_digest(here[name])
                ours = fits(here[name], self.cutoff)
            except FileNotFoundError:
                del stamps[name]  # another process has just dropped it
                continue
            if not ours:
                raise DamagedShardError(
                    f"The shard {here[name]} holds no pairs within {self.cutoff} Å that this version reads. "
                    "`python -m pipeline pairs repair` sets it aside."
                )
        self.take(stamps, known)

    def take(self, stamps: Mapping[str, Stamp], known: Index = EMPTY) -> None:
        """Make these shards, whose bytes have been checked, what the store holds, and keep the index.

        known: an index of some of them, which only grows if nothing else has changed. Without it all is made anew.
        """
        self._open = {name: shard for name, shard in self._open.items() if name in stamps}
        seen = dict(zip(known.names, known.stamps, strict=True))
        if not seen or any(stamps.get(name) != stamp for name, stamp in seen.items()):
            known, seen = EMPTY, {}
        new = [name for name in stamps if name not in seen]
        given = (new, [stamps[name] for name in new], [self.shard(name).keys for name in new])
        found = extended(known, *given) if seen else make_index(*given)
        self._index = write_index(self.folder, found) if self.folder.is_dir() else found

    def missing(self, keys: Keys) -> Ints:
        """Positions in `keys` of the structures that the store does not hold, each structure once."""
        absent = np.flatnonzero(self.index.find(keys) < 0)
        return absent[first_of_each(keys[absent])]

    def table(self, keys: Keys, n_atoms: Ints) -> PairTable:
        """The pairs of structures, out of memory-mapped shards; one that is absent is a ValueError.

        Args:
            keys: (n, 32) their keys. n_atoms: (n,) their numbers of atoms.
        """
        places = self._held(keys)
        used, part = np.unique(self.index.shard[places], return_inverse=True)
        row = self.index.row[places].astype(np.int64)
        shards = [self.shard(self.index.names[at]) for at in used]
        spans = np.zeros((6, len(keys)), dtype=np.int64)
        for at, shard in enumerate(shards):
            mine = np.flatnonzero(part == at)
            for which, ends in enumerate((shard.count_ends, shard.code_ends, shard.wide_ends)):
                spans[2 * which, mine], spans[2 * which + 1, mine] = ends[row[mine]], ends[row[mine] + 1]
        if not (spans[1] - spans[0] == n_atoms).all():
            at = int(np.argmax(spans[1] - spans[0] != n_atoms))
            raise DamagedShardError(
                f"Structure {at} has {int(n_atoms[at])} atoms and in {shards[part[at]].path} pairs of "
                f"{int(spans[1, at] - spans[0, at])}. Run `python -m pipeline pairs verify`."
            )
        parts = [Part(shard.counts, shard.codes, shard.wide, str(shard.path)) for shard in shards]
        return PairTable(self.cutoff, parts, part, *spans)

    def n_pairs(self, keys: Keys) -> int:
        """How many ordered pairs structures have; an absent one is a ValueError. Takes less memory than a table."""
        places, found = self._held(keys), 0
        for at, name in enumerate(self.index.names):
            rows = self.index.row[places[self.index.shard[places] == at]]
            ends = self.shard(name).code_ends if len(rows) else np.zeros(1, dtype=np.int64)
            found += 2 * int((ends[rows + 1] - ends[rows]).sum(dtype=np.int64))
        return found

    def _held(self, keys: Keys) -> Ints:
        """Where the index has the given keys, all of which it must have."""
        places = self._places(keys)
        if (places < 0).any():
            raise ValueError(
                f"The pair cache lacks {int((places < 0).sum())} of {len(keys)} structures (the first is structure "
                f"{int(np.argmax(places < 0))}) within {self.cutoff} Å: the structures or the cutoff changed. Run "
                "precompute_pairs again."
            )
        return places

    def _places(self, keys: Keys) -> Ints:
        """Where the index has the given keys; it is made again if the shards do not say the same."""
        places = self.index.find(keys)
        held = np.flatnonzero(places >= 0)
        which, row = self.index.shard[places[held]], self.index.row[places[held]]
        for at in np.unique(which):
            mine, shard = which == at, self.shard(self.index.names[at])
            if row[mine].max() < len(shard) and (shard.keys[row[mine]] == keys[held[mine]]).all():
                continue
            log.warning("the index of %s does not agree with the shards: it is made again from them", self.folder)
            self.take(dict(zip(self.index.names, self.index.stamps, strict=True)))
            return self.index.find(keys)
        return places

    def write(self, keys: Keys, half: HalfPairs) -> Path | None:
        """Put the pairs of new structures into one new shard; None when there is nothing to write."""
        if not len(keys):
            return None
        make_folder(self.folder, self.root)
        made = written_shard(self.folder, self.cutoff, keys, half)
        assert made.path is not None
        if made.placed:
            with contextlib.suppress(FileNotFoundError):  # another process has just dropped it
                self._own[made.path.name] = stamp_of(made.path)
        return made.path

    def shards(self) -> dict[str, Path]:
        """All shards, name to place, sorted by name."""
        return {name: self.folder / name for name in sorted(self.index.names)}

    def shards_of(self, keys: Keys) -> list[Path]:
        """The shards that hold the given structures, each once, sorted by name; keys that are not held are left out."""
        places = self.index.find(keys)
        used = np.unique(self.index.shard[places[places >= 0]])
        return sorted(self.folder / self.index.names[at] for at in used)

    def shard(self, name: str) -> Shard:
        """One shard of this store, opened."""
        if name not in self._open:
            self._open[name] = open_shard(self.folder / name)
        return self._open[name]

    def adopt(self, files: Mapping[str, Path]) -> int:
        """Link shards, given as name to file, into the store; the number that were new.

        What is of another format, contract or cutoff is passed over, a damaged shard is an error. Where links cannot be
        had the bytes are copied.
        """
        new = 0
        for name, path in files.items():
            if len(name) != _NAME or (self.folder / name).exists():
                continue
            check_digest(path, name)
            if not fits(path, self.cutoff):
                log.debug("%s holds no pairs within %s Å that this version reads: left alone", path, self.cutoff)
                continue
            make_folder(self.folder, self.root)
            link_or_copy(path, self.folder / name)
            new += 1
        if new:
            self.refresh()
        return new

    def adopt_folder(self, folder: Path | str) -> int:
        """Link the shards of a folder, as a workspace or `dvc pull` brought them; the number that were new."""
        return self.adopt({path.name: path for path in sorted(Path(folder).glob(f"*{SUFFIX}"))})

    def forget(self) -> None:
        """Close everything and look anew the next time."""
        self._index = None
        self._open.clear()
        self._own.clear()
