"""Which loss suits targets and outputs, and whether one can be right for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.data.samples import is_several
from fastnn.errors import ArgumentError, LabelError
from fastnn.nn import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    MultiLabelMarginLoss,
    NLLLoss,
    PoissonNLLLoss,
    Sequential,
    Sigmoid,
    SmoothL1Loss,
    SoftMarginLoss,
    Softmax,
)
from fastnn.tensors import Tensor

__all__ = [
    "OF_PAIRS",
    "OF_VALUES",
    "as_targets",
    "check_ending",
    "check_outputs",
    "check_probabilities",
    "check_targets",
    "default_loss",
    "has_bits",
    "last_layer",
    "no_distribution",
]

ROUNDING = 1e-3  # by which the sum of a row of probabilities may differ from 1
SIZES = (1e-2, 1e3)  # of targets (their root mean square), between which nothing is said of it
REGRESSION = "for a regression pass loss=nn.MSELoss()"
OF_VALUES = (HuberLoss, L1Loss, MSELoss, PoissonNLLLoss, SmoothL1Loss)
OF_PAIRS = (*OF_VALUES, BCELoss, BCEWithLogitsLoss, SoftMarginLoss)  # of outputs and targets of one shape


def default_loss(targets: Any, outputs: Callable[[], Any]) -> tuple[Any, str]:
    """Returns the loss that follows from targets (N, ...), and what it follows from, in words.

    `outputs` gives some of the model's, and is called only where that depends on them.

    >>> default_loss(np.array([0.5, 2.0]), lambda: np.zeros((2, 1)))
    (MSELoss(), 'floating targets')
    """
    if is_several(targets):
        return CrossEntropyLoss(), "several targets"
    of_one = targets.ndim == 1 or targets.shape[1:] == (1,)
    bits = _are_bits(targets)
    if of_one and bits and _is_one(outputs()):
        return BCEWithLogitsLoss(), "targets 0 and 1 for one output"
    if targets.dtype.kind != "f":
        return CrossEntropyLoss(), "class labels"
    if not of_one and targets.ndim == 2 and no_distribution(targets) is None:
        return CrossEntropyLoss(), "probabilities of classes"
    if not of_one and bits:
        return BCEWithLogitsLoss(), "targets 0 and 1 for several outputs"
    return MSELoss(), f"floating targets{_far_from_one(targets)}"


def _far_from_one(targets: np.ndarray) -> str:
    """The words that follow on "targets" where these are so large or small that a network is long in reaching them."""
    size = float(np.sqrt(np.mean(np.square(targets, dtype=np.float64)))) if targets.size else 0.0
    if not SIZES[0] <= size <= SIZES[1] and 0 < size < np.inf:
        return f" of a size of about {size:.0e}: those of about 1 are learned soonest, so divide y by {size:.0e}"
    return ""


def as_targets(targets: Any, outputs: Any, loss: Any) -> Callable[[Any], Any]:
    """Returns what brings a batch of these targets into the shape and type of such outputs, where the loss pairs them:
    (N,) for outputs (N, 1), and the other way round; numbers and bits that are integers become floating, and the lists
    of classes that MultiLabelMarginLoss takes, which a data set holds as floating numbers, integers."""
    if isinstance(loss, OF_PAIRS) and isinstance(outputs, np.ndarray) and isinstance(targets, np.ndarray):
        shape, kind = outputs.shape[1:], outputs.dtype
        if shape == targets.shape[1:] or (_is_one(outputs) and targets.shape[1:] in ((), (1,))):
            return lambda batch: batch.reshape(-1, *shape).astype(kind, copy=False)
    if isinstance(loss, MultiLabelMarginLoss) and isinstance(targets, np.ndarray):
        return lambda batch: batch.astype(np.int64, copy=False)
    return lambda batch: batch


def has_bits(targets: Any, loss: Any) -> bool:
    """Whether the loss is a binary cross-entropy of targets that are all 0 or 1."""
    if is_several(targets) or not isinstance(loss, (BCELoss, BCEWithLogitsLoss)):
        return False
    return bool(((targets == 0) | (targets == 1)).all())


def _are_bits(targets: np.ndarray) -> bool:
    """Whether there are zeros and ones, and nothing else."""
    return bool(targets.min() == 0 and targets.max() == 1 and ((targets == 0) | (targets == 1)).all())


def _is_one(outputs: Any) -> bool:
    """Whether there is one output for each sample."""
    return isinstance(outputs, np.ndarray) and outputs.shape[1:] in ((), (1,))


def no_distribution(targets: np.ndarray) -> str | None:
    """What makes rows (N, K) no probabilities of classes; None if they are."""
    sums = targets.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= ROUNDING) | ~(targets >= 0).all(axis=1))
    if not len(wrong):
        return None
    row = wrong[0]
    found = f"a sum of {sums[row]:g}" if (targets[row] >= 0).all() else f"{targets[row].min():g}"
    return f"{found} in row {row}"


def check_targets(where: str, targets: Any, loss: Any) -> None:
    """ArgumentError or LabelError where the targets (N, ...) of a data set do not go with the loss, whatever the model.

    `where` begins the sentence.
    """
    if is_several(targets):
        return
    if isinstance(loss, (BCELoss, BCEWithLogitsLoss)):
        outside = np.flatnonzero(~((targets >= 0) & (targets <= 1)).reshape(len(targets), -1).all(axis=1))
        if len(outside):
            raise LabelError(
                f"{where}: {type(loss).__name__} expects targets from 0 to 1, got {targets[outside[0]]} at index "
                f"{outside[0]}: for class labels pass loss=nn.CrossEntropyLoss(), {REGRESSION}"
            )
    if not isinstance(loss, CrossEntropyLoss) or targets.dtype.kind != "f":
        return
    if targets.ndim == 1:
        whole = bool((targets == np.rint(targets)).all())
        mended = "pass labels.astype(int) if these are classes; " if whole else ""
        raise LabelError(
            f"{where}: cross-entropy expects integer labels (N,) or probabilities (N, K), got {targets.dtype} "
            f"{targets.shape}: {mended}{REGRESSION}"
        )
    if targets.ndim == 2 and targets.shape[1] == 1:
        raise ArgumentError(
            f"{where}: cross-entropy of a single column is 0 whatever the model says, got targets {targets.shape}: "
            f"{REGRESSION}, for two classes nn.BCEWithLogitsLoss()"
        )
    if targets.ndim == 2:
        found = no_distribution(targets)
        if found is not None:
            raise LabelError(
                f"{where}: cross-entropy expects rows of probabilities, at least 0 and with the sum 1, got {found}: "
                f"{REGRESSION}, for several classes at once nn.BCEWithLogitsLoss()"
            )


def last_layer(model: Any) -> Any:
    """What a Sequential ends in, through those that it ends in; a model with a forward of its own itself."""
    while isinstance(model, Sequential) and type(model).forward is Sequential.forward and len(model):
        model = model[-1]
    return model


def check_ending(where: str, model: Any, loss: Any) -> None:
    """Where the model ends in what the loss does itself: ArgumentError for Sigmoid, whose outputs, as logits, are all a
    yes; a warning for Softmax, with which classes are told apart, but learned slowly, and the loss stays large."""
    last = last_layer(model)
    if type(loss) is BCEWithLogitsLoss and isinstance(last, Sigmoid):
        raise ArgumentError(f"{where}: {_twice(loss, 'Sigmoid')}: leave nn.Sigmoid out, or pass loss=nn.BCELoss()")
    if type(loss) is CrossEntropyLoss and isinstance(last, Softmax):
        advice = "leave nn.Softmax out: predict_proba gives the probabilities"
        warnings.warn(f"{where}: {_twice(loss, 'Softmax')}: {advice}", UserWarning, stacklevel=2)


def _twice(loss: Any, last: str) -> str:
    return f"{type(loss).__name__} makes probabilities of the model's outputs itself, got a model that ends in {last}"


def check_outputs(targets: Any, outputs: tuple[int, ...], loss: Any) -> None:
    """ArgumentError where cross-entropy of outputs of that shape has only one class, or where a loss pairs each output
    with every target; LabelError where there are several outputs for each of targets (N,) of a loss that pairs them,
    and, which names the first index in the data, where cross-entropy has no such class.
    """
    if is_several(targets):
        return
    if isinstance(loss, OF_PAIRS):
        if len(outputs) == 2 and outputs[1] > 1 and targets.ndim == 1:
            meant = "class labels are for CrossEntropyLoss"
            if targets.dtype.kind == "f":
                meant = "if these are classes, pass labels.astype(int)"
            raise LabelError(
                f"{type(loss).__name__} expects a target for each output, got {outputs[1]} outputs and one target for "
                f"each sample: {meant}; for a regression give the model one output"
            )
        return
    if outputs[1:] == (1,) and targets.ndim == 1 and targets.dtype.kind == "f" and _pairs_all(loss):
        raise ArgumentError(
            f"the loss broadcasts outputs {outputs} and targets {outputs[:1]} to {outputs[:1] * 2}, each output against"
            " every target: pass targets[:, np.newaxis]"
        )
    if not isinstance(loss, CrossEntropyLoss) or len(outputs) != 2:
        return
    classes = outputs[1]
    if classes == 1:
        raise ArgumentError(
            "cross-entropy of a single class is 0 whatever the model says, got a model with one output: "
            f"{REGRESSION}, for two classes give it two outputs"
        )
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        return
    wrong = np.flatnonzero(((targets < 0) | (targets >= classes)) & (targets != loss.ignore_index))
    if len(wrong):
        raise LabelError(
            f"expected labels 0 to {classes - 1}, since the model has {classes} outputs, "
            f"got {targets[wrong[0]]} at index {wrong[0]} of the data"
        )


def _pairs_all(loss: Any) -> bool:
    """Whether the loss broadcasts outputs (N, 1) and targets (N,) to (N, N): of equal numbers it then is not 0."""
    values = np.array([0.0, 1.0], np.float32)
    outputs = Tensor(values[:, np.newaxis])
    try:
        with warnings.catch_warnings():  # fastnn's own losses warn
            warnings.simplefilter("ignore")
            return loss(outputs, values).item() != 0 and loss(outputs, values[:, np.newaxis]).item() == 0
    except Exception:  # whatever it raises for such numbers: it is no such loss
        return False


def check_probabilities(where: str, outputs: np.ndarray, loss: Any) -> None:
    """ArgumentError where NLLLoss is given outputs (N, K) that are no logarithms of probabilities."""
    if not isinstance(loss, NLLLoss) or outputs.ndim != 2:
        return
    with np.errstate(all="ignore"):
        sums = np.exp(outputs.astype(np.float64)).sum(axis=1)
    if np.isfinite(outputs).all() and not (np.abs(sums - 1) <= 0.1).all():
        raise ArgumentError(
            f"{where}: NLLLoss expects logarithms of probabilities, whose exponentials have the sum 1, got a sum of "
            f"{sums[np.argmax(np.abs(sums - 1))]:.3g}: end the model with nn.LogSoftmax(), or pass "
            "loss=nn.CrossEntropyLoss()"
        )
