"""Training: Adam over shuffled batches, judged after every epoch, resumed where it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forcefoundry.batches import Batch, Packer, Sampler, in_order, prefetched
from forcefoundry.databases.database import Database
from forcefoundry.experiment.assembly import TrainingModules
from forcefoundry.experiment.averaging import AveragedWeights
from forcefoundry.experiment.checkpoint import load_checkpoint, save_checkpoint
from forcefoundry.experiment.flat import FlatWeights
from forcefoundry.experiment.settings import TrainingSettings

Row = dict[str, float]


@dataclass(frozen=True)
class TrainingResult:
    """What came of it: the best weights are in the model. `seconds` counts all sittings of a resumed run."""

    history: list[Row]
    best_epoch: int
    stopped: str
    seconds: float


class Trainer:
    """Trains an assembled model.

    The order of batches is a function of the seed and the epoch, and everything else that training depends on is in
    the checkpoint, so an interrupted run that goes on gives the same weights as one that was left alone.

    Args:
        modules: model, training loss and evaluator.
        database: with `inputs` and `targets` set and the splits `train` and `valid`.
        settings: how to train.
        device: where the model is.
        checkpoint: where to keep the state after each epoch; None keeps none.
        on_epoch: told of each epoch as it ends.
        on_batch: told the number of structures of each batch as it ends.
        workers: threads that pack the next batches meanwhile; changes no bit.
    """

    def __init__(
        self,
        modules: TrainingModules,
        database: Database,
        settings: TrainingSettings,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        on_epoch: Callable[[Row], None] = lambda row: None,
        on_batch: Callable[[int], None] = lambda n: None,
        workers: int = 0,
    ):
        self.modules = modules
        self.settings = settings
        self.checkpoint = checkpoint
        self._on_epoch, self._on_batch = on_epoch, on_batch
        for name in ("train", "valid"):
            if not len(database.split(name)):
                raise ValueError(f"The split {name!r} is empty. Give it structures: raise database.split, or add data.")
        if settings.best_by not in modules.evaluator.names:
            raise ValueError(
                f"training.best_by is {settings.best_by!r}, expected one of {', '.join(modules.evaluator.names)}."
            )
        if settings.best_by in modules.evaluator.higher_is_better:
            raise ValueError(
                f"training.best_by is {settings.best_by!r}, which is better the higher it is; the best weights are "
                "those of the lowest value. Name an error such as a MAE or an RMSE."
            )
        _check_inputs(database)
        self._packer = Packer(database, [*database.inputs, *database.targets], device)
        budgets = self._packer.budgets(settings.max_atoms, settings.max_pairs)
        self._sampler = Sampler(database.split("train"), settings.batch_size, settings.seed, budgets)
        self._valid = in_order(database.split("valid"), settings.evaluation_batch_size, budgets)
        self._workers = workers
        self._inputs, self._targets = list(database.inputs), list(database.targets)
        model = modules.model.to(device)
        modules.loss.to(device)
        self._flat = FlatWeights([weight for weight in model.parameters() if weight.requires_grad])
        self._weights = self._flat.vectors
        self._optimizer = torch.optim.Adam(self._weights, lr=settings.learning_rate, fused=True)
        self._average = AveragedWeights(self._weights, settings.averaging_decay)
        self._best = [weight.detach().clone() for weight in self._weights]
        self._best_value, self._best_epoch = math.inf, 0
        self._since_better = 0
        self._rate = settings.learning_rate
        self._history: list[Row] = []
        self._seconds = 0.0

    def run(self) -> TrainingResult:
        """Train to the end and put the best weights into the model."""
        self._resume()
        stopped = "max_epochs"
        while len(self._history) < self.settings.max_epochs:
            if self._out_of_patience():
                stopped = "early_stopping"
                break
            started = time.perf_counter()
            epoch = len(self._history) + 1
            self._set_rate(epoch - 1)
            self._tell_loss(epoch - 1)
            row: Row = {"epoch": epoch, "learning_rate": self._rate, "train_loss": self._train_epoch(epoch)}
            with self._average.in_place():
                row |= {f"valid_{name}": value for name, value in self._validate().items()}
                self._keep_if_best(row, epoch)
            self._history.append(row)
            self._adapt_rate()
            self._seconds += time.perf_counter() - started
            self._save()
            self._on_epoch(row)
        with torch.no_grad():
            for weight, best in zip(self._weights, self._best, strict=True):
                weight.copy_(best)
        return TrainingResult(self._history, self._best_epoch, stopped, self._seconds)

    def _train_epoch(self, epoch: int) -> float:
        model, loss = self.modules.model.train(), self.modules.loss.train()
        total, n_structures = 0.0, 0
        batches = self._sampler.epoch(epoch)
        with prefetched(self._packer, batches, self._workers) as packed:
            for number, structures in enumerate(batches):
                batch = next(packed)
                self._set_rate(epoch - 1 + number / len(batches))
                self._flat.zero_grad()
                value = self._loss_of(model, loss, batch)
                del batch  # so that the next one can have its memory
                total += float(value.detach()) * len(structures)
                n_structures += len(structures)
                if not math.isfinite(total):
                    raise ValueError(
                        f"The training loss became {float(value.detach())} in epoch {epoch}, batch {number + 1} of "
                        f"{len(batches)}. Lower training.learning_rate, or set training.gradient_clip."
                    )
                self._step(value)
                self._on_batch(len(structures))
        return total / n_structures

    def _step(self, value: torch.Tensor) -> None:
        value.backward()  # type: ignore[no-untyped-call]
        if self.settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._weights, self.settings.gradient_clip)
        self._optimizer.step()
        self._average.update()

    def _loss_of(self, model: torch.nn.Module, loss: torch.nn.Module, batch: Batch) -> torch.Tensor:
        outputs = model(*(batch[name] for name in self._inputs))
        value: torch.Tensor = loss(*outputs, *(batch[name] for name in self._targets))[0]
        return value

    def _validate(self) -> dict[str, float]:
        with prefetched(self._packer, self._valid, self._workers) as packed:
            return self.modules.evaluator.evaluate(packed)

    def _keep_if_best(self, row: Row, epoch: int) -> None:
        value = row[f"valid_{self.settings.best_by}"]
        if math.isnan(value):
            raise ValueError(
                f"The validation metric {self.settings.best_by} is not a number after epoch {epoch}, so no model can "
                "be the best. Look for broken labels in the valid split, or lower training.learning_rate."
            )
        if value < self._best_value:
            self._best_value, self._best_epoch, self._since_better = value, epoch, 0
            self._best = [weight.detach().clone() for weight in self._weights]
        else:
            self._since_better += 1

    def _tell_loss(self, epochs_done: int) -> None:
        for module in self.modules.loss.modules():
            if (set_epoch := getattr(module, "set_epoch", None)) is not None:
                set_epoch(epochs_done)

    def _set_rate(self, epochs_done: float) -> None:
        schedule = self.settings.schedule
        if schedule.kind == "cosine":
            fall = 0.5 * (1.0 + math.cos(math.pi * epochs_done / self.settings.max_epochs))
            self._rate = schedule.floor + (self.settings.learning_rate - schedule.floor) * fall
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate

    def _adapt_rate(self) -> None:
        schedule = self.settings.schedule
        if schedule.kind == "plateau" and self._since_better and self._since_better % (schedule.patience + 1) == 0:
            self._rate = max(self._rate * schedule.factor, schedule.floor)

    def _out_of_patience(self) -> bool:
        return self.settings.patience is not None and self._since_better > self.settings.patience

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state: dict[str, Any] = {
            "weights": [weight.detach() for weight in self._weights],
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state(),
            "best": self._best,
            "best_value": self._best_value,
            "best_epoch": self._best_epoch,
            "since_better": self._since_better,
            "rate": self._rate,
            "history": self._history,
            "seconds": self._seconds,
        }
        save_checkpoint(self.checkpoint, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint) if self.checkpoint is not None else None
        if state is None:
            return
        with torch.no_grad():
            for weight, saved in zip(self._weights, state["weights"], strict=True):
                weight.copy_(saved)
            for best, saved in zip(self._best, state["best"], strict=True):
                best.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._average.load(state["average"])
        self._best_value, self._best_epoch = state["best_value"], state["best_epoch"]
        self._since_better, self._rate = state["since_better"], state["rate"]
        self._history, self._seconds = state["history"], state["seconds"]
        for row in self._history:
            self._on_epoch(row)


def _check_inputs(database: Database) -> None:
    """Refuse a column that the model reads and that not every structure has: a label may be absent, an input not."""
    for name in database.inputs:
        values = database.columns.get(name) if name in database.partial else None
        if values is not None and np.isnan(values).any():
            row = int(np.argmax(np.isnan(values.reshape(len(values), -1)).any(axis=1)))
            raise ValueError(
                f"The model reads the column {name!r}, which is absent in row {row}. Leave such structures out."
            )
