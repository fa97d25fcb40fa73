"""fnn.metrics: numbers worked out by hand, and scikit-learn's where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import metrics
from fastnn.errors import ArgumentError, LabelError, ShapeError

RNG = np.random.default_rng(0)
LABELS, FOUND = RNG.integers(0, 4, 200), RNG.integers(0, 4, 200)
SCORES = RNG.normal(size=(200, 4)).round(1)  # with equal ones
YES, TRUST = RNG.integers(0, 2, 200), RNG.random(200).round(1)
VALUES, GUESSES = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 3))


def test_by_hand() -> None:
    y, found = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
    assert metrics.accuracy(y, found) == pytest.approx(4 / 6)
    assert metrics.accuracy(y, found, weights=[1, 1, 0, 0, 0, 2]) == 1
    assert metrics.precision(y, found).tolist() == [1, 0.5, 0.5]
    np.testing.assert_allclose(metrics.recall(y, found), [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(metrics.f1(y, found), [0.8, 0.5, 2 / 3])
    assert metrics.balanced_accuracy(y, found) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.confusion(y, found).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.precision([0, 0], [1, 1]).tolist() == [0, 0]
    assert metrics.mae([1, 2], [3, 2]) == 1
    assert metrics.rmse([1, 2], [3, 2]) == pytest.approx(2**0.5)
    assert metrics.mse([1, 2], [3, 2]) == 2
    assert metrics.r2([1, 2, 3], [2, 2, 2]) == 0
    assert metrics.r2([2, 2], [2, 2]) == 1
    assert metrics.r2([2, 2], [2, 3]) == 0


def test_what_models_give() -> None:
    """Logits of several outputs, or of one, tensors, and columns."""
    assert metrics.accuracy([1, 0], fnn.tensor([[0.0, 3.0], [1.0, -1.0]])) == 1
    assert metrics.accuracy([1, 0], [[2.0], [3.0]]) == 0.5
    assert metrics.accuracy(["cat", "dog"], ["cat", "cat"]) == 0.5
    assert metrics.mae(fnn.tensor([1.0, 2.0]), fnn.tensor([[1.0], [4.0]])) == 1
    assert metrics.roc_auc([0, 1], [[3.0, 1.0], [0.0, 1.0]]) == 1


COMPARED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "accuracy": (lambda: metrics.accuracy(LABELS, SCORES), lambda m: m.accuracy_score(LABELS, SCORES.argmax(1))),
    "weighted": (
        lambda: metrics.accuracy(LABELS, FOUND, weights=TRUST),
        lambda m: m.accuracy_score(LABELS, FOUND, sample_weight=TRUST),
    ),
    "top 1": (lambda: metrics.top_k_accuracy(LABELS, SCORES, 1), lambda m: m.top_k_accuracy_score(LABELS, SCORES, k=1)),
    "top 2": (lambda: metrics.top_k_accuracy(LABELS, SCORES, 2), lambda m: m.top_k_accuracy_score(LABELS, SCORES, k=2)),
    "confusion": (lambda: metrics.confusion(LABELS, FOUND), lambda m: m.confusion_matrix(LABELS, FOUND)),
    "precision": (
        lambda: metrics.precision(LABELS, FOUND), lambda m: m.precision_score(LABELS, FOUND, average=None)),
    "recall": (lambda: metrics.recall(LABELS, FOUND), lambda m: m.recall_score(LABELS, FOUND, average=None)),
    "f1": (lambda: metrics.f1(LABELS, FOUND), lambda m: m.f1_score(LABELS, FOUND, average=None)),
    "balanced": (
        lambda: metrics.balanced_accuracy(LABELS, FOUND), lambda m: m.balanced_accuracy_score(LABELS, FOUND)),
    "roc_auc": (lambda: metrics.roc_auc(YES, TRUST), lambda m: m.roc_auc_score(YES, TRUST)),
    "mae": (lambda: metrics.mae(VALUES, GUESSES), lambda m: m.mean_absolute_error(VALUES, GUESSES)),
    "mse": (lambda: metrics.mse(VALUES, GUESSES), lambda m: m.mean_squared_error(VALUES, GUESSES)),
    "rmse": (lambda: metrics.rmse(VALUES, GUESSES), lambda m: m.root_mean_squared_error(VALUES, GUESSES)),
    "r2": (lambda: metrics.r2(VALUES, GUESSES), lambda m: m.r2_score(VALUES, GUESSES)),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_they_are_scikit_learns(name: str) -> None:
    theirs = pytest.importorskip("sklearn.metrics")
    mine, other = COMPARED[name]
    np.testing.assert_allclose(mine(), other(theirs), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.accuracy([0, 1], [0, 1, 1]), ShapeError, "a class for each of N labels"),
        (lambda: metrics.accuracy([], []), ShapeError, "a class for each"),
        (lambda: metrics.accuracy([0], [0], weights=[-1]), ArgumentError, "weights of at least 0"),
        (lambda: metrics.roc_auc([0, 1, 1], [0.1, np.nan, 0.5]), ArgumentError, "roc_auc: .* got NaN at 1 of 3 places"),
        (lambda: metrics.roc_auc([0.0, np.nan], [0.1, 0.5]), ArgumentError, "got NaN"),
        (lambda: metrics.accuracy([0, 1], [[0.1, np.nan], [0.5, 1.0]]), ArgumentError, "accuracy: .* got NaN"),
        (lambda: metrics.f1([0, 1], [[0.1], [np.nan]]), ArgumentError, "NaN at 1 of 2"),
        (lambda: metrics.top_k_accuracy([0], [[1.0, np.nan]], 1), ArgumentError, "top_k_accuracy: .* got NaN"),
        (lambda: metrics.top_k_accuracy([-1], [[1.0, 2.0]], 1), LabelError, "labels 0 to 1, got -1 to -1"),
        (lambda: metrics.top_k_accuracy([2], [[1.0, 2.0]], 1), LabelError, "got 2 to 2"),
        (lambda: metrics.roc_auc([1, 1], [0, 1]), ArgumentError, "of 1 classes"),
        (lambda: metrics.r2([[1.0, 2.0]], [1.0]), ShapeError, "in the targets' shape"),
        (lambda: metrics.top_k_accuracy([0.5], [[1.0, 2.0]]), ShapeError, "integer labels"),
        (lambda: metrics.top_k_accuracy([0], [[1.0, 2.0]], 0), ArgumentError, "k to be a positive integer"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
