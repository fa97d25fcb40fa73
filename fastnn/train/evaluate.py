"""How good a model is on data that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import data as datasets
from fastnn import plan, tables
from fastnn.backends.stopping import Stoppable
from fastnn.checks import flag
from fastnn.console import shown
from fastnn.data import Batches, Dataset
from fastnn.data.about import About, about
from fastnn.data.frames import as_labels, check_rows, is_frame
from fastnn.data.loading import of_files, part_to_measure
from fastnn.data.samples import Samples, is_several
from fastnn.errors import ArgumentError, GraphError, LabelError, NonFiniteError
from fastnn.interrupts import at_once
from fastnn.nn import Embedding, EmbeddingBag, Module, Normalize
from fastnn.nn.arguments import spread
from fastnn.nn.modes import mode
from fastnn.nn.shares import weight_of
from fastnn.ops.norms import check_pixels, on_scale
from fastnn.plan.fewest import fewest_for, trial
from fastnn.tensors import Tensor, no_grad
from fastnn.trees import count_of, flatten, is_tree, map_arrays, take, unflatten

from . import finite
from .checks import check_data, check_loss, check_model
from .named import check_metrics, measured, named_loss, named_metrics, remembered_loss
from .tally import Tally
from .targets import as_targets, check_ending, check_outputs, check_probabilities, check_targets, default_loss
from .team import team_of
from .unplanned import tell_without_plan
from .weighing import Weighted, Weights, weights_of

__all__ = ["Evaluation", "evaluate"]

MOST_CLASSES_SHOWN = 20  # a larger confusion matrix fits no screen


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        loss: mean over the samples, weighted where weights were given.
        accuracy: share of samples whose largest output is their class, or, with one output for two classes, whose
            output is on their side; None if the targets are no classes.
        confusion: (K, K) int64, row = true class, column = the class found; None if the targets are no classes.
        count: number of samples.
        metrics: the other measures asked for, by name.
        classes: the classes' names, in the order of the confusion matrix; empty where there are none.
    """

    loss: float
    accuracy: float | None
    confusion: np.ndarray | None
    count: int
    metrics: dict[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        share = "" if self.accuracy is None else f", accuracy {100 * self.accuracy:.2f} %"
        others = "".join(f", {name} {tables.decimal(value)}" for name, value in self.metrics.items())
        return f"Evaluation(loss {tables.decimal(self.loss)}{share}{others}, {self.count} samples)"

    def _repr_html_(self) -> str:
        """The numbers, and the confusion matrix unless it is larger than a screen."""
        if self.confusion is None or len(self.confusion) > MOST_CLASSES_SHOWN:
            return tables.html_text(repr(self))
        fits = len(self.classes) == len(self.confusion)  # and not for outputs beyond the classes
        names = self.classes if fits else tuple(map(str, range(len(self.confusion))))
        head = ["true class ↓ taken for →", *names]
        rows = ([name, *(count or "" for count in row)] for name, row in zip(names, self.confusion, strict=True))
        return tables.html_table([head, *rows], repr(self))


def evaluate(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    loss: Any = None,
    batch_size: int = 256,
    compile: bool = True,
    metrics: Any = (),
    class_weight: Any = None,
    sample_weight: Any = None,
    distributed: bool = False,
) -> Evaluation:
    """Loss, accuracy and confusion matrix of a model, in eval mode and without a tape; its mode is put back afterwards.

    Args:
        model: maps images (N, C, H, W), or other samples (N, ...), to outputs; logits (N, K) for classes.
        data: a data set's name (its test part); an image folder or a list of image files (its test part where it has
            one or the model was trained on it, else all of it; prepared as the training images were where `fit` or
            `load_run` noted how); a `Dataset`, ``(X, y)``, ``X`` alone with `y` after it, or `Batches`, of
            which only the samples and targets count, not their order or augmentation. X and y are as for `fit`; of a
            data frame the columns that the model was trained on are taken, and names of classes are those of the
            training.
        y: the targets of X.
        loss: as for `fit`; by default the one that `fit` trained this model with, without label smoothing, and for
            other models what follows from the targets.
        batch_size: samples at a time; the result hardly depends on it.
        compile: whether the model is compiled (`fnn.compile`), as for `fit`.
        metrics, class_weight, sample_weight: as for `fit`; the weights count in the loss alone.
        distributed: whether the processes that mpiexec has started share the samples; all get the whole result.

    Raises:
        DataError: no such data, missing values, or columns that are no numbers. ArgumentError: no samples, a loss
        without reduction, or one that cannot be right for such targets and outputs. LabelError: a label that the model
        has no output for, or targets that are none for this loss. NonFiniteError: parameters, buffers, outputs or a
        loss that are not finite; it says which, and where. (Outputs of -inf are taken: a masked class.)

    >>> import fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.5, 0.5), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> result = fnn.evaluate(model, "digits")
    >>> result.count, result.confusion.shape, int(result.confusion.sum())
    (360, (10, 10), 360)
    """
    check_model("evaluate", model)
    loss, known = named_loss("evaluate", loss), about(model)
    check_loss("evaluate", loss)
    wanted = named_metrics("evaluate", metrics)
    data = data if y is None else (data, y)
    if isinstance(data, tuple):
        check_rows(data[0], sample_weight, "sample_weight")
    dataset = as_dataset(data, "test", known)
    if not len(dataset):
        raise ArgumentError(f"evaluate: expected at least one sample, got {dataset!r}")
    with mode(model, training=False), no_grad():  # of the loss, too, and once for all batches
        predict = predictor(model, compile)
        loss = loss_for(model, dataset.images, dataset.labels) if loss is None else loss
        check_targets("evaluate", dataset.labels, loss)
        check_ending("evaluate", model, loss)
        check_metrics("evaluate", wanted, dataset.labels, loss)
        finite.check_model("evaluate", model)
        weights = weights_of("evaluate", dataset.labels, dataset.classes, loss, class_weight, sample_weight)
        kept: list[Any] | None = [] if wanted else None
        team = team_of(distributed)
        part, check = team.part_of(len(dataset)), _Finite(model, dataset)
        tally = team.together(lambda: measure(predict, dataset, loss, batch_size, check, weights, kept, part))
        tally.join(team.collect, whole=False)
        outputs = [output for outputs in team.collect(kept) for output in outputs] if wanted else []
        found = measured(wanted, dataset.labels, joined(outputs), loss) if wanted else {}
    named = dataset.classes if tally.confusion is not None else ()
    return Evaluation(tally.loss, tally.accuracy, tally.confusion, tally.count, found, tuple(named))


def loss_for(model: Any, images: Any, labels: Any) -> Any:
    """The loss that `fit` trained this model with; for other models what follows from targets (N, ...)."""
    known = remembered_loss(about(model))
    if known is not None:
        return known
    with mode(model, training=False), no_grad():
        return default_loss(labels, lambda: trial(model, input_for(model)(take(images, slice(2)))))[0]


def predictor(model: Any, compile: bool) -> Callable[[Any], Any]:
    """What gives a model's outputs, in eval mode, for images as a data set holds them."""
    to_input = input_for(model)

    def eager(images: Any) -> Any:
        args, kwargs = spread(model, map_arrays(np.copy, to_input(images)))  # forward may write into them
        with mode(model, training=False), no_grad():
            return map_arrays(lambda output: output.numpy(), model(*args, **kwargs))

    if not (flag("evaluate", "compile", compile) and isinstance(model, Module)):
        return eager
    planned: Any = plan.compile(model)

    def predict(images: Any) -> Any:
        nonlocal planned
        if planned is not None:
            try:
                args, kwargs = spread(model, to_input(images))
                return planned(*args, **kwargs)
            except GraphError as error:
                if not error.untraced:
                    raise
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
    weights: Weights | None = None,
    kept: list[Any] | None = None,
    part: slice = slice(None),  # it never changes
) -> Tally:
    """Loss and confusions of all samples, or of a part of them, batch by batch, in their order.

    `check` is shown where each batch starts, its outputs and its loss. Copies of the outputs go to `kept`.
    """
    tally, of_batch = Tally(loss, dataset.labels), loss if weights is None else Weighted(loss)
    to_target: Callable[[Any], Any] | None = None
    batches = Batches(take(dataset.images, part), take(dataset.labels, part), batch_size)
    start = part.start or 0
    if batch_size > 1 and batches.count % batch_size == 1 < batches.count:
        batches.fewest = fewest_for(predict, take(dataset.images, slice(2)))
    for images, labels in batches:
        with at_once(), Stoppable(sum(array.size for array in flatten(images)[0])):
            outputs = predict(images)
        if to_target is None:
            if not is_tree(outputs):
                check_outputs(dataset.labels, outputs.shape, loss)
                check_probabilities("evaluate", outputs, loss)
            to_target = as_targets(dataset.labels, outputs, loss)
        targets, total = map_arrays(lambda y: Tensor(y.copy()), to_target(labels)), None
        if weights is not None:
            weight, total = weights(labels, slice(start, start + count_of(labels)))
            targets = targets, Tensor(weight)
        with np.errstate(over="ignore", invalid="ignore"):  # the loss says it: infinite, or not a number
            value = of_batch(map_arrays(Tensor, outputs), targets)
        if value.ndim:
            raise ArgumentError(f"expected a loss of one number (reduction 'mean' or 'sum'), got {value.shape}")
        counts = weight_of(loss, labels) if total is None else total
        number = value.item() if counts else 0.0  # where all labels are ignored there is no loss
        if check is not None:
            check(start, outputs, number)
        tally.add(number, outputs, labels, classes=len(dataset.classes) or 2, weights=total)
        if kept is not None:
            kept.append(map_arrays(np.copy, outputs))
        start += count_of(labels)
    return tally


