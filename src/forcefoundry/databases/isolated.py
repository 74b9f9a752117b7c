"""Rows that hold one atom alone: they teach no interaction, but E0 can be taken from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefoundry.databases.database import Database

CHOICES = ("keep_out", "train")


def is_isolated_atom(atoms: Any) -> bool:
    """Whether a row is one atom whose `config_type` says IsolatedAtom, in whatever way that is spelled."""
    return len(atoms) == 1 and says_isolated(str(atoms.info.get("config_type", "")))


def says_isolated(kind: str) -> bool:
    """Whether a `config_type` is IsolatedAtom, in whatever way that is spelled."""
    return kind.replace("_", "").replace(" ", "").casefold() in ("isolatedatom", "isolatedatoms")


def check_choice(config: Mapping[str, Any]) -> str:
    """What `isolated_atoms` of the `database` section says, keep_out where it is absent; anything else is refused."""
    chosen = str(config.get("isolated_atoms") or CHOICES[0])
    if chosen not in CHOICES:
        raise ValueError(f"database.isolated_atoms is {chosen!r}, expected {' or '.join(CHOICES)}.")
    return chosen


def isolated_rows(
    isolated: NDArray[np.bool_], groups: Sequence[str | None], config: Mapping[str, Any]
) -> NDArray[np.int64]:
    """The rows that no split gets: isolated atoms, unless `isolated_atoms: train` or their group is held out by name.

    Args:
        isolated: (n,) whether `is_isolated_atom` says so.
        groups: (n,) the value of the key `database.group`.
        config: the `database` section.
    """
    if check_choice(config) != CHOICES[0]:
        return np.zeros(0, dtype=np.int64)
    held_out = {str(value) for value in config["split"].get("held_out") or ()}
    found = [at for at in np.flatnonzero(isolated).tolist() if str(groups[at]) not in held_out]
    return np.array(found, dtype=np.int64)


def isolated_e0(database: Database, species: Sequence[int]) -> NDArray[np.float64]:
    """The energy of one atom of each species, (species,) eV, from the rows of isolated atoms, which are in no split.

    Raises:
        ValueError: a species has no such row with an energy, or several that differ by more than 1 meV.
    """
    from ase.data import chemical_symbols

    in_splits = np.concatenate([np.zeros(0, dtype=np.int64), *database.splits.values()])
    apart = np.setdiff1d(np.flatnonzero(database.n_atoms == 1), in_splits)
    numbers = database.columns.take("species", apart)
    energies = database.columns.take("energy", apart)
    found = []
    for number in species:
        of_it = energies[(numbers == number) & np.isfinite(energies)]
        symbol = chemical_symbols[number]
        if not len(of_it):
            raise ValueError(
                f"database.e0 is isolated_atoms, but no row kept out of the splits is an isolated atom of {symbol} "
                f"with an energy. Add one whose config_type is IsolatedAtom, or give {{{symbol}: ...}} in eV."
            )
        if np.ptp(of_it) > 1e-3:
            raise ValueError(
                f"Isolated atoms of {symbol} have energies from {of_it.min()} to {of_it.max()} eV. Keep the right one."
            )
        found.append(of_it.mean())
    return np.array(found)


def given_e0(energies: Mapping[str, Any], species: Sequence[int]) -> NDArray[np.float64]:
    """The energies of single atoms as `database.e0` names them by symbol, (species,) eV.

    Raises:
        ValueError: for what is no element or no number, and for a species that is not named.
    """
    from ase.data import atomic_numbers, chemical_symbols

    for symbol, energy in energies.items():
        if symbol not in atomic_numbers or symbol == "X":
            near = get_close_matches(str(symbol), atomic_numbers, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"database.e0 names {symbol!r}, which is no element.{hint}")
        if type(energy) not in (int, float) or not np.isfinite(energy):
            raise ValueError(f"database.e0.{symbol} is {energy!r}, expected a number in eV.")
    lacking = [chemical_symbols[number] for number in species if chemical_symbols[number] not in energies]
    if lacking:
        raise ValueError(f"database.e0 names {', '.join(energies)}, but not {', '.join(lacking)}. Give all, in eV.")
    return np.array([float(energies[chemical_symbols[number]]) for number in species])
