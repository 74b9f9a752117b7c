"""Structures from named arrays, as npz and HDF5 files hold them: which array is what, and the Atoms they make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.formats._unreadable import KEPT, Unreadable

Array = NDArray[Any]
Shape = tuple[int, ...]

SPECIES = ("atomic_numbers", "nuclear_charges", "species", "numbers", "atNUM", "Z", "z")
POSITIONS = ("coordinates", "conformations", "coords", "positions", "pos", "atXYZ", "R")
COUNTS = ("n_atoms", "N")
CELL = ("cell", "lattice")
PBC = ("pbc",)

# Quantities of a structure by the shape of one row. A structure of three atoms has rows of the same shape for its
# atoms' charges and for its dipole: then the name decides.
_OF_STRUCTURE: Mapping[str, tuple[Shape, ...]] = {
    "d": ((3,),),
    "mu": ((3,),),
    "dipole": ((3,),),
    "stress": ((6,), (9,), (3, 3)),
    "virial": ((6,), (9,), (3, 3)),
    "cell": ((3,), (6,), (9,), (3, 3)),
    "lattice": ((3,), (6,), (9,), (3, 3)),
    "quadrupole": ((3, 3),),
    "polarizability": ((3, 3),),
}
_OF_ATOMS = ("charge", "mass", "spin", "magmom", "population", "volume", "energies")


@dataclass(frozen=True)
class Layout:
    """Which array is what.

    `roles` says of each array whether it has one row a structure ("structure"), one a structure and atom ("atom"), or
    is the same for all structures, as a value ("shared") or with one row an atom ("shared atom"); what fits none of
    these is in `notes`, in words.
    """

    n_structures: int
    n_slots: int  # atoms of each structure, blanks among them
    single: bool  # one structure, whose arrays have no axis of structures
    chosen: Mapping[str, str]  # species, positions, counts, cell, pbc -> the array's name
    roles: Mapping[str, str]
    notes: list[str] = field(default_factory=list)


def layout_of(shapes: Mapping[str, Shape], kinds: Mapping[str, str]) -> Layout:
    """Tell the arrays apart by name and shape; `kinds` are the letters of NumPy's dtype kinds.

    Raises:
        ValueError: when there are no species or positions, or when they do not fit together.
    """
    chosen, notes = _chosen(shapes)
    z, r = shapes[chosen["species"]], shapes[chosen["positions"]]
    single = len(r) == 2
    n_structures, n_slots = (1, r[0]) if single else r[:2]
    expected = [(n_slots,)] if single else [(n_slots,), (n_structures, n_slots)]
    if z not in expected:
        raise ValueError(
            f"{chosen['species']} has shape {z} and {chosen['positions']} {r}; expected "
            f"{' or '.join(map(str, expected))} for the former."
        )
    roles = {}
    for name, shape in shapes.items():
        if name in ("numbers", "positions") and name not in chosen.values():
            role, why = None, "its name is taken by the structure itself"
        elif kinds[name] in "OV":
            role, why = None, "it holds Python objects or records"
        else:
            role = _role(name, shape, n_structures, n_slots, single)
            why = f"its shape {shape} fits neither {n_structures} structures nor {n_slots} atoms"
        if name == chosen["positions"]:
            role = "shared" if single else "structure"
        elif name == chosen["species"]:
            role = "structure" if len(shape) == 2 else "shared"
        elif name in (chosen.get("cell"), chosen.get("pbc")) and role != "structure":
            role = "shared"
        if role is None:
            notes.append(f"{name} is left out: {why}")
        else:
            roles[name] = role
    if roles.get(chosen.get("counts", "")) not in (None, "structure"):
        del chosen["counts"]
    return Layout(n_structures, n_slots, single, chosen, roles, notes)


def structures(layout: Layout, shared: Mapping[str, Array], rows: Mapping[str, Array]) -> Iterator[Any]:
    """The Atoms of some structures, Unreadable for each that its own arrays do not make.

    Arguments:
        shared: the arrays that are the same for all structures.
        rows: the arrays with one row a structure, (rows, ...) each.

    Raises:
        ValueError: when what the structures share is no good: no species, or positions that are no numbers.
    """
    chosen, roles = layout.chosen, layout.roles
    padded = roles[chosen["species"]] == "structure"
    numbers = None if padded else _numbers(shared[chosen["species"]], chosen["species"])
    positions = {**shared, **rows}[chosen["positions"]]
    if positions.dtype.kind not in "fiu":
        raise ValueError(f"{chosen['positions']} holds {positions.dtype}, expected numbers.")
    count = min((len(array) for array in rows.values()), default=1)
    for at in range(count):
        values = {name: array[at] for name, array in rows.items()}
        try:
            yield _atoms(chosen, roles, {**shared, **values}, numbers)
        except Exception as error:  # ours, and whatever NumPy and ASE stumble over
            yield Unreadable.because(error, raw_of(values))


def raw_of(values: Mapping[str, Array]) -> bytes:
    """The bytes of a structure's own arrays, each after its name."""
    parts = []
    for name, value in values.items():
        some = np.asarray(value).reshape(-1)[:KEPT]
        parts.append(f"{name}=".encode() + (b"" if some.dtype.hasobject else some.tobytes()))
    return b"\n".join(parts)