def joined(parts: list[Any]) -> Any:
    """Returns the outputs of all batches one after another: an array, or a tree of arrays."""
    leaves = [flatten(part)[0] for part in parts]
    return unflatten(flatten(parts[0])[1], [np.concatenate(pieces) for pieces in zip(*leaves, strict=True)])


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
        what = f"the outputs for sample {numbers[bad[0]]} became non-finite" if len(bad) else f"the loss became {loss}"
        images, labels = take(self._dataset.images, numbers), take(self._dataset.labels, numbers)
        reason = finite.cause(self._model, images, labels, numbers)
        raise NonFiniteError(f"evaluate: {what}: {reason}")


def as_dataset(data: Any, split: str, known: About | None = None) -> Any:
    """The `Dataset` that a user named, gave as arrays, or has made batches of; `split` counts for names and folders.

    Where samples are several arrays, `Samples`. Of a model, or of training data, this is `known`: the images of a
    folder are prepared alike, the columns of a data frame and the numbers of named classes are the same.
    """
    if of_files(data):
        if known is None or known.picture is None:
            return datasets.load(data, split=split)
        part = part_to_measure(data, known.data)
        return datasets.load(data, split=part, classes=known.classes or None, **known.picture.of_folder())
    if isinstance(data, Samples):
        return data
    if isinstance(data, Batches):
        if any(map(is_several, (data.images, data.labels))):
            return Samples(data.images, data.labels)
        data = Dataset(_as_held(data.images), data.labels, data.classes, columns=data.columns, named=data.named)
    if isinstance(data, tuple) and len(data) == 2:
        if any(map(is_several, data)):
            return Samples(*data)
        check_rows(*data)
        labels, names = as_labels(data[1], () if known is None else known.classes)
        columns = known.columns if known is not None and is_frame(data[0]) else ()
        return Dataset(data[0], labels, names, columns=columns, named=bool(names))
    check_data(data)
    return _numbered(datasets.load(data, split=split), known)


