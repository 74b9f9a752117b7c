"""The same structures in every format, each written with the tools that the field writes it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ase
import ase.db
import ase.io
import h5py
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator


def drawn(n: int = 24, seed: int = 0) -> list[ase.Atoms]:
    """Molecules of 1 to 6 atoms with energy, forces and dipole; six decimals, so that texts hold them exactly."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        n_atoms = 1 + number % 6
        atoms = ase.Atoms(rng.choice([1, 6, 8], n_atoms), np.round(rng.uniform(-3, 3, (n_atoms, 3)), 6))
        values = {"energy": -9391.0 + number / 8, "forces": np.round(rng.normal(0, 1, (n_atoms, 3)), 6)}
        atoms.calc = SinglePointCalculator(atoms, **values, dipole=np.round(rng.normal(0, 1, 3), 6))
        atoms.info["molecule"] = f"m{number % 3}"
        made.append(atoms)
    return made


def label(atoms: ase.Atoms, name: str) -> np.ndarray:
    """A label wherever it lies."""
    for held in (atoms.calc.results if atoms.calc else {}, atoms.info, atoms.arrays):
        if name in held:
            return np.asarray(held[name])
    raise KeyError(name)


def same(one: ase.Atoms, other: ase.Atoms) -> bool:
    """Whether two structures and their labels are equal to the last bit."""
    return (
        np.array_equal(one.numbers, other.numbers)
        and np.array_equal(one.positions, other.positions)
        and np.array_equal(one.pbc, other.pbc)
        and all(np.array_equal(label(one, name), label(other, name)) for name in ("energy", "forces", "dipole"))
    )


def write_extxyz(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    ase.io.write(path, list(rows), format="extxyz")
    return path


def write_ase_db(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    with ase.db.connect(path, type="db") as database:
        for row in rows:
            database.write(row, **row.info)
    return path


def write_ase_lmdb(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    with ase.db.connect(path, type="aselmdb") as database:
        for row in rows:
            database.write(row, data=row.info)
    path.with_name(f"{path.name}-lock").unlink(missing_ok=True)
    return path


def write_npz(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """Padded to the largest, blanks anywhere among the atoms."""
    rng = np.random.default_rng(1)
    slots = max(map(len, rows)) + 1
    packed = {
        "Z": np.zeros((len(rows), slots), dtype=np.int64),
        "R": np.full((len(rows), slots, 3), 99.0),
        "N": np.array([len(row) for row in rows]),
        "energy": np.array([label(row, "energy") for row in rows]),
        "forces": np.zeros((len(rows), slots, 3)),
        "dipole": np.array([label(row, "dipole") for row in rows]),
        "molecule": np.array([row.info["molecule"] for row in rows]),
    }
    for at, row in enumerate(rows):
        where = np.sort(rng.choice(slots, len(row), replace=False))
        packed["Z"][at, where], packed["R"][at, where] = row.numbers, row.positions
        packed["forces"][at, where] = label(row, "forces")
    with path.open("wb") as file:
        np.savez_compressed(file, **packed)
    return path


def write_hdf5(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """A group for each structure, with checksums on everything."""
    with h5py.File(path, "w", libver="latest") as file:
        for number, row in enumerate(rows):
            group = file.create_group(f"s{number:04d}")
            arrays = {
                "atomic_numbers": row.numbers.astype(np.uint8),
                "coordinates": row.positions[None],
                "energy": label(row, "energy")[None],
                "forces": label(row, "forces")[None],
                "dipole": label(row, "dipole")[None],
            }
            for name, values in arrays.items():
                group.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
            group.create_dataset("molecule", data=[row.info["molecule"]], dtype=h5py.string_dtype())
    return path


def write_ase_folder(path: Path, rows: Sequence[ase.Atoms]) -> Path:
    """Some extended XYZ files of several frames and some trajectories of one, in folders."""
    for number in range(0, len(rows), 4):
        folder = path / f"run{number:04d}"
        folder.mkdir(parents=True)
        ase.io.write(folder / "a@1.xyz", list(rows[number : number + 3]), format="extxyz")
        if number + 3 < len(rows):
            ase.io.write(folder / "b.traj", rows[number + 3])
    return path


WRITERS: dict[str, Callable[[Path, Sequence[ase.Atoms]], Path]] = {
    "ase_db": write_ase_db,
    "ase_folder": write_ase_folder,
    "ase_lmdb": write_ase_lmdb,
    "extxyz": write_extxyz,
    "hdf5": write_hdf5,
    "npz": write_npz,
}
