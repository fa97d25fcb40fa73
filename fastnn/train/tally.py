"""Mean loss, accuracy and confusions over batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.nn import BCELoss, CrossEntropyLoss
from fastnn.nn.shares import weight_of
from fastnn.trees import count_of, is_tree

from .targets import has_bits

__all__ = ["Tally", "classes_found"]


class Tally:
    """Mean loss and accuracy over batches of any size, summed in double precision.

    Args:
        loss: what the losses come from.
        targets: of the whole data (N, ...): where a binary cross-entropy's are all 0 or 1, they are classes.
    """

    def __init__(self, loss: Any, targets: Any) -> None:
        self._loss, self._binary = loss, has_bits(targets, loss)
        self._summed = getattr(loss, "reduction", "mean") == "sum"
        numbers = isinstance(targets, np.ndarray) and targets.dtype.kind == "f"
        self.needs_outputs = self._binary or not numbers or isinstance(loss, CrossEntropyLoss)  # to tell classes
        self._ignored = getattr(loss, "ignore_index", None)
        self.count = self._labelled = 0
        self._total = self._weights = 0.0
        self._correct: int | None = None
        self.confusion: np.ndarray | None = None

    def add(self, loss: float, outputs: Any, labels: Any, classes: int = 0, weights: float | None = None) -> None:
        """Count one batch: its reduced loss, outputs (N, ...), labels; with `classes`, also who was taken for whom.

        Outputs may be None unless `needs_outputs`. `weights` is the sum of the samples' weights in the loss;
        without, it follows from the loss: its own weights of the labels, or 1 for each sample. A batch of weight 0 has
        no mean.
        """
        count = count_of(labels)
        if weights is None:
            weights = count if self._summed else weight_of(self._loss, labels)
        if weights:
            self._total += loss * (1 if self._summed else weights)
        self.count += count
        self._weights += weights
        if not self.needs_outputs or is_tree(outputs) or is_tree(labels):
            return
        if self._binary and outputs.size == len(outputs):
            labels = labels.reshape(-1).astype(np.int64)
        elif outputs.ndim != 2 or outputs.shape[1] < 2:
            return
        elif labels.ndim == 2 and isinstance(self._loss, CrossEntropyLoss):
            labels = labels.argmax(axis=1)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            return
        found = classes_found(outputs, self._loss)
        if self._ignored is not None and (labels == self._ignored).any():
            found, labels = found[labels != self._ignored], labels[labels != self._ignored]
        self._labelled += len(labels)
        self._correct = (self._correct or 0) + int(np.count_nonzero(found == labels))
        if classes:
            classes = max(classes, 2, *outputs.shape[1:])
            pairs = np.bincount(labels * classes + found, minlength=classes * classes).reshape(classes, classes)
            self.confusion = pairs if self.confusion is None else self.confusion + pairs

    def join(self, collect: Callable[[Any], list[Any]], whole: bool) -> None:
        """Add the counts of other processes, in their order; `collect` gives every process's value.

        `whole` says whether the losses that each has counted are those of all processes' samples.
        """
        names = ("count", "_labelled", "_total", "_weights", "_correct", "confusion")
        every = collect([getattr(self, name) for name in names])
        for name, values in zip(names, zip(*every, strict=True), strict=True):
            known = [value for value in values if value is not None]
            once = name == "_total" and whole and self._summed
            setattr(self, name, None if not known else known[0] if once else sum(known[1:], known[0]))

    @property
    def loss(self) -> float:
        return self._total / self._weights if self._weights else float("nan")

    @property
    def accuracy(self) -> float | None:
        """The share of the labels that were found; those that the loss ignores are none."""
        return None if self._correct is None else self._correct / self._labelled if self._labelled else float("nan")


def classes_found(outputs: np.ndarray, loss: Any) -> np.ndarray:
    """The classes (N,) that outputs (N, K) say; of one output for two classes, 1 where yes is likelier."""
    if outputs.size == len(outputs):
        likelier: np.ndarray = outputs.reshape(-1) > (0.5 if isinstance(loss, BCELoss) else 0)
        return likelier.astype(np.int64)
    return outputs.argmax(axis=1)
