"""Which reader a file is for, told by how it begins and by its name, before anything is configured."""

from __future__ import annotations

from pathlib import Path

from forcefoundry.databases.formats import Address

_BEGINNINGS = (  # where it stands, what stands there, format, and how that is said
    (0, b"SQLite format 3\0", "ase_db", "it begins as SQLite files do"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5", "it begins as HDF5 files do"),
    (0, b"PK\x03\x04", "npz", "it begins as zip archives do"),
    (16, b"\xde\xc0\xef\xbe", "ase_lmdb", "it begins as LMDB files do"),
)
_SUFFIXES = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".db": "ase_db",
    ".npz": "npz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".aselmdb": "ase_lmdb",
    ".lmdb": "ase_lmdb",
}


def guess_format(place: Path | Address) -> tuple[str, str]:
    """The format of a file, folder or address, and why.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: neither its beginning nor its name is that of a format that is read.
    """
    if isinstance(place, Address):
        return "ase_postgres", "it is the address of a server"
    if not place.exists():
        raise FileNotFoundError(f"{place} does not exist: give a file or folder of structures.")
    if place.is_dir():
        if any(place.glob("*.aselmdb")):
            return "ase_lmdb", "it is a folder of *.aselmdb files"
        return "ase_folder", "it is a folder of files"
    with place.open("rb") as file:
        head = file.read(4096)
    for at, magic, name, why in _BEGINNINGS:
        if head[at : at + len(magic)] == magic:
            return name, why
    first = head.split(b"\n", 1)[0].strip()
    if first.isdigit():
        return "extxyz", "its first line is a number of atoms"
    suffix = place.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix], f"its name ends in {suffix}"
    raise ValueError(
        f"What format {place} has cannot be told from its beginning or its name. Say it with --format; a file of "
        "another program that ASE reads is read from a folder of its own: give the folder."
    )
