"""What a trained model says of new data: classes, probabilities, values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.checks import whole
from fastnn.data import Dataset
from fastnn.data.about import About, about
from fastnn.data.batches import Batches
from fastnn.data.frames import as_samples, check_missing
from fastnn.data.prepare import Preparation, is_picture
from fastnn.data.samples import Samples, in_arrays, is_several
from fastnn.errors import ArgumentError, NonFiniteError, ShapeError
from fastnn.nn import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, Module, MultiMarginLoss, NLLLoss, Softmax
from fastnn.nn.modes import mode
from fastnn.ops import sigmoid, softmax
from fastnn.plan.fewest import fewest_for
from fastnn.tensors import Tensor, no_grad
from fastnn.trees import count_of, is_tree, map_arrays, take

from . import finite
from .checks import check_model
from .evaluate import joined, predictor
from .named import is_of_fastnn
from .tally import classes_found
from .targets import OF_VALUES, last_layer

__all__ = ["outputs_of", "predict", "predict_proba", "remember"]

Array = np.ndarray[Any, Any]


def predict(model: Any, x: Any, *, batch_size: int = 256, compile: bool = True) -> Any:
    """What a model makes of samples: their classes, or the values of a regression; in eval mode, batch by batch.

    Args:
        model: as for `evaluate`; ``model.predict(x)`` is the same. Its mode is put back afterwards.
        x: samples (N, ...), as for `evaluate`, but without labels: an array, a list, a data frame, of which the columns
            of the training are taken, a tuple or dict of arrays, or a `Dataset`; or pictures: a file's path, an image
            of Pillow's, or a list of these, which are prepared as the training images were (made gray or RGB, and
            resized).
        batch_size: samples at a time.
        compile: whether the model is compiled, as for `fit`.

    Returns:
        (N,) classes: their names if they have any besides their numbers, or if the labels were names, and else int64
        numbers; for one picture its class alone. For outputs that are values, the outputs (N, ...) themselves, but (N,)
        where the targets were; for yes or no (`BCEWithLogitsLoss` of floating targets), 0 or 1 for each. What the
        outputs are, `fit`, `fnn.load` and `load_run` know; for another model, outputs (N, K) with K > 1 are taken for
        classes.

    Raises:
        ArgumentError: pictures for a model that was not trained on images. ShapeError: samples of a shape that the
        model does not take. DataError: no such file, or no image; missing values, or columns that are no numbers.
        NonFiniteError: outputs that are NaN, of which no class follows.

    >>> import fastnn as fnn
    >>> train, test = fnn.data.load("digits"), fnn.data.load("digits", split="test")
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> _ = fnn.fit(model, train, epochs=1, seed=0, verbose=False)
    >>> found = fnn.predict(model, test.images)
    >>> found.shape, found.dtype.name, float((found == test.labels).mean()) > 0.6
    ((360,), 'int64', True)
    """
    outputs, known, one = outputs_of("predict", model, x, batch_size, compile)
    if is_tree(outputs):
        return outputs
    kind, names = _kind(known, outputs), () if known is None else known.classes
    if kind != "values" and np.isnan(outputs).any():  # of which no class follows, and which nobody would see
        row = int(np.isnan(outputs).reshape(len(outputs), -1).any(axis=1).argmax())
        raise NonFiniteError(
            f"predict: expected outputs that are numbers, got NaN for sample {row}: look for infinite or very large "
            "numbers in it"
        )
    if kind == "classes":
        outputs = classes_found(outputs, None)
    elif kind != "values":
        outputs = (outputs > (0 if kind == "logits" else 0.5)).astype(np.int64)
    if known is not None and known.flat and outputs.shape[1:] == (1,):
        outputs = outputs[:, 0]
    numbers = names == tuple(map(str, range(len(names))))
    if known is not None and kind != "values" and names and (known.named or not numbers):
        if outputs.size and outputs.max() >= len(names):
            raise ArgumentError(
                f"predict: expected one of the {len(names)} classes that the model was trained on, got number "
                f"{outputs.max()}: give the model an output for each class, and no more"
            )
        outputs = np.array(names)[outputs]
    if not one:
        return outputs
    return outputs[0] if outputs.ndim > 1 else outputs[0].item()


def predict_proba(model: Any, x: Any, *, batch_size: int = 256, compile: bool = True) -> Array:
    """The probabilities of the classes: (N, K), in the classes' order; ``model.predict_proba(x)`` is the same.

    Args as for `predict`. A model of one output for two classes gives (N, 2); one of yes or no (N, ...) the
    probabilities of yes; for one picture, (K,). Raises ArgumentError for a model whose outputs are values.

    >>> import fastnn as fnn
    >>> model = fnn.nn.Linear(3, 4)
    >>> predict_proba(model, np.ones((2, 3), np.float32)).sum(axis=1).round(4).tolist()
    [1.0, 1.0]
    """
    outputs, known, one = outputs_of("predict_proba", model, x, batch_size, compile)
    kind = "values" if is_tree(outputs) else _kind(known, outputs)
    if kind == "values":
        raise ArgumentError("predict_proba: expected a model of classes, got one whose outputs are values")
    if kind == "classes" and (outputs.ndim < 2 or outputs.shape[1] == 1):
        yes = sigmoid(Tensor(outputs.reshape(len(outputs)))).numpy()
        outputs = np.stack([1 - yes, yes], axis=1)
    elif kind == "classes" and not isinstance(last_layer(model), Softmax):
        outputs = softmax(Tensor(outputs), dim=1).numpy()
    elif kind == "logits":
        outputs = sigmoid(Tensor(outputs)).numpy()
    elif known is not None and known.classes and outputs.size == len(outputs):  # class labels with BCELoss
        outputs = np.stack([1 - outputs.reshape(-1), outputs.reshape(-1)], axis=1)
    found: Array = outputs[0] if one else outputs
    return found


def remember(model: Any, batches: Batches, loss: Any) -> About:
    """Note on a model what it is trained on, and return it."""
    images, labels = batches.images, batches.labels
    several = is_tree(images) or is_tree(labels)
    of_classes = not several and labels.ndim == 1 and labels.dtype.kind in "iub" and not isinstance(loss, OF_VALUES)
    outputs = "values"
    if isinstance(loss, BCELoss):
        outputs = "probabilities"
    elif of_classes or (not several and isinstance(loss, (CrossEntropyLoss, NLLLoss, MultiMarginLoss))):
        outputs = "classes"
    elif isinstance(loss, BCEWithLogitsLoss):
        outputs = "logits"
    pictures = not is_tree(images) and images.ndim == 4 and images.dtype == np.uint8
    found = About(
        outputs,
        tuple(batches.classes) if outputs == "classes" or of_classes else (),
        Preparation(images.shape[1:]) if pictures else None,
        batches.name,
        batches.count,
        None if is_tree(images) else images.shape[1:],
        type(loss).__name__,
        loss.options() if is_of_fastnn(loss) else {},
        tuple(batches.columns),
        not is_tree(labels) and labels.ndim == 1,
        batches.named,
    )
    if isinstance(model, Module):
        # Not by setattr: this is no part of what the model computes, and no reason to compile it again.
        vars(model)["_about"] = found
    return found


def outputs_of(op: str, model: Any, x: Any, batch_size: int, compile: bool) -> tuple[Any, About | None, bool]:
    """Outputs of all samples, what is known of the model, and whether `x` was one picture."""
    check_model(op, model)
    batch_size = whole(op, "batch_size", batch_size, 1)
    known = about(model)
    one = is_picture(x)
    samples = _samples(op, x, known)
    if not (count := count_of(samples)):
        raise ArgumentError(f"{op}: expected at least one sample, got none")
    finite.check_model(op, model)
    with mode(model, training=False), no_grad():
        run: Callable[[Any], Any] = predictor(model, compile)
        parts = list(_in_batches(run, samples, count, batch_size))
    return joined(parts), known, one


def _in_batches(run: Callable[[Any], Any], samples: Any, count: int, batch_size: int) -> Iterator[Any]:
    batches = Batches(samples, np.zeros(count, np.int64), batch_size)
    if batch_size > 1 and count % batch_size == 1 < count:
        batches.fewest = fewest_for(run, take(samples, slice(2)))
    for images, _ in batches:
        outputs = run(images)
        if count_of(outputs) != count_of(images):
            raise ShapeError(f"expected outputs (N, ...) for {count_of(images)} samples, got {count_of(outputs)} rows")
        yield map_arrays(np.array, outputs)  # a compiled model may give the same memory again


def _samples(op: str, x: Any, known: About | None) -> Any:
    if isinstance(x, (Dataset, Samples, Batches)):
        return x.images
    if is_picture(x) or (isinstance(x, list) and x and is_picture(x[0])):
        if known is None or known.picture is None:
            raise ArgumentError(
                f"{op}: expected samples (N, ...), got a picture for a model that is not known to be trained on "
                "pictures: fit it on uint8 images (N, C, H, W) first, or load it by fnn.load or fnn.load_run"
            )
        return np.stack([known.picture(picture) for picture in (x if isinstance(x, list) else [x])])
    if is_several(x):
        return in_arrays(x)
    array, names = as_samples(x, () if known is None else known.columns)
    check_missing(array, names)
    if known is not None and known.shape is not None and array.shape == known.shape:
        one = "df.iloc[[0]] for a row of a data frame, np.asarray(x)[None] for other samples"
        raise ShapeError(f"{op}: expected samples (N, {', '.join(map(str, known.shape))}), got one alone: write {one}")
    if array.ndim < 2:
        raise ShapeError(f"{op}: expected samples (N, ...), got an array of shape {array.shape}")
    return array


def _kind(known: About | None, outputs: Array) -> str:
    if known is not None:
        return known.outputs
    return "classes" if outputs.ndim == 2 and outputs.shape[1] > 1 else "values"
