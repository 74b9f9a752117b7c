"""What a file of hippynn weights does not say, under the names that hippynn has for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from ase import units

ENERGY_UNITS: Mapping[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
}
"""Each in eV."""

DISTANCES = {"soft_min": "dist_soft_min", "soft_max": "dist_soft_max", "cutoff": "dist_hard_max"}
"""Our names and theirs; Å."""

NEEDED = (*DISTANCES.values(), "energy_unit")
ASSUMED = {"activation": "softplus", "sensitivity_type": "inverse"}
"""What cannot be seen in weights either, but is nearly always as it is by default."""

CHECKED = (
    "possible_species",
    "n_input_features",
    "n_features",
    "n_sensitivities",
    "n_interaction_layers",
    "n_atom_layers",
    "resnet",
    "cusp_reg",
    "l_max",
    "first_is_interacting",
)
"""What weights say as well: settings may leave it out, and must not say otherwise."""


@dataclass(frozen=True)
class Settings:
    """Settings as they were given, with every name known and none missing."""

    given: Mapping[str, Any]
    source: str

    @classmethod
    def read(cls, settings: Path | str | Mapping[str, Any]) -> Settings:
        """Read a yaml file, or take a mapping as it is."""
        if isinstance(settings, Mapping):
            given, source = dict(settings), "the settings"
        else:
            source = str(settings)
            try:
                given = yaml.safe_load(Path(settings).read_text(encoding="utf-8"))
            except yaml.YAMLError as error:
                raise ValueError(f"{source} is not a file of plain yaml: {error}") from error
        if not isinstance(given, dict):
            raise ValueError(f"{source} holds {type(given).__name__}, expected settings, one `name: value` a line.")
        known = (*NEEDED, *ASSUMED, *CHECKED)
        for name in given:
            if name not in known:
                near = get_close_matches(str(name), known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
                raise ValueError(f"{source}: {name!r} is not a setting of a hippynn network. {hint}")
        lacking = [name for name in NEEDED if name not in given]
        if lacking:
            raise ValueError(
                f"{source} lacks {', '.join(lacking)}, which weights do not tell. Add what was trained with."
            )
        return cls(given, source)

    @property
    def energy_unit(self) -> float:
        """The unit of the energies that were trained on, in eV."""
        unit = self.given["energy_unit"]
        if unit not in ENERGY_UNITS:
            raise ValueError(f"{self.source}: energy_unit is {unit!r}, expected one of {', '.join(ENERGY_UNITS)}.")
        return ENERGY_UNITS[unit]

    def network(self, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the network here that its weights do not tell."""
        kind = self.given.get("sensitivity_type", ASSUMED["sensitivity_type"])
        if kind != "inverse":
            raise ValueError(
                f"{self.source}: sensitivity_type is {kind!r}, but the sensitivities here are those of the paper, "
                "'inverse'. This model cannot be moved."
            )
        distances = {name: self._number(theirs) for name, theirs in DISTANCES.items()}
        activation = str(self.given.get("activation", ASSUMED["activation"])).lower()
        network = {**distances, "activation": activation}
        if architecture["l_max"] and "cusp" not in architecture:
            if "cusp_reg" not in self.given:
                raise ValueError(
                    f"{self.source} lacks cusp_reg, and so do the weights, as old ones do. Add it; hippynn takes 1e-30 "
                    "when it loads such weights."
                )
            network["cusp"] = self._number("cusp_reg")
        return network

    def check(self, architecture: Mapping[str, Any]) -> None:
        """Refuse settings that are at odds with what the weights tell."""
        told = _as_theirs(architecture)
        for name in CHECKED:
            if name not in self.given or name not in told:
                continue
            value = self._number(name) if name == "cusp_reg" else _spelt_out(name, self.given[name], architecture)
            if value != told[name]:
                raise ValueError(
                    f"{self.source}: {name} is {self.given[name]!r}, but the weights are those of a network with "
                    f"{name} = {told[name]!r}. Give what was trained with, or leave it out."
                )

    def _number(self, name: str) -> float:
        try:
            # Yaml reads 1e-6, without a point, as text.
            return float(self.given[name])
        except (TypeError, ValueError):
            raise ValueError(f"{self.source}: {name} is {self.given[name]!r}, expected a number.") from None


def _as_theirs(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights tell, as hippynn's arguments; `resnet` as the inner widths."""
    widths = architecture["n_features"]
    told = {
        "possible_species": [0, *architecture["species"]],
        "n_input_features": len(architecture["species"]),
        "n_features": widths,
        "n_sensitivities": architecture["n_sensitivities"],
        "n_interaction_layers": architecture["n_interactions"],
        "n_atom_layers": architecture["n_atom_layers"],
        "resnet": (architecture["n_inner"] or widths) if architecture["resnet"] else False,
        "l_max": architecture["l_max"],
        "first_is_interacting": architecture["first_is_interacting"],
    }
    return told | ({"cusp_reg": architecture["cusp"]} if "cusp" in architecture else {})


def _spelt_out(name: str, value: Any, architecture: Mapping[str, Any]) -> Any:
    """One width for all blocks as one a block, and `resnet: true` as the inner widths that it means."""
    if name == "resnet" and value in (True, False):
        return architecture["n_features"] if value else False
    if name in ("n_features", "resnet") and isinstance(value, int):
        return [value] * architecture["n_interactions"]
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
