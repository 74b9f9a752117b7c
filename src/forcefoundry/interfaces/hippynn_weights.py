"""A state_dict of hippynn: which node each weight belongs to, and what network the weights are those of."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

IN_NODE = re.compile(r"(?P<node>(?:.*\.)?moddict\.[^.]+\.)(?P<name>.+)")
"""A node is called after its place in the order of evaluation, which is another in another process."""

ROLES = {
    "species encoder": re.compile(r"species_map"),
    "network": re.compile(r"blocks\.\d+\.\d+\..+"),
    "energy": re.compile(r"layers\.\d+\.(weight|bias)"),
    "penalty": re.compile(r"network\.(?P<name>blocks\.\d+\.\d+\..+)"),
}
"""What the nodes of an energy model hold. A penalty holds its network, so that every weight comes once more."""

CUSP = "._extra_state"
WHOLE = "Give the state_dict of a whole energy model, with its forces or without, as in best_model.pt."
NO_PLACE = "for which the network here has no place. The model cannot be moved."


@dataclass(frozen=True)
class Weights:
    """The weights of one network and its energy.

    values: by their names within their nodes. cusps: ε of each interaction layer with tensors. nodes: role to the first
    part of the names, for messages.
    """

    source: str
    values: Mapping[str, torch.Tensor]
    cusps: Mapping[str, float]
    nodes: Mapping[str, str]

    @classmethod
    def read(cls, path: Path | str) -> Weights:
        """Read a file without running anything that lies in it."""
        nodes, found = _one_of_each(str(path), _by_node(str(path), _load(path)))
        cusps, values = {}, {}
        for name, value in found.items():
            if name.endswith(CUSP) and isinstance(value, dict) and list(value) == ["cusp_reg"]:
                cusps[name.removesuffix(CUSP)] = float(value["cusp_reg"])
            elif not isinstance(value, torch.Tensor) or not bool(torch.isfinite(value).all()):
                kind = "NaN or Inf" if isinstance(value, torch.Tensor) else type(value).__name__
                raise ValueError(f"{path}: {name!r} holds {kind}, expected finite numbers. The model cannot be moved.")
            else:
                values[name] = value
        return cls(str(path), values, cusps, nodes)

    @property
    def dtype(self) -> str:
        """float32 or float64, what the network was trained in."""
        dtypes = {value.dtype: name for name, value in self.values.items() if name != "species_map"}
        if len(dtypes) != 1 or not set(dtypes) <= {torch.float32, torch.float64}:
            told = ", ".join(f"{self._called(name)!r} is {dtype}" for dtype, name in dtypes.items())
            raise ValueError(f"{self.source}: {told}, expected all weights in float32 or all in float64.")
        return str(*dtypes).removeprefix("torch.")

    def architecture(self) -> dict[str, Any]:
        """The arguments of the network here that its weights tell, and `first_is_interacting`."""
        layers = [tuple(map(int, name.split(".")[1:3])) for name in self.values if name.startswith("blocks.")]
        n_blocks = 1 + max(block for block, _ in layers)
        resnet = any(".base_layer." in name for name in self.values)
        interactions = [f"blocks.{block}.0{'.base_layer' if resnet else ''}" for block in range(n_blocks)]
        V = [self._shape(f"{name}.int_weights", 3) for name in interactions]  # (n_ν, inner, in) of each
        n_inner = [shape[1] for shape in V]
        widths = n_inner
        if resnet:
            widths = [self._shape(f"blocks.{block}.0.res_layer.weight", 2)[0] for block in range(n_blocks)]
        l_max = sum(any(name.endswith(scale) for name in self.values) for scale in (".vecscales", ".quadscales"))
        told = {
            "species": self._species(n_features=V[0][2]),
            "n_features": widths,
            "n_sensitivities": V[0][0],
            "n_interactions": n_blocks,
            "n_atom_layers": max(depth for _, depth in layers),
            "n_inner": n_inner if n_inner != widths else None,
            "l_max": l_max,
            "resnet": resnet,
            "first_is_interacting": self._first_is_interacting(n_blocks),
        }
        return told | self._cusp(interactions if l_max else [])

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse weights that are not exactly those expected, each with its shape."""
        for name in expected:
            if name not in self.values:
                raise ValueError(f"{self.source} lacks {self._called(name)!r}. {WHOLE}")
        for name, value in self.values.items():
            if name not in expected and name != "species_map":
                raise ValueError(f"{self.source} holds {self._called(name)!r}, {NO_PLACE}")
            if name in expected and tuple(value.shape) != expected[name]:
                raise ValueError(
                    f"{self.source}: {self._called(name)!r} has shape {tuple(value.shape)}, expected {expected[name]}."
                )

    def _called(self, name: str) -> str:
        return self.nodes["energy" if name.startswith("layers.") else "network"] + name

    def _shape(self, name: str, n_axes: int) -> tuple[int, ...]:
        if name not in self.values:
            raise ValueError(f"{self.source} lacks {self._called(name)!r}. {WHOLE}")
        shape = tuple(self.values[name].shape)
        if len(shape) != n_axes:
            raise ValueError(f"{self.source}: {self._called(name)!r} has shape {shape}, expected {n_axes} axes.")
        return shape

    def _species(self, n_features: int) -> list[int]:
        """Row Z of their map is the place of element Z in `possible_species`, of which place 0 is padding."""
        place = self.values["species_map"].flatten().tolist()
        elements = sorted((at, z) for z, at in enumerate(place) if at != 0)
        if [at for at, _ in elements] != list(range(1, n_features + 1)):
            raise ValueError(
                f"{self.source}: {self.nodes['species encoder']}species_map knows {len(elements)} elements "
                f"({[z for _, z in elements]}), but the network was made for {n_features}."
            )
        return [z for _, z in elements]

    def _first_is_interacting(self, n_blocks: int) -> bool:
        n_terms = 1 + max(int(name.split(".")[1]) for name in self.values if name.startswith("layers."))
        if n_terms not in (n_blocks, n_blocks + 1):
            raise ValueError(
                f"{self.source}: {self.nodes['energy']}layers are {n_terms}, but the network has {n_blocks} blocks: "
                f"expected {n_blocks + 1}, or {n_blocks} where the first is interacting."
            )
        return n_terms == n_blocks

    def _cusp(self, interactions: list[str]) -> dict[str, float]:
        """ε, which is one number for all layers; nothing where there is none, as in old files."""
        for name in self.cusps:
            if name not in interactions:
                raise ValueError(f"{self.source} holds {self._called(name + CUSP)!r}, {NO_PLACE}")
        for name in interactions:
            if self.cusps and name not in self.cusps:
                raise ValueError(f"{self.source} lacks {self._called(name + CUSP)!r}. {WHOLE}")
        if len(set(self.cusps.values())) > 1:
            raise ValueError(f"{self.source} has cusp_reg {sorted(set(self.cusps.values()))}, expected one for all.")
        return {"cusp": next(iter(self.cusps.values()))} if self.cusps else {}


