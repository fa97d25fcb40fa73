"""How good a model is on data that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import data as datasets
from fastnn import plan
from fastnn.backends.stopping import Stoppable
from fastnn.data import Batches, Dataset
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.interrupts import at_once
from fastnn.nn import CrossEntropyLoss, Module, Normalize
from fastnn.nn.modes import mode
from fastnn.ops.norm import check_pixels, on_scale
from fastnn.plan.fewest import fewest_for
from fastnn.plan.steady import Unsteady
from fastnn.tensor import Tensor, no_grad

from . import finite
from .checks import check_data, check_loss, check_model
from .targets import check_outputs, check_probabilities, check_targets
from .unplanned import tell_without_plan

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        loss: mean over the images.
        accuracy: share of images whose largest output is their class; None if the targets are no classes.
        confusion: (K, K) int64, row = true class, column = the class found; None if the targets are no classes.
        count: number of images.
    """

    loss: float
    accuracy: float | None
    confusion: np.ndarray | None
    count: int

    def __repr__(self) -> str:
        share = "" if self.accuracy is None else f", accuracy {100 * self.accuracy:.2f} %"
        return f"Evaluation(loss {self.loss:.4f}{share}, {self.count} images)"


def evaluate(model: Any, data: Any, *, loss: Any = None, batch_size: int = 256, compile: bool = True) -> Evaluation:
    """Loss, accuracy and confusion matrix of a model, in eval mode and without a tape; its mode is put back afterwards.

    Args:
        model: maps images (N, C, H, W), or other samples (N, ...), to outputs; logits (N, K) for classes.
        data: a data set's name or an image folder (its test part), a `Dataset`, ``(images, labels)``, or `Batches`, of
            which only the images and labels count, not their order or augmentation. uint8 images are divided by 255,
            and uint8 features (N, F) are not, as in `fit`. Other integers are taken in `Batches` alone, as if they
            were uint8; a `Dataset` or arrays have to be uint8 or floating.
        loss: as for `fit`; cross-entropy by default.
        batch_size: images at a time; the result hardly depends on it.
        compile: whether the model is compiled (`fnn.compile`), as for `fit`.

    Raises:
        DataError: no such data. ArgumentError: no images, a loss without reduction, or one that cannot be right for
        such targets and outputs. LabelError: a label that the model has no output for, or targets that are none for
        this loss. NonFiniteError: parameters, buffers, outputs or a loss that are not finite; it says which, and where.
        (Outputs of -inf are taken: a masked class.)

    >>> import fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.5, 0.5), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> result = fnn.evaluate(model, "digits")
    >>> result.count, result.confusion.shape, int(result.confusion.sum())
    (360, (10, 10), 360)
    """
    check_model("evaluate", model)
    check_loss("evaluate", loss)
    dataset = as_dataset(data, "test")
    if not len(dataset):
        raise ArgumentError(f"evaluate: expected at least one image, got {dataset!r}")
    loss = CrossEntropyLoss() if loss is None else loss
    check_targets("evaluate", dataset.labels, loss)
    finite.check_model("evaluate", model)
    with mode(model, training=False), no_grad():  # of the loss, too, and once for all batches
        tally = measure(predictor(model, compile), dataset, loss, batch_size, _Finite(model, dataset))
    return Evaluation(tally.loss, tally.accuracy, tally.confusion, tally.count)


def predictor(model: Any, compile: bool) -> Callable[[np.ndarray], np.ndarray]:
    """What gives a model's outputs, in eval mode, for images as a data set holds them."""
    to_input = input_for(model)

    def eager(images: np.ndarray) -> np.ndarray:
        with mode(model, training=False), no_grad():
            outputs: np.ndarray = model(to_input(images)).data
        return outputs

    if not (compile and isinstance(model, Module)):
        return eager
    planned: Any = plan.compile(model)

    def predict(images: np.ndarray) -> np.ndarray:
        nonlocal planned
        if planned is not None:
            try:
                outputs: np.ndarray = planned(to_input(images))
                return outputs
            except Unsteady as error:
                planned = None
                tell_without_plan("evaluate", model, error)
        return eager(images)

    return predict


