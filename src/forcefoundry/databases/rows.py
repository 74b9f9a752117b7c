"""Rows as they come from the files of a `database` configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forcefoundry.databases.formats import Address, read_rows, sources


@dataclass(frozen=True)
class Row:
    """One row as it came: where from, which official split if any, and its Atoms."""

    origin: str
    split: str | None
    atoms: Any


@dataclass(frozen=True)
class Source:
    """A file of rows, or an address, and the official split it stands for, if any."""

    place: Path | Address
    split: str | None

    @property
    def name(self) -> str:
        """As it is shown: an address without its password."""
        return str(self.place)


def rows_of(config: Mapping[str, Any], path: Path | Address) -> Iterable[Row]:
    """The rows that a `database` configuration names, file by file, in their order."""
    for split, file in _files(config, path):
        for where, atoms in read_rows(str(config["format"]), file):
            yield Row(f"{file}, {where}", split, atoms)


def sources_of(config: Mapping[str, Any], path: Path | Address) -> list[Source]:
    """The single files that hold these rows, in the same order; an address stands for itself."""
    return list(_sources(config, path))


def _sources(config: Mapping[str, Any], path: Path | Address) -> Iterator[Source]:
    for split, place in _files(config, path):
        files: list[Path | Address] = [*sources(str(config["format"]), place)]
        for file in files or [place]:
            yield Source(file, split)


def _files(config: Mapping[str, Any], path: Path | Address) -> list[tuple[str | None, Path | Address]]:
    if config.get("files"):
        return [(str(split), path / str(name)) for split, name in dict(config["files"]).items()]
    return [(None, path)]
