"""Units and signs as the files have them, declared once; columns hold eV, Å, eV/Å, eV/Å³ (tension positive), e, e·Å."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

Powers = tuple[int, int, int, int]
"""Of energy, length, charge and amount (mole)."""

_KINDS: dict[str, tuple[Powers, str, str]] = {  # name -> what it is made of, its canonical unit, examples
    "energy": ((1, 0, 0, 0), "eV", "eV, meV, Hartree, Rydberg, kcal/mol or kJ/mol"),
    "length": ((0, 1, 0, 0), "Å", "Å, Bohr, nm or pm"),
    "forces": ((1, -1, 0, 0), "eV/Å", "eV/Å, meV/Å, Hartree/Bohr or kcal/mol/Å"),
    "stress": ((1, -3, 0, 0), "eV/Å³", "eV/Å^3, GPa, kbar or Hartree/Bohr^3"),
    "charge": ((0, 0, 1, 0), "e", "e"),
    "dipole": ((0, 1, 1, 0), "e·Å", "e·Å, Debye or e·Bohr"),
}
_DERIVED = {
    "forces": (("energy", 1), ("length", -1)),
    "stress": (("energy", 1), ("length", -3)),
    "dipole": (("charge", 1), ("length", 1)),
}
_OF_COLUMN = {"positions": "length", "cell": "length", "charges": "charge"}  # columns that have another's unit

SIGNS = {"forces": ("forces", "gradients"), "stress": ("tension", "pressure", "virial")}
"""What may be declared of the signs; the first is how columns hold it."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_FACTOR = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*[·*×]?\s*")
_NAMED = re.compile(r"\s*([/·⋅*]?)\s*([^\W\d_]\w*)(?:\^(-?[0-9]+))?\s*")


@dataclass(frozen=True)
class Unit:
    """A unit: how it is written, how many canonical units (eV, Å, e, mol) one of it is, and what it is made of."""

    text: str
    factor: float
    powers: Powers

    def times(self, other: Unit, power: int = 1) -> Unit:
        """The product with another unit, or with a power of it."""
        joint = "·" if power > 0 else "/"
        text = f"{self.text}{joint}{other.text}" + (f"^{abs(power)}" if abs(power) > 1 else "")
        powers = [a + power * b for a, b in zip(self.powers, other.powers, strict=True)]
        return Unit(text, self.factor * other.factor**power, (powers[0], powers[1], powers[2], powers[3]))


@dataclass(frozen=True)
class Conversion:
    """What makes a column out of numbers of a file: `factor` times them; a virial is first divided by −V."""

    unit: str
    factor: float
    sign: str | None = None
    is_virial: bool = False


@dataclass(frozen=True)
class Declared:
    """The units and signs of a database's files, each with its default filled in."""

    units: Mapping[str, Unit]
    signs: Mapping[str, str | None]
    stress_given: bool

    def of(self, name: str, key: str = "") -> Conversion:
        """How a column comes about from what a file holds under `key`.

        A stress whose key holds the word virial is one unless its sign is declared; it is in the unit of the energy.
        """
        kind = _OF_COLUMN.get(name, name)
        if kind not in self.units:
            return Conversion("1", 1.0)
        sign, unit = self.signs.get(name), self.units[kind]
        if name == "stress" and (sign == "virial" or (sign is None and "virial" in key.lower())):
            return self._virial()
        if name == "stress" and unit.powers == _KINDS["energy"][0]:
            raise ValueError(
                f"database.units.stress is {unit.text}, an energy, so what is read must be a virial: declare that with "
                f"database.signs.stress=virial, or give one of {_KINDS['stress'][2]}."
            )
        flips = sign in ("gradients", "pressure")
        return Conversion(unit.text, -unit.factor if flips else unit.factor, sign if flips else None)

    def _virial(self) -> Conversion:
        energy, length = self.units["energy"], self.units["length"]
        if self.stress_given:
            energy = self.units["stress"]
            if energy.powers != _KINDS["energy"][0]:
                raise ValueError(
                    f"database.units.stress is {energy.text}, but what is read is a virial, which is an energy: give "
                    f"one of {_KINDS['energy'][2]}, or null for that of the energy."
                )
        return Conversion(energy.text, energy.factor / length.factor**3, "virial", is_virial=True)


