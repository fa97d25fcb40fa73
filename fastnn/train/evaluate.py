"""How good a model is on data that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import data as datasets
from fastnn import plan, tables
from fastnn.backends.stopping import Stoppable
from fastnn.data import Batches, Dataset
from fastnn.data.about import About, about
from fastnn.data.loading import of_files, part_to_measure
from fastnn.data.samples import Samples, is_several
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.interrupts import at_once
from fastnn.nn import CrossEntropyLoss, Embedding, EmbeddingBag, Module, Normalize
from fastnn.nn.arguments import spread
from fastnn.nn.modes import mode
from fastnn.ops.norms import check_pixels, on_scale
from fastnn.plan.fewest import fewest_for
from fastnn.plan.steady import Unsteady
from fastnn.tensors import Tensor, no_grad
from fastnn.trees import count_of, flatten, is_tree, map_arrays, take

from . import finite
from .checks import check_data, check_loss, check_model
from .named import named_loss
from .targets import check_outputs, check_probabilities, check_targets
from .unplanned import tell_without_plan

__all__ = ["Evaluation", "evaluate"]

MOST_CLASSES_SHOWN = 20  # a larger confusion matrix fits no screen


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
        return f"Evaluation(loss {tables.decimal(self.loss)}{share}, {self.count} images)"

    def _repr_html_(self) -> str:
        """The numbers, and the confusion matrix unless it is larger than a screen."""
        if self.confusion is None or len(self.confusion) > MOST_CLASSES_SHOWN:
            return tables.html_text(repr(self))
        head = ["true class ↓ taken for →", *map(str, range(len(self.confusion)))]
        rows = ([i, *(count or "" for count in row)] for i, row in enumerate(self.confusion.tolist()))
        return tables.html_table([head, *rows], repr(self))


def evaluate(model: Any, data: Any, *, loss: Any = None, batch_size: int = 256, compile: bool = True) -> Evaluation:
    """Loss, accuracy and confusion matrix of a model, in eval mode and without a tape; its mode is put back afterwards.

    Args:
        model: maps images (N, C, H, W), or other samples (N, ...), to outputs; logits (N, K) for classes.
        data: a data set's name (its test part); an image folder or a list of image files (its test part where it has
            one or the model was trained on it, else all of it; prepared as the training images were where `fit` or
            `load_run` noted how); a `Dataset`, ``(images, labels)``, or `Batches`, of
            which only the images and labels count, not their order or augmentation. uint8 images are divided by 255,
            and uint8 features (N, F) are not, as in `fit`. Other integers are taken in `Batches` alone, as if they
            were uint8; a `Dataset` or arrays have to be uint8 or floating. Images and labels may each be a tuple or a
            dict of arrays, as in `fit`.
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
    loss = named_loss("evaluate", loss)
    check_loss("evaluate", loss)
    dataset = as_dataset(data, "test", about(model))
    if not len(dataset):
        raise ArgumentError(f"evaluate: expected at least one image, got {dataset!r}")
    loss = CrossEntropyLoss() if loss is None else loss
    check_targets("evaluate", dataset.labels, loss)
    finite.check_model("evaluate", model)
    with mode(model, training=False), no_grad():  # of the loss, too, and once for all batches
        tally = measure(predictor(model, compile), dataset, loss, batch_size, _Finite(model, dataset))
    return Evaluation(tally.loss, tally.accuracy, tally.confusion, tally.count)


def predictor(model: Any, compile: bool) -> Callable[[Any], Any]:
    """What gives a model's outputs, in eval mode, for images as a data set holds them."""
    to_input = input_for(model)

    def eager(images: Any) -> Any:
        args, kwargs = spread(model, to_input(images))
        with mode(model, training=False), no_grad():
            return map_arrays(lambda output: output.numpy(), model(*args, **kwargs))

    if not (compile and isinstance(model, Module)):
        return eager
    planned: Any = plan.compile(model)

    def predict(images: Any) -> Any:
        nonlocal planned
        if planned is not None:
            try:
                args, kwargs = spread(model, to_input(images))
                return planned(*args, **kwargs)
            except Unsteady as error:
                planned = None
                tell_without_plan("evaluate", model, error)
        return eager(images)

    return predict


