"""The columns that say what a structure is, as input nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from forcefoundry.graph import InputNode


@dataclass(frozen=True)
class Inputs:
    """One input node a structure column; wire a model from these.

    Positions and cells stay float64 whatever the model's dtype: differences of positions are taken in float64 and then
    cast, so a structure far from the origin loses nothing and cached pairs fit the positions to the last bit.
    """

    species: InputNode = field(default_factory=lambda: InputNode("species"))  # (N,)
    positions: InputNode = field(default_factory=lambda: InputNode("positions"))  # (N, 3)
    cell: InputNode = field(default_factory=lambda: InputNode("cell"))  # (S, 3, 3)
    pbc: InputNode = field(default_factory=lambda: InputNode("pbc"))  # (S, 3)
    n_atoms: InputNode = field(default_factory=lambda: InputNode("n_atoms"))  # (S,)
    system_of_atom: InputNode = field(default_factory=lambda: InputNode("system_of_atom"))  # (N,)
