"""How good predictions are, by scikit-learn's definitions: of classes, of probabilities, and of values.

Targets come first, as there. Classes are labels (N,) of any type, or outputs (N, K) and (N, 1) of a model, whose
largest entry, or sign, decides; tensors are taken as arrays. Each function returns a Python number, or an array with
one number a class, in the order of the sorted labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import whole
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError
from fastnn.habits import no_such_name
from fastnn.tensors import Tensor

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "confusion",
    "f1",
    "mae",
    "mse",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
    "top_k_accuracy",
]
Array = np.ndarray[Any, Any]


# ---- classes ---------------------------------------------------------------------------------------------------------


def accuracy(targets: Any, outputs: Any, *, weights: Any = None) -> float:
    """The share of samples whose class was found; with `weights` (N,), of their sum.

    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    y, found = _classes("accuracy", targets, outputs)
    return float(np.average(y == found, weights=_weights("accuracy", weights, len(y))))


def top_k_accuracy(targets: Any, outputs: Any, k: int = 5) -> float:
    """The share of samples whose label (N,), from 0 to K - 1, is among the k largest outputs (N, K).

    >>> top_k_accuracy([2, 0], [[0.1, 0.5, 0.4], [0.2, 0.3, 0.5]], k=2)
    0.5
    """
    scores, y = _array(outputs), _array(targets)
    k = whole("top_k_accuracy", "k", k, 1)
    if scores.ndim != 2 or y.shape != scores.shape[:1] or y.dtype.kind not in "iu":
        raise ShapeError(
            f"top_k_accuracy: expected integer labels (N,) and outputs (N, K), got {y.dtype} {y.shape} and "
            f"{scores.shape}"
        )
    _refuse_nan("top_k_accuracy", scores)
    if len(y) and not 0 <= y.min() <= y.max() < scores.shape[1]:
        raise LabelError(f"top_k_accuracy: expected labels 0 to {scores.shape[1] - 1}, got {y.min()} to {y.max()}")
    own = scores[np.arange(len(y)), y][:, np.newaxis]
    before = (scores > own).sum(1) + ((scores == own) & (np.arange(scores.shape[1]) > y[:, np.newaxis])).sum(1)
    return float((before < k).mean())


def confusion(targets: Any, outputs: Any) -> Array:
    """(K, K) int64: how many samples of each class (row) were taken for each class (column).

    >>> confusion(["cat", "dog", "dog"], ["cat", "cat", "dog"]).tolist()
    [[1, 0], [1, 1]]
    """
    y, found = _classes("confusion", targets, outputs)
    labels, numbers = np.unique(np.concatenate([y, found]), return_inverse=True)
    pairs = numbers[: len(y)] * len(labels) + numbers[len(y) :]
    return np.bincount(pairs, minlength=len(labels) ** 2).reshape(len(labels), len(labels))


def precision(targets: Any, outputs: Any) -> Array:
    """Of the samples taken for each class, the share that are of it; 0 where none was."""
    table = confusion(targets, outputs)
    return _share(np.diag(table), table.sum(0))


def recall(targets: Any, outputs: Any) -> Array:
    """Of the samples of each class, the share that was found; 0 where there are none."""
    table = confusion(targets, outputs)
    return _share(np.diag(table), table.sum(1))


def f1(targets: Any, outputs: Any) -> Array:
    """The harmonic mean of precision and recall of each class; 0 where both are.

    >>> f1([0, 0, 1, 1], [0, 1, 1, 1]).round(3).tolist()
    [0.667, 0.8]
    """
    table = confusion(targets, outputs)
    return _share(2 * np.diag(table), table.sum(0) + table.sum(1))


def balanced_accuracy(targets: Any, outputs: Any) -> float:
    """The mean of the classes' recalls, over the classes that the targets have."""
    table = confusion(targets, outputs)
    there = table.sum(1) > 0
    return float(_share(np.diag(table), table.sum(1))[there].mean())


