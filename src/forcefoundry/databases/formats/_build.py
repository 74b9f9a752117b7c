"""ASE's Atoms built from arrays that are known to fit, without the checks of its constructors."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import numpy as np

_ATOMS = {"_calc", "_celldisp", "_cellobj", "_constraints", "_pbc", "arrays", "info"}
_CALCULATOR = {"_directory", "atoms", "get_spin_polarized", "parameters", "prefix", "results", "use_cache"}
_AS_THEY_ARE = ("energy", "free_energy", "magmom")


@lru_cache(maxsize=1)
def may_build() -> bool:
    """Whether ASE's objects hold here what is known of them; a release to come may hold more."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms("H")
    calculator = SinglePointCalculator(atoms, energy=0.0)
    return set(vars(atoms)) == _ATOMS and set(vars(calculator)) == _CALCULATOR


def built(
    numbers: np.ndarray,
    positions: np.ndarray,
    charges: np.ndarray | None,
    cell: np.ndarray | None,
    pbc: bool | list[bool],
    info: dict[str, Any],
) -> Any:
    """New Atoms; the arrays are copied."""
    arrays = {"numbers": np.array(numbers, dtype=int), "positions": np.array(positions, dtype=float, order="C")}
    if charges is not None:
        arrays["initial_charges"] = np.array(charges, dtype=float)
    held = np.zeros((3, 3))
    if cell is not None:
        held[:] = cell
    periodic = np.zeros(3, dtype=bool)
    periodic[:] = pbc
    return _atoms(arrays, held, periodic, info)


def labelled(atoms: Any, arrays: dict[str, np.ndarray]) -> None:
    """Give Atoms further arrays, and a calculator of those that are labels and of the labels in its info."""
    results, info = {}, atoms.info
    for name, values in arrays.items():
        if name in _labels()[0]:
            results[name] = values
        else:
            atoms.arrays[name] = np.array(values, order="C")
    for name in [name for name in info if name in _labels()[1]]:
        value = info.pop(name)
        if name == "stress":
            (xx, xy, xz), (_, yy, yz), (_, _, zz) = value.tolist()
            value = value.reshape(9) if is_skew(value) else np.array([xx, yy, zz, yz, xz, xy])
        results[name] = value
    if results:
        atoms.calc = _calculator(atoms, results)


def is_skew(stress: np.ndarray) -> bool:
    """Whether a stress (3, 3) is not its own transpose, by more than rounding does.

    ASE's reader keeps the upper triangle and forgets the lower one: a fault that nobody could see any more. All nine
    are kept of such a stress.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = stress.tolist()
    largest: float = max(map(abs, (xx, xy, xz, yx, yy, yz, zx, zy, zz)))
    return bool(max(abs(xy - yx), abs(xz - zx), abs(yz - zy)) > 1e-3 * largest)


@lru_cache(maxsize=1)
def _labels() -> tuple[frozenset[str], frozenset[str]]:
    # The names of all labels, and of those of a whole structure.
    from ase.calculators.calculator import all_properties
    from ase.io.extxyz import per_config_properties

    return frozenset(all_properties), frozenset(per_config_properties)


def _atoms(arrays: dict[str, np.ndarray], cell: np.ndarray, pbc: np.ndarray, info: dict[str, Any]) -> Any:
    atoms_type, cell_type = _types()[:2]
    cell_object = cell_type.__new__(cell_type)
    cell_object.array = cell
    atoms = atoms_type.__new__(atoms_type)
    atoms.__dict__ = {
        "_cellobj": cell_object,
        "_pbc": pbc,
        "arrays": arrays,
        "_celldisp": np.zeros((3, 1)),
        "_constraints": [],
        "info": dict(info),
        "_calc": None,
    }
    return atoms


def _calculator(atoms: Any, results: dict[str, Any]) -> Any:
    calculator_type, parameters_type = _types()[2:]
    calculator = calculator_type.__new__(calculator_type)
    arrays = {name: values.copy() for name, values in atoms.arrays.items()}
    itself = _atoms(arrays, atoms.cell.array.copy(), atoms.pbc.copy(), atoms.info)
    if atoms.constraints:
        itself.constraints = copy.deepcopy(atoms.constraints)
    calculator.__dict__ = {
        "atoms": itself,
        "results": {
            name: value if name in _AS_THEY_ARE else np.array(value, dtype=float) for name, value in results.items()
        },
        "parameters": parameters_type(),
        "_directory": ".",
        "prefix": None,
        "get_spin_polarized": calculator._deprecated_get_spin_polarized,
        "use_cache": False,
    }
    return calculator


@lru_cache(maxsize=1)
def _types() -> tuple[Any, Any, Any, Any]:
    from ase import Atoms
    from ase.calculators.calculator import Parameters
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.cell import Cell

    return Atoms, Cell, SinglePointCalculator, Parameters
