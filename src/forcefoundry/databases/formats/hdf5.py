"""HDF5 files with a group for each molecule or size, as of ANI-1, ANI-1x, SPICE and QM7-X.

A group holds species (atoms,), positions (conformations, atoms, 3) and properties beside them; groups may lie in
groups. A property that a group lacks, or that is NaN for a whole conformation, is one that the conformation lacks.
The file is read by a process of its own, some megabytes at a time: libhdf5 may crash on a damaged file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.formats._apart import read_apart
from forcefoundry.databases.formats._arrays import POSITIONS, SPECIES, Layout, layout_of, raw_of, structures
from forcefoundry.databases.formats._told import told, words
from forcefoundry.databases.formats._unreadable import Unreadable

log = logging.getLogger(__name__)

PIECE = 4 << 20
"""Bytes that are read of the widest dataset at once."""

GROUP = "hdf5_group"
"""Under this name in info stands the group that a structure comes from: the molecule, in the sets of the field."""

NOT = "cannot be read as HDF5"
"""What an error says of a conformation, a group or a file."""


def read(path: Path) -> Iterator[Any]:
    """The conformations, group by group in the order of their names; Unreadable where one is no good.

    One Unreadable stands for a whole group where its datasets do not fit together.

    Raises:
        ValueError: for a file that is no HDF5, that crashes its library, or in which no group holds structures.
    """
    noted: set[str] = set()
    layout, shared, found = None, {}, False
    for kind, group, *what in read_apart(__name__, path):
        if kind == "group":
            layout, shared = what
            found = True
        elif kind == "notes":
            for note in sorted(set(what[0]) - noted):  # a hundred thousand groups often share it
                log.warning("%s, group %s: %s (said once)", path, group, note)
                noted.add(note)
        elif kind == "broken":
            where, reason = what
            found = True
            yield f"group {group}{where}", Unreadable(reason)
        else:
            first, rows = what
            assert layout is not None
            for at, atoms in enumerate(_structures(layout, shared, rows), first):
                if not isinstance(atoms, Unreadable):
                    atoms.info[GROUP] = group
                    _leave_out_absent(atoms)
                yield f"group {group}, conformation {at}", atoms
    if not found:
        raise ValueError(
            f"{path}: no group holds structures. Expected datasets named as {SPECIES[0]} and {POSITIONS[0]} are."
        )


def _structures(layout: Layout, shared: dict[str, NDArray[Any]], rows: dict[str, NDArray[Any]]) -> Iterator[Any]:
    try:
        yield from structures(layout, shared, rows)
    except ValueError as error:  # of what the group's conformations share
        for at in range(min((len(array) for array in rows.values()), default=1)):
            yield Unreadable.because(error, raw_of({name: array[at] for name, array in rows.items()}))


def pieces(path: Path) -> Iterator[tuple[Any, ...]]:
    """What `read` asks its own process for: each group's layout and shared arrays, then its rows."""
    import h5py

    with told(str(path), NOT):
        file = h5py.File(path, "r")
    with file:
        seen: set[int] = set()
        waiting = [iter(["/"])]  # names, since a file may have a million groups: one is open at a time
        while waiting:
            if (name := next(waiting[-1], None)) is None:
                waiting.pop()
                continue
            with told(f"{path}, group {name}", NOT):
                group = file[name]
                address = h5py.h5o.get_info(group.id).addr
                if address in seen:
                    continue  # a group may have several names
                seen.add(address)
                datasets, groups = _members(group)
            waiting.append(iter(groups))
            if any(name in datasets for name in (*SPECIES, *POSITIONS)):
                yield from _of_group(group.name, datasets)
            elif datasets:
                yield "notes", group.name, [f"{', '.join(datasets)} belong to no structures and are left out"]


def _of_group(name: str, datasets: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    # Where a group is no good, others may be: "broken" says from where on, and why.
    try:
        shapes = {key: one.shape for key, one in datasets.items()}
        layout = layout_of(shapes, {key: _kind(one) for key, one in datasets.items()})
    except Exception as error:  # ours, and whatever h5py stumbles over
        yield "broken", name, "", words(error)
        return
    shared, streamed = {}, {}
    try:
        for key, role in layout.roles.items():
            if role in ("structure", "atom"):
                streamed[key] = datasets[key]
            else:
                shared[key] = _values(datasets[key], ())
    except Exception as error:
        yield "broken", name, "", f"dataset {key}, which its {layout.n_structures} conformations need: {words(error)}"
        return
    yield "group", name, layout, shared
    yield "notes", name, layout.notes
    width = max((one.dtype.itemsize * int(np.prod(one.shape[1:])) for one in streamed.values()), default=1)
    step = max(1, PIECE // max(1, width))
    for first in range(0, layout.n_structures, step):
        stop = min(first + step, layout.n_structures)
        try:
            yield "rows", name, first, _rows(streamed, first, stop)
        except _DatasetError:  # as a rule one chunk is damaged
            yield from _one_by_one(name, streamed, first, stop)


class _DatasetError(ValueError):
    """What h5py raised, with the name of the dataset."""


def _rows(streamed: dict[str, Any], first: int, stop: int) -> dict[str, NDArray[Any]]:
    rows = {}
    for key, one in streamed.items():
        try:
            rows[key] = _values(one, slice(first, stop))
        except Exception as error:
            raise _DatasetError(f"dataset {key}: {words(error)}") from error
    return rows


def _one_by_one(name: str, streamed: dict[str, Any], first: int, stop: int) -> Iterator[tuple[Any, ...]]:
    for at in range(first, stop):
        try:
            yield "rows", name, at, _rows(streamed, at, at + 1)
        except _DatasetError as error:
            yield "broken", name, f", conformation {at}", words(error)


def _members(group: Any) -> tuple[dict[str, Any], list[str]]:
    # The datasets, and the names of the groups: a hundred thousand open ones would take a gigabyte.
    import h5py

    datasets, groups = {}, []
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise ValueError(f"{name} stands in another file, {link.filename}: read that file by itself")
        member = group[name]
        if isinstance(member, h5py.Dataset):
            if member.shape is None:
                continue  # a dataset that was declared empty
            datasets[name] = member
        elif isinstance(member, h5py.Group):
            groups.append(member.name)
    return datasets, groups


def _kind(dataset: Any) -> str:
    import h5py

    return "U" if h5py.check_string_dtype(dataset.dtype) else dataset.dtype.kind


def _values(dataset: Any, where: Any) -> NDArray[Any]:
    if _kind(dataset) == "U":
        return np.asarray(dataset.asstr()[where], dtype=str)
    return np.asarray(dataset[where])


def _leave_out_absent(atoms: Any) -> None:
    # In these sets NaN is how a conformation says that it was not computed with this method.
    for held in (atoms.info, atoms.arrays):
        for name in list(held):
            value = np.asarray(held[name])
            if name != "positions" and value.dtype.kind == "f" and value.size and np.isnan(value).all():
                del held[name]