def _numbered(dataset: Dataset, known: About | None) -> Dataset:
    """The data set with its classes numbered as those that are known by the same names."""
    if known is None or dataset.classes == known.classes:
        return dataset
    others = set(dataset.classes) - set(known.classes)
    if others:
        numbers = dataset.classes == tuple(map(str, range(len(dataset.classes))))
        if len(others) < len(set(dataset.classes)) and not numbers:
            raise LabelError(
                f"expected classes among {shown(', '.join(known.classes))}, got {shown(', '.join(sorted(others)))} too"
            )
        return dataset
    if dataset.labels.ndim != 1 or dataset.labels.dtype.kind != "i":
        return dataset
    labels = np.array([known.classes.index(name) for name in dataset.classes], np.int64)[dataset.labels]
    options: Any = {"columns": dataset.columns, "files": dataset.files, "named": dataset.named}
    return Dataset(dataset.images, labels, known.classes, dataset.name, **options)


def _as_held(images: np.ndarray) -> np.ndarray:
    """Images of `Batches` in a type that a `Dataset` takes: integers as uint8."""
    if images.dtype.kind not in "iu" or images.dtype == np.uint8 or images.ndim <= 2:
        return images
    check_pixels(images)
    return images.astype(np.uint8)


def input_for(model: Any) -> Callable[[Any], Any]:
    """What samples go through before this model.

    Integers (N, H, W) or (N, C, H, W) are pixels, and are put on the scale 0 .. 1, unless the model's own
    `nn.Normalize` does that. The features (N, F) of a table are numbers, and get the type of the model's parameters;
    but integers stay for a model with an `nn.Embedding`, where they are the numbers of its rows.
    """
    of_pixels, kinds = normalizes(model), (p.dtype for p in model.parameters() if p.dtype.kind == "f")
    of_rows = any(isinstance(module, (Embedding, EmbeddingBag)) for module in model.modules())
    kind = next(kinds, None)

    def numbers(samples: Any) -> Any:
        if is_several(samples):
            return map_arrays(numbers, samples)
        if samples.dtype.kind == "f":
            return samples if kind is None else samples.astype(kind, copy=False)
        if are_pixels(model, samples):
            return samples if of_pixels else on_scale(samples, np.dtype(np.float32))
        return samples if of_rows else samples.astype(kind or np.float32)

    return numbers


def normalizes(model: Any) -> bool:
    """Whether the model puts pixels on scale by itself."""
    return any(isinstance(module, Normalize) and module.pixels for module in model.modules())


def are_pixels(model: Any, samples: Any) -> bool:
    """Whether samples (N, ...) are integers from 0 to 255 that stand for 0 to 1, not the features of a table."""
    if is_several(samples):
        return False
    return samples.dtype.kind in "iu" and (samples.ndim > 2 or normalizes(model))