def _atoms(
    chosen: Mapping[str, str], roles: Mapping[str, str], values: Mapping[str, Array], shared_numbers: Array | None
) -> Any:
    from ase import Atoms

    if shared_numbers is None:  # padded with 0
        numbers = _numbers(values[chosen["species"]], chosen["species"])
        real = numbers != 0
    else:
        numbers, real = shared_numbers, np.ones(len(shared_numbers), dtype=bool)
    if "counts" in chosen and values[chosen["counts"]] != real.sum():
        raise ValueError(
            f"{chosen['counts']} says {values[chosen['counts']]} atoms, but {chosen['species']} names {real.sum()}"
        )
    atoms = Atoms(numbers[real], values[chosen["positions"]][real])
    if "cell" in chosen:
        cell = np.asarray(values[chosen["cell"]], dtype=np.float64)
        atoms.cell = cell.reshape(3, 3) if cell.size == 9 else cell.reshape(-1)
        atoms.pbc = values[chosen["pbc"]] if "pbc" in chosen else atoms.cell.rank == 3
    for name, value in values.items():
        if name in chosen.values():
            continue
        if roles[name].endswith("atom"):
            atoms.arrays[name] = np.array(value[real])  # a copy: what it came from may be large
        else:
            atoms.info[name] = _plain(value)
    return atoms


_PARTS: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {  # names, the first that is there; numbers of axes
    "species": (SPECIES, (1, 2)),
    "positions": (POSITIONS, (2, 3)),
    "counts": (COUNTS, (1,)),
    "cell": (CELL, (1, 2, 3)),
    "pbc": (PBC, (1, 2)),
}


def _chosen(shapes: Mapping[str, Shape]) -> tuple[dict[str, str], list[str]]:
    chosen, notes = {}, []
    for part, (names, axes) in _PARTS.items():
        found = [name for name in names if name in shapes and len(shapes[name]) in axes]
        if part == "positions":
            found = [name for name in found if shapes[name][-1] == 3]
        if found:
            chosen[part] = found[0]
        elif part in ("species", "positions"):
            near = [f"{name} of shape {shapes[name]}" for name in names if name in shapes]
            raise ValueError(
                f"there are no {part}: expected an array named {', '.join(names)}; got "
                f"{', '.join(near or sorted(shapes)) or 'nothing'}"
            )
        if len(found) > 1 and part in ("species", "positions"):
            notes.append(f"{part} are taken from {found[0]}, though there is {', '.join(found[1:])} too")
    return chosen, notes


def _role(name: str, shape: Shape, n_structures: int, n_slots: int, single: bool) -> str | None:
    if single:
        return "shared atom" if shape[:1] == (n_slots,) and not _of_structure(name, shape, n_slots) else "shared"
    if shape[:1] == (n_structures,):
        per_atom = shape[1:2] == (n_slots,) and not _of_structure(name, shape[1:], n_slots)
        return "atom" if per_atom else "structure"
    if shape[:1] == (n_slots,):
        return "shared atom"
    return "shared" if int(np.prod(shape)) == 1 else None


def _of_structure(name: str, row: Shape, n_slots: int) -> bool:
    # Asked only where a row has as many numbers as the structure has atoms.
    for word in re.split(r"[^a-z]+", name.lower()):
        if any(word in (known, f"{known}s", f"{known}es") and row in rows for known, rows in _OF_STRUCTURE.items()):
            return True
    return row == (3,) and n_slots == 3 and not any(word in name.lower() for word in _OF_ATOMS)


def _numbers(species: Array, name: str) -> Array:
    # Atomic numbers (atoms,) from numbers or from symbols; an empty symbol is a blank.
    if species.dtype.kind in "SU":
        return _from_symbols(np.char.decode(species, "utf-8") if species.dtype.kind == "S" else species, name)
    whole = species.dtype.kind in "fiu" and np.array_equal(species, np.rint(species))
    if not whole or np.abs(species).max(initial=0) > 1000:
        raise ValueError(f"{name} holds {species.tolist()}, expected atomic numbers or symbols.")
    return species.astype(np.int64)


def _from_symbols(symbols: Array, name: str) -> Array:
    from ase.data import atomic_numbers

    unknown = [str(one) for one in symbols if one and str(one) not in atomic_numbers]
    if unknown:
        raise ValueError(f"{name} names {unknown[0]!r}, which is no element.")
    return np.array([atomic_numbers[str(one)] if one else 0 for one in symbols], dtype=np.int64)


def _plain(value: Array) -> Any:
    # One number or text as Python's own; arrays as they are.
    if value.size == 1:
        one = value.reshape(()).item()
        return one.decode("utf-8", "replace") if isinstance(one, bytes) else one
    return np.array(value)