def _load(path: Path | str) -> dict[str, Any]:
    try:
        # Opening a pickled graph can run anything; with weights_only there are tensors and plain values, or an error.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # Torch's own words are left to the traceback: they explain how to open the file regardless.
        raise ValueError(
            f"{path} is not a file of weights alone, and no other is opened. Give the best_model.pt of a run, or write "
            "one with torch.save(model.state_dict(), ...)."
        ) from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds {type(content).__name__}, expected a state_dict. {WHOLE}")
    return content


def _by_node(source: str, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    nodes: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        match = IN_NODE.fullmatch(str(name))
        if match is None:
            raise ValueError(f"{source} holds {name!r}, expected names like moddict.node4.layers.0.weight. {WHOLE}")
        nodes.setdefault(match["node"], {})[match["name"]] = value
    return nodes


def _one_of_each(source: str, nodes: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, Any]]:
    """Tell the nodes' roles from what they hold; give the prefix of each, and their weights together."""
    by_role: dict[str, list[str]] = {role: [] for role in ROLES}
    for prefix, weights in nodes.items():
        by_role[_role(source, prefix, weights)].append(prefix)
    penalties = by_role.pop("penalty")
    for role, prefixes in by_role.items():
        if len(prefixes) != 1:
            which = f" ({', '.join(prefix.rstrip('.') for prefix in prefixes)})" if prefixes else ""
            raise ValueError(
                f"{source} holds {len(prefixes) or 'no'} {role}{which}, expected one: what can be moved is one network "
                f"with one energy. {WHOLE}"
            )
    first = {role: prefixes[0] for role, prefixes in by_role.items()}
    together = {name: value for prefix in first.values() for name, value in nodes[prefix].items()}
    for prefix in penalties:
        for name, value in nodes[prefix].items():
            original = together.get(name.removeprefix("network."))
            same = torch.equal(value, original) if isinstance(original, torch.Tensor) else value == original
            if not same:
                raise ValueError(f"{source}: {prefix + name!r} is a penalty's copy of a weight that differs from it.")
    return first, together


def _role(source: str, prefix: str, weights: Mapping[str, Any]) -> str:
    found = [role for role, pattern in ROLES.items() if pattern.fullmatch(next(iter(weights)))]
    for name in weights:
        if not found or not ROLES[found[0]].fullmatch(name):
            raise ValueError(
                f"{source} holds {prefix + name!r}, which is no weight of a HIP-NN energy, so the model cannot be "
                "moved. Assemble and save it with the energy, its forces and nothing else."
            )
    return found[0]
