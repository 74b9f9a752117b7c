"""Which values of a batch count: those that are labelled and whose weight is not zero; and sums over these.

NaN in a true value means that there is no label: the value adds nothing and counts nothing. Its place is filled with
zero before anything is made of it, so that no derivative of any order meets it. NaN in a prediction of something that
is labelled is a fault, and stays to be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch


class Counted:
    """The values (n,) of a batch, float64, with 0 in place of those that do not count, and sums over those that do.

    New tensors of the size of a batch cost more than what is computed with them: few are made, and shared.

    Args:
        tensors: the values, then their weights where `weights` names them, then labels without which a value does not
            count. Weights and labels have the values' shape or one number a row.
        weights: the name of the weights, None where there are none.
        called: the name of the loss, for errors.

    Attributes:
        weights: (n,) with 0 for values that do not count; None where all that counts weighs the same.
        number: how many values count.
    """

    n_compared = 1
    """How many tensors come before the weights."""

    def __init__(self, tensors: Sequence[torch.Tensor], weights: str | None = None, called: str = "loss"):
        compared = alike([tensor.double() for tensor in tensors[: self.n_compared]], called)
        rest = list(tensors[self.n_compared :])
        given = None if weights is None else rows_like(rest.pop(0), compared[0], called).double()
        absent = _absent([*compared[1:], *rest], given, compared[0], called)
        self._absent = None if absent is None else flat(absent)
        self.number = compared[0].numel()
        if self._absent is not None:
            self.number -= int(self._absent.count_nonzero())
        self.weights: torch.Tensor | None = None
        if given is not None:
            self.weights = self.filled(flat(given))
            _check_weights(self.weights, str(weights), called)
        self._take(compared)

    def _take(self, compared: list[torch.Tensor]) -> None:
        self.values = self.filled(flat(compared[0]))

    def filled(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers (n,) with 0 in place of those that do not count."""
        return numbers if self._absent is None else numbers.masked_fill(self._absent, 0.0)

    def fill_(self, fresh: torch.Tensor) -> torch.Tensor:
        """The same in place, for a tensor that nothing else uses."""
        return fresh if self._absent is None else fresh.masked_fill_(self._absent, 0.0)

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """Σ w x, shape (), for a number x (n,) of each value."""
        return self.filled(numbers).sum() if self.weights is None else torch.dot(self.weights, numbers)

    @cached_property
    def count(self) -> torch.Tensor:
        """How many values count, shape ()."""
        return torch.full((), self.number, dtype=torch.float64)  # on the CPU, where it costs no transfer

    @cached_property
    def total(self) -> torch.Tensor:
        """Σ w, shape ()."""
        return self.count if self.weights is None else self.weights.sum()

    @cached_property
    def first(self) -> torch.Tensor:
        """Σ w v, shape ()."""
        return self.values.sum() if self.weights is None else torch.dot(self.weights, self.values)

    @cached_property
    def squares(self) -> torch.Tensor:
        """Σ w v², shape ()."""
        weighted = self.values if self.weights is None else self.weights * self.values
        return torch.dot(weighted, self.values)

    @cached_property
    def absolute(self) -> torch.Tensor:
        """Σ w |v|, shape ()."""
        if self.weights is None:
            norm: torch.Tensor = torch.linalg.vector_norm(self.values, 1)
            return norm
        return torch.dot(self.weights, self.values.abs())


class Differences(Counted):
    """The differences (n,) of predictions and true values, and how the true values are spread."""

    n_compared = 2

    def _take(self, compared: list[torch.Tensor]) -> None:
        pred, self.true = compared
        self.values = self.fill_(flat(pred - self.true))

    @cached_property
    def spread(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A true value c, the mean of t - c, and Σ w (t - c - mean)², each of shape ().

        Taken about one of the values, the mean keeps its digits where energies are large and differ by little.
        """
        if not self.number:
            return self.first, self.first, self.first  # zeros
        true = flat(self.true)
        about = true[self._any_that_counts()]
        shifted = self.fill_(true - about)
        mean = (shifted.sum() if self.weights is None else torch.dot(self.weights, shifted)) / self.total
        shifted = self.fill_(shifted - mean if mean.requires_grad else shifted.sub_(mean))
        weighted = shifted if self.weights is None else self.weights * shifted
        return about, mean, torch.dot(weighted, shifted)

    def _any_that_counts(self) -> int:
        if self._absent is None or not bool(self._absent[0]):
            return 0
        return int(self._absent.to(torch.uint8).argmin())


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers (n,) of a tensor of any shape."""
    return tensor if tensor.ndim == 1 else tensor.reshape(-1)


def alike(tensors: list[torch.Tensor], called: str) -> list[torch.Tensor]:
    """Tensors of one shape; (n,) and (n, 1) count as equal, any other mismatch is a ValueError."""
    if len(tensors) == 1 or tensors[0].shape == tensors[1].shape:
        return tensors
    least = min((tensor.shape for tensor in tensors), key=len)
    if any(tensor.shape not in (least, (*least, 1)) for tensor in tensors):
        shapes = ", the true values ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"The loss {called!r}: predictions have shape {shapes}. Both must have the same.")
    return [tensor.reshape(least) for tensor in tensors]


def rows_like(tensor: torch.Tensor, values: torch.Tensor, called: str) -> torch.Tensor:
    """The tensor in the values' shape; one number for all is repeated, and one number a row along the row."""
    if tensor.shape == values.shape:
        return tensor
    if tensor.ndim == 0:
        return tensor.expand_as(values)
    rows = tensor.shape[:1]
    if rows == values.shape[:1] and tensor.shape[1:].numel() == 1:
        return tensor.reshape(*rows, *[1] * (values.ndim - 1)).expand_as(values)
    raise ValueError(
        f"The loss {called!r}: weights or labels have shape {tuple(tensor.shape)}, expected {tuple(values.shape)} like "
        "the values, or one number a row."
    )


def _absent(
    labels: Sequence[torch.Tensor], weights: torch.Tensor | None, values: torch.Tensor, called: str
) -> torch.Tensor | None:
    """Where values do not count, bool in their shape; None where all do."""
    absent = None if weights is None else weights == 0
    for label in labels:
        # The sum of numbers is a number unless one of them is none, and costs less than asking each of them.
        if math.isfinite(float(label.detach().sum())):
            continue
        if not math.isfinite(float(label.detach().nansum())) and bool(label.isinf().any()):
            raise ValueError(f"The loss {called!r}: a true value is infinite. Repair it, or put NaN for no label.")
        unlabelled = rows_like(label, values, called).isnan()
        absent = unlabelled if absent is None else absent | unlabelled
    return absent


def _check_weights(weights: torch.Tensor, name: str, called: str) -> None:
    if not weights.numel():
        return
    least, most = (float(bound) for bound in torch.aminmax(weights.detach()))
    if not (least >= 0 and most < math.inf):
        wrong = most if least >= 0 else least
        raise ValueError(
            f"The loss {called!r}: a weight in {name!r} is {wrong}, expected finite numbers of 0 or more. Correct them."
        )