def roc_auc(targets: Any, scores: Any) -> float:
    """The probability that a positive sample has a larger score than a negative one; equal scores count half.

    Targets (N,) of two classes, the larger the positive one; scores (N,), (N, 1), or (N, 2), whose difference counts.
    Raises ArgumentError for one class, or for more than two.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, s = _array(targets).reshape(-1), _numbers("roc_auc", scores)
    s = s[:, 1] - s[:, 0] if s.ndim == 2 and s.shape[1] == 2 else s.reshape(-1)
    _refuse_nan("roc_auc", y, s)
    labels = np.unique(y)
    if len(labels) != 2 or len(s) != len(y):
        raise ArgumentError(
            f"roc_auc: expected one score for each target, of two classes, got {len(s)} scores, {len(y)} targets of "
            f"{len(labels)} classes"
        )
    _, ranks, counts = np.unique(s, return_inverse=True, return_counts=True)
    middles = (np.cumsum(counts) - (counts - 1) / 2)[ranks]  # of equal scores the mean rank (Mann and Whitney 1947)
    positive = y == labels[1]
    n = int(positive.sum())
    return float((middles[positive].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


# ---- values ----------------------------------------------------------------------------------------------------------


def mae(targets: Any, outputs: Any) -> float:
    """The mean of |target - output|.

    >>> mae([1.0, 2.0], [[1.5], [2.0]])
    0.25
    """
    y, found = _values("mae", targets, outputs)
    return float(np.abs(y - found).mean())


def mse(targets: Any, outputs: Any) -> float:
    """The mean of (target - output)²."""
    y, found = _values("mse", targets, outputs)
    return float(((y - found) ** 2).mean())


def rmse(targets: Any, outputs: Any) -> float:
    """The root of the mean of (target - output)², in the targets' unit; of several columns the mean of their roots."""
    y, found = _values("rmse", targets, outputs)
    return float(np.sqrt(((y - found) ** 2).mean(0)).mean())


def r2(targets: Any, outputs: Any) -> float:
    """1 - the squared errors' share of the targets' squared distances from their mean; of several columns the mean.

    1 is perfect, 0 as good as the mean. Of targets that are all equal it is 1 where they were met, else 0.

    >>> round(r2([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]), 3)
    0.949
    """
    y, found = _values("r2", targets, outputs)
    left, whole_ = ((y - found) ** 2).sum(0), ((y - y.mean(0)) ** 2).sum(0)
    of_columns = np.where(whole_ > 0, 1 - left / np.where(whole_ > 0, whole_, 1), left == 0)
    return float(of_columns.mean())


# ---- what they take --------------------------------------------------------------------------------------------------


def _array(x: Any) -> Array:
    if isinstance(x, Tensor):
        return x.detach().numpy()
    return as_array(x)


def _classes(where: str, targets: Any, outputs: Any) -> tuple[Array, Array]:
    """Labels and the classes found, both (N,); text stays text."""
    y, found = _array(targets), _array(outputs)
    _refuse_nan(where, y, found)
    if found.ndim == 2 and found.shape[1] > 1:
        found = found.argmax(1)
    elif found.ndim == 2:
        found = (found[:, 0] > 0).astype(np.int64) if found.dtype.kind == "f" else found[:, 0]
    for each in (y, found):
        if each.dtype.kind not in "biufUS" and not (
            each.dtype.kind == "O" and all(isinstance(v, str) for v in each.flat)
        ):
            raise DTypeError(f"{where}: expected classes as numbers or text, got {each.dtype}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or found.shape != y.shape or not len(y):
        raise ShapeError(f"{where}: expected a class for each of N labels, got {y.shape} and {np.shape(outputs)}")
    return y, found


def _values(where: str, targets: Any, outputs: Any) -> tuple[Array, Array]:
    """Targets and outputs as (N, columns), in float64."""
    y, found = (_numbers(where, x) for x in (targets, outputs))
    y, found = (x[:, np.newaxis] if x.ndim == 1 else x for x in (y, found))
    if y.shape != found.shape or y.ndim != 2 or not y.size:
        raise ShapeError(f"{where}: expected outputs in the targets' shape, got {y.shape} and {found.shape}")
    return y, found


def _refuse_nan(where: str, *arrays: Array) -> None:
    """ArgumentError for NaN, which has no rank and is no class; errors of it are NaN themselves."""
    for array in arrays:
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ArgumentError(
                f"{where}: expected numbers, got NaN at {int(np.isnan(array).sum())} of {array.size} places"
            )


def _numbers(where: str, x: Any) -> Array:
    """In float64. Raises DTypeError for what are none."""
    found = _array(x)
    if found.dtype.kind not in "fiub":
        raise DTypeError(f"{where}: expected numbers, got {type(x).__name__} of type {found.dtype}")
    return found.astype(np.float64)


def _weights(where: str, weights: Any, count: int) -> Array | None:
    if weights is None:
        return None
    found = _numbers(where, weights)
    if found.shape != (count,) or not (found >= 0).all() or not found.sum() > 0:
        raise ArgumentError(f"{where}: expected {count} weights of at least 0, got {found.shape}")
    return found


def _share(part: Array, of: Array) -> Array:
    return np.where(of > 0, part / np.where(of > 0, of, 1), 0.0)


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.metrics", name)
