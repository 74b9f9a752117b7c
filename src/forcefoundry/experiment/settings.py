"""How a model is trained, as plain numbers that are checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes.

    kind: `constant`; `cosine` (falls to `floor` at the last epoch, step by step); `plateau` (times `factor` after
    `patience` epochs without a better model, not below `floor`).
    """

    kind: str = "cosine"
    floor: float = 1e-6
    factor: float = 0.5
    patience: int = 10


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run.

    seed: of the order of batches. max_epochs: how long at most. batch_size, evaluation_batch_size: structures in a
    batch at most. max_atoms, max_pairs: atoms and ordered pairs in a batch of either kind at most; None for any number.
    learning_rate: of Adam at the start. gradient_clip: largest norm of all gradients together; None for none.
    patience: epochs without a better model before training ends; None for never. averaging_decay: of the exponential
    average of weights that is validated and kept; None for the weights themselves. best_by: the validation loss whose
    lowest value marks the best model.
    """

    seed: int = 0
    max_epochs: int = 100
    batch_size: int = 8
    evaluation_batch_size: int = 64
    max_atoms: int | None = None
    max_pairs: int | None = None
    learning_rate: float = 5e-3
    schedule: Schedule = field(default_factory=Schedule)
    gradient_clip: float | None = 10.0
    patience: int | None = None
    averaging_decay: float | None = 0.99
    best_by: str = "forces_rmse"

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "evaluation_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}, expected at least 1.")
        for name in ("max_atoms", "max_pairs"):
            most = getattr(self, name)
            if most is not None and not most >= 1:
                raise ValueError(f"training.{name} is {most}, expected at least 1, or null for any number.")
        if not self.learning_rate > 0:
            raise ValueError(f"training.learning_rate is {self.learning_rate}, expected more than 0.")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"training.gradient_clip is {self.gradient_clip}, expected more than 0, or null for none.")
        if self.patience is not None and self.patience < 0:
            raise ValueError(f"training.early_stopping.patience is {self.patience}, expected 0 or more, or null.")
        if self.schedule.patience < 0 or not 0 < self.schedule.factor < 1 or not self.schedule.floor >= 0:
            raise ValueError(
                f"training.schedule needs patience >= 0, 0 < factor < 1 and floor >= 0, got {self.schedule.patience}, "
                f"{self.schedule.factor} and {self.schedule.floor}."
            )
        if self.schedule.kind not in ("constant", "cosine", "plateau"):
            raise ValueError(f"training.schedule.kind is {self.schedule.kind!r}, expected constant, cosine or plateau.")
        if self.averaging_decay is not None and not 0 <= self.averaging_decay < 1:
            raise ValueError(f"training.averaging.decay is {self.averaging_decay}, expected 0 or more and below 1.")

    @classmethod
    def of_params(cls, training: Mapping[str, Any]) -> TrainingSettings:
        """From the `training` section of the parameters; a key that means nothing is a ValueError."""
        values = dict(training)
        values.pop("dtype", None)
        values["schedule"] = Schedule(**_section("schedule.", values.get("schedule"), Schedule))
        values["patience"] = _section("early_stopping.", values.pop("early_stopping", None), ("patience",)).get(
            "patience"
        )
        values["averaging_decay"] = _section("averaging.", values.pop("averaging", None), ("decay",)).get("decay")
        return cls(**_section("", values, cls))


def _section(name: str, values: Mapping[str, Any] | None, known: type | tuple[str, ...]) -> dict[str, Any]:
    """A copy of a section, of which every key means something."""
    keys = tuple(entry.name for entry in fields(known)) if isinstance(known, type) else known
    for key in values or {}:
        if key not in keys:
            near = get_close_matches(key, keys, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(keys)}."
            raise ValueError(f"training.{name}{key} is not a setting. {hint}")
    return dict(values or {})