def measure(
    predict: Callable[[Any], Any],
    dataset: Dataset | Samples,
    loss: Any,
    batch_size: int,
    check: Callable[[int, Any, float], None] | None = None,
) -> Tally:
    """Loss and confusions of all images, batch by batch, in their order.

    `check` is shown where each batch starts, its outputs and its loss.
    """
    tally = Tally(loss)
    batches = Batches(dataset.images, dataset.labels, batch_size)
    if batch_size > 1 and len(dataset) % batch_size == 1 < len(dataset):
        batches.fewest = fewest_for(predict, take(dataset.images, slice(2)))
    for images, labels in batches:
        with at_once(), Stoppable(sum(array.size for array in flatten(images)[0])):
            outputs = predict(images)
        if not tally.count and not is_tree(outputs):
            check_outputs(dataset.labels, outputs.shape, loss)
            check_probabilities("evaluate", outputs, loss)
        with np.errstate(over="ignore", invalid="ignore"):  # the loss says it: infinite, or not a number
            value = loss(map_arrays(Tensor, outputs), map_arrays(Tensor, labels))
        if value.ndim:
            raise ArgumentError(f"expected a loss of one number (reduction 'mean' or 'sum'), got {value.shape}")
        if check is not None:
            check(tally.count, outputs, value.item())
        tally.add(value.item(), outputs, labels, classes=len(dataset.classes))
    return tally


class _Finite:
    """NonFiniteError for outputs or a loss that are not finite."""

    def __init__(self, model: Any, dataset: Dataset | Samples) -> None:
        self._model, self._dataset = model, dataset

    def __call__(self, start: int, outputs: Any, loss: float) -> None:
        arrays, _ = flatten(outputs)
        if np.isfinite(loss) and all((array < np.inf).all() for array in arrays):  # -inf may stand for a masked class
            return
        count = len(arrays[0])
        numbers = np.arange(start, start + count)
        rows = [~(array < np.inf).reshape(count, -1).all(axis=1) for array in arrays if len(array) == count]
        bad = np.flatnonzero(np.any(rows, axis=0))
        what = f"the outputs for image {numbers[bad[0]]} became non-finite" if len(bad) else f"the loss became {loss}"
        images, labels = take(self._dataset.images, numbers), take(self._dataset.labels, numbers)
        reason = finite.cause(self._model, images, labels, numbers)
        raise NonFiniteError(f"evaluate: {what}: {reason}")


def as_dataset(data: Any, split: str, known: About | None = None) -> Any:
    """The `Dataset` that a user named, gave as arrays, or has made batches of; `split` counts for names and folders.

    Where samples are several arrays, `Samples`. The images of a folder are prepared as those of a model of which this
    is `known`.
    """
    if of_files(data):
        if known is None or known.picture is None:
            return datasets.load(data, split=split)
        part = part_to_measure(data, known.data)
        return datasets.load(data, split=part, classes=known.classes or None, **known.picture.of_folder())
    if isinstance(data, Samples):
        return data
    if isinstance(data, Batches):
        data = (data.images, data.labels)
        if not any(map(is_several, data)):
            return Dataset(_as_held(data[0]), data[1])
    if isinstance(data, tuple) and len(data) == 2 and any(map(is_several, data)):
        return Samples(*data)
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


def input_for(model: Any) -> Callable[[Any], Any]:
    """What samples go through before this model.

    Integers (N, H, W) or (N, C, H, W) are pixels, and are put on the scale 0 .. 1, unless the model's own
    `nn.Normalize` does that. The features (N, F) of a table are numbers, and become float32 if they are integers; but
    for a model with an `nn.Embedding` they are the numbers of its rows.
    """
    if normalizes(model):
        return lambda samples: samples
    of_rows = any(isinstance(module, (Embedding, EmbeddingBag)) for module in model.modules())

    def numbers(samples: Any) -> Any:
        if is_several(samples):
            return map_arrays(numbers, samples)
        if are_pixels(model, samples):
            return on_scale(samples, np.dtype(np.float32))
        return samples.astype(np.float32) if samples.dtype.kind in "iu" and not of_rows else samples

    return numbers


def normalizes(model: Any) -> bool:
    """Whether the model puts pixels on scale by itself."""
    return any(isinstance(module, Normalize) for module in model.modules())


def are_pixels(model: Any, samples: Any) -> bool:
    """Whether samples (N, ...) are integers from 0 to 255 that stand for 0 to 1, not the features of a table."""
    if is_several(samples):
        return False
    return samples.dtype.kind in "iu" and (samples.ndim > 2 or normalizes(model))


class Tally:
    """Mean loss and accuracy over batches of any size, summed in double precision."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss
        self.count = 0
        self._total = 0.0
        self._correct: int | None = None
        self.confusion: np.ndarray | None = None

    def add(self, loss: float, outputs: Any, labels: Any, classes: int = 0) -> None:
        """Count one batch: its reduced loss, outputs (N, ...), labels; with `classes`, also who was taken for whom."""
        summed = getattr(self._loss, "reduction", "mean") == "sum"
        count = count_of(labels)
        self._total += loss * (1 if summed else count)
        self.count += count
        if is_tree(outputs) or is_tree(labels):
            return
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