def declared(units: Mapping[str, Any] | None, signs: Mapping[str, Any] | None) -> Declared:
    """What the `units` and `signs` of a database configuration say; null and what is absent stand for the default.

    The defaults are eV, Å and e, and from those of the file energy/length for forces, energy/length³ for stress and
    charge·length for dipoles. A number may stand before a unit: `2.5417 e·Å`, if 1 in the file is 2.5417 e·Å.

    Raises:
        ValueError: for a name that has no unit or sign, and a unit or sign that is unknown or of the wrong kind.
    """
    units = {name: text for name, text in dict(units or {}).items() if text is not None}
    signs = {name: word for name, word in dict(signs or {}).items() if word is not None}
    for section, given, known in (("units", units, list(_KINDS)), ("signs", signs, list(SIGNS))):
        for name in given:
            if name not in known:
                raise ValueError(f"database.{section} names {name!r}. {_nearest(str(name), known)}")
    for name, word in signs.items():
        if word not in SIGNS[name]:
            raise ValueError(f"database.signs.{name} is {word!r}. {_nearest(str(word), SIGNS[name])}")
    found: dict[str, Unit] = {}
    for name, (powers, canonical, examples) in _KINDS.items():
        if name in units:
            found[name] = _declared_unit(name, units[name], powers, examples)
        elif name in _DERIVED and any(part in units for part, _ in _DERIVED[name]):
            (first, _), (second, power) = _DERIVED[name]
            found[name] = found[first].times(found[second], power)
        else:
            found[name] = Unit(canonical, 1.0, powers)
    found = {name: found[name] for name in _KINDS}
    return Declared(found, signs, stress_given="stress" in units)


def unit(text: str) -> Unit:
    """Read a unit: names joined by / and ·, with powers as in Å^3 or Å³, and perhaps a number before them.

    Raises:
        ValueError: for what cannot be read, and for a name that is not known, with the nearest.
    """
    written = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: "^" + found[0].translate(_SUPERSCRIPTS), text)
    written = unicodedata.normalize("NFC", written).replace("**", "^")  # the Ångström sign has a second code
    start = _FACTOR.match(written)
    at = start.end() if start else 0
    result = Unit("", float(start[1]) if start else 1.0, (0, 0, 0, 0))
    first = True
    while at < len(written):
        part = _NAMED.match(written, at)
        if part is None or (first and part[1]):
            break
        power = int(part[3] or 1)
        result = result.times(_named(part[2]), -power if part[1] == "/" else power)
        first, at = False, part.end()
    if first or at < len(written) or not result.factor:
        raise ValueError(f"{text!r} cannot be read as a unit: write it like kcal/mol/Å, eV/Å^3 or 2.5417 e·Å.")
    return Unit(text.strip(), result.factor, result.powers)


def _declared_unit(name: str, given: Any, powers: Powers, examples: str) -> Unit:
    try:
        found = unit(str(given))
    except ValueError as error:
        raise ValueError(f"database.units.{name}: {error}") from None
    is_virial = name == "stress" and found.powers == _KINDS["energy"][0]
    if found.powers != powers and not is_virial:
        raise ValueError(f"database.units.{name} is {given}, which is no unit of {name}: give one of {examples}.")
    return found


def _named(name: str) -> Unit:
    known = _known()
    if name in known:
        return known[name]
    if name in ("atom", "atoms"):
        raise ValueError("energies a atom are not read, since a label is one of the whole structure: multiply them.")
    raise ValueError(f"{name!r} is no unit that is known here. {_nearest(name, list(known))}")


@cache
def _known() -> dict[str, Unit]:
    from ase.units import create_units

    ase = create_units("2018")  # CODATA of that year, whatever ASE's default is; in eV, Å and e
    energy, length, pressure = (1, 0, 0, 0), (0, 1, 0, 0), (1, -3, 0, 0)
    spelled: list[tuple[str, float, Powers]] = [
        ("eV", 1.0, energy),
        ("meV", 1e-3, energy),
        ("Hartree hartree Ha Eh", ase["Hartree"], energy),
        ("Rydberg rydberg Ry", ase["Rydberg"], energy),
        ("kcal", ase["kcal"] / ase["mol"], (1, 0, 0, 1)),
        ("kJ", ase["kJ"] / ase["mol"], (1, 0, 0, 1)),
        ("mol", 1.0, (0, 0, 0, 1)),
        ("Å A Ang angstrom Angstrom", 1.0, length),
        ("Bohr bohr a0", ase["Bohr"], length),
        ("nm", 10.0, length),
        ("pm", 0.01, length),
        ("GPa", ase["GPa"], pressure),
        ("MPa", ase["GPa"] * 1e-3, pressure),
        ("kbar kBar", ase["GPa"] * 0.1, pressure),
        ("bar", ase["GPa"] * 1e-4, pressure),
        ("e", 1.0, (0, 0, 1, 0)),
        ("Debye debye D", ase["Debye"], (0, 1, 1, 0)),
    ]
    return {name: Unit(name, factor, powers) for names, factor, powers in spelled for name in names.split()}


def _nearest(word: str, known: Any) -> str:
    folded = {name.casefold(): name for name in reversed(list(known))}  # of two spellings the first
    near = get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    return f"Did you mean {folded[near[0]]}?" if near else f"Known are {', '.join(known)}."