def measure(
    predict: Callable[[np.ndarray], np.ndarray],
    dataset: Dataset,
    loss: Any,
    batch_size: int,
    check: Callable[[int, np.ndarray, float], None] | None = None,
) -> Tally:
    """Loss and confusions of all images, batch by batch, in their order.

    `check` is shown where each batch starts, its outputs and its loss.
    """
    tally = Tally(loss)
    batches = Batches(dataset.images, dataset.labels, batch_size)
    if batch_size > 1 and len(dataset) % batch_size == 1 < len(dataset):
        batches.fewest = fewest_for(predict, dataset.images[:2])
    for images, labels in batches:
        with at_once(), Stoppable(images.size):
            outputs = predict(images)
        if not tally.count:
            check_outputs(dataset.labels, outputs.shape, loss)
            check_probabilities("evaluate", outputs, loss)
        with np.errstate(over="ignore", invalid="ignore"):  # the loss says it: infinite, or not a number
            value = loss(Tensor(outputs), Tensor(labels))
        if value.ndim:
            raise ArgumentError(f"expected a loss of one number (reduction 'mean' or 'sum'), got {value.shape}")
        if check is not None:
            check(tally.count, outputs, value.item())
        tally.add(value.item(), outputs, labels, classes=len(dataset.classes))
    return tally


class _Finite:
    """NonFiniteError for outputs or a loss that are not finite."""

    def __init__(self, model: Any, dataset: Dataset) -> None:
        self._model, self._dataset = model, dataset

    def __call__(self, start: int, outputs: np.ndarray, loss: float) -> None:
        if np.isfinite(loss) and (outputs < np.inf).all():  # -inf may stand for a class that is masked
            return
        span = slice(start, start + len(outputs))
        numbers = np.arange(start, start + len(outputs))
        bad = np.flatnonzero(~(outputs < np.inf).reshape(len(outputs), -1).all(axis=1))
        what = f"the outputs for image {numbers[bad[0]]} became non-finite" if len(bad) else f"the loss became {loss}"
        reason = finite.cause(self._model, self._dataset.images[span], self._dataset.labels[span], numbers)
        raise NonFiniteError(f"evaluate: {what}: {reason}")


def as_dataset(data: Any, split: str) -> Dataset:
    """The `Dataset` that a user named, gave as arrays, or has made batches of; `split` counts for names and folders."""
    if isinstance(data, Batches):
        return Dataset(_as_held(data.images), data.labels)
    check_data(data)
    return datasets.load(data, split=split)


def _as_held(images: np.ndarray) -> np.ndarray:
    """Images of `Batches` in a type that a `Dataset` takes: integers as uint8, larger ones of a table as float32."""
    if images.dtype.kind not in "iu" or images.dtype == np.uint8 or images.ndim < 2:
        return images
    if images.ndim == 2 and images.size and (images.min() < 0 or images.max() > 255):
        return images.astype(np.float32)
    check_pixels(images)
    return images.astype(np.uint8)


def input_for(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What samples go through before this model.

    Integers (N, H, W) or (N, C, H, W) are pixels, and are put on the scale 0 .. 1, unless the model's own
    `nn.Normalize` does that. The features (N, F) of a table are numbers, and become float32 if they are integers.
    """
    if normalizes(model):
        return lambda samples: samples

    def numbers(samples: np.ndarray) -> np.ndarray:
        if are_pixels(model, samples):
            return on_scale(samples, np.dtype(np.float32))
        return samples.astype(np.float32) if samples.dtype.kind in "iu" else samples

    return numbers


def normalizes(model: Any) -> bool:
    """Whether the model puts pixels on scale by itself."""
    return any(isinstance(module, Normalize) for module in model.modules())


def are_pixels(model: Any, samples: np.ndarray) -> bool:
    """Whether samples (N, ...) are integers from 0 to 255 that stand for 0 to 1, not the features of a table."""
    return samples.dtype.kind in "iu" and (samples.ndim > 2 or normalizes(model))


class Tally:
    """Mean loss and accuracy over batches of any size, summed in double precision."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss
        self.count = 0
        self._total = 0.0
        self._correct: int | None = None
        self.confusion: np.ndarray | None = None

    def add(self, loss: float, outputs: np.ndarray, labels: np.ndarray, classes: int = 0) -> None:
        """Count one batch: its reduced loss, outputs (N, ...), labels; with `classes`, also who was taken for whom."""
        summed = getattr(self._loss, "reduction", "mean") == "sum"
        self._total += loss * (1 if summed else len(labels))
        self.count += len(labels)
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            return
        if labels.ndim == 2 and isinstance(self._loss, CrossEntropyLoss):
            labels = labels.argmax(axis=1)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            return
        found = outputs.argmax(axis=1)
        self._correct = (self._correct or 0) + int(np.count_nonzero(found == labels))
        if classes:
            classes = max(classes, outputs.shape[1])
            pairs = np.bincount(labels * classes + found, minlength=classes * classes).reshape(classes, classes)
            self.confusion = pairs if self.confusion is None else self.confusion + pairs

    @property
    def loss(self) -> float:
        return self._total / self.count

    @property
    def accuracy(self) -> float | None:
        return None if self._correct is None else self._correct / self.count
