"""Whether a loss can be right for the targets and outputs that it is given."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastnn.data.samples import is_several
from fastnn.errors import ArgumentError, LabelError
from fastnn.nn import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, NLLLoss
from fastnn.tensors import Tensor

__all__ = ["check_outputs", "check_probabilities", "check_targets"]

ROUNDING = 1e-3  # by which the sum of a row of probabilities may differ from 1
REGRESSION = "for a regression pass loss=nn.MSELoss()"


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
        sums = targets.sum(axis=1, dtype=np.float64)
        wrong = np.flatnonzero(~(np.abs(sums - 1) <= ROUNDING) | ~(targets >= 0).all(axis=1))
        if len(wrong):
            row = wrong[0]
            found = f"a sum of {sums[row]:g}" if (targets[row] >= 0).all() else f"{targets[row].min():g}"
            raise LabelError(
                f"{where}: cross-entropy expects rows of probabilities, at least 0 and with the sum 1, got {found} in "
                f"row {row}: {REGRESSION}, for several classes at once nn.BCEWithLogitsLoss()"
            )


def check_outputs(targets: Any, outputs: tuple[int, ...], loss: Any) -> None:
    """ArgumentError where cross-entropy of outputs of that shape has only one class, or where a loss pairs each output
    with every target; LabelError, which names the first index in the data, where cross-entropy has no such class.
    """
    if is_several(targets):
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
