"""Means over batches that do not count alike: by a class's weight, by labels that are ignored, by their size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Batches

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((37, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 37)
WEIGHT = np.array([1.0, 3.0, 0.5], np.float32)


def model() -> nn.Linear:
    layer = nn.Linear(4, 3)
    rng = np.random.default_rng(1)
    layer.load_state_dict({"weight": rng.standard_normal((3, 4)).astype(np.float32), "bias": np.zeros(3, np.float32)})
    return layer


def theirs(layer: nn.Linear, x: Any, y: Any, **options: Any) -> float:
    logits = torch.tensor(x) @ torch.tensor(layer.weight.data).T + torch.tensor(layer.bias.data)
    options = {name: torch.tensor(v) if name == "weight" else v for name, v in options.items()}
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(y), **options).item())


@pytest.mark.parametrize("batch_size", [5, 36, 37])
def test_evaluate_with_weights_of_the_loss_is_the_mean_of_all(batch_size: int) -> None:
    layer, loss = model(), nn.CrossEntropyLoss(weight=WEIGHT)
    found = fnn.evaluate(layer, X, Y, loss=loss, batch_size=batch_size)
    assert found.loss == pytest.approx(theirs(layer, X, Y, weight=WEIGHT), rel=1e-6)


@pytest.mark.parametrize("batch_size", [5, 7, 37])
def test_labels_that_are_ignored_count_in_no_mean(batch_size: int) -> None:
    """A whole batch of them, too; and they are not mistakes."""
    labels = Y.copy()
    labels[:11] = 7
    layer = model()
    found = fnn.evaluate(layer, X, labels, loss=nn.CrossEntropyLoss(ignore_index=7), batch_size=batch_size)
    assert found.loss == pytest.approx(theirs(layer, X, labels, ignore_index=7), rel=1e-6)
    predicted = (X @ layer.weight.data.T).argmax(1)
    assert found.accuracy == pytest.approx((predicted == labels)[11:].mean())
    assert found.confusion is not None
    assert found.confusion.sum() == 26


@pytest.mark.parametrize("compile", [True, False])
def test_the_training_loss_with_weights_of_the_loss_is_the_mean_of_the_epoch(compile: bool) -> None:
    layer, loss = model(), nn.CrossEntropyLoss(weight=WEIGHT)
    still = optim.SGD(layer.parameters(), lr=0.0)
    history = fnn.fit(layer, Batches(X, Y, 5), loss=loss, optimizer=still, compile=compile, verbose=False)
    expected = theirs(layer, X, Y, weight=WEIGHT)
    assert history["train_loss"][0] == pytest.approx(expected, rel=1e-6)
    step = fnn.compile(layer, loss, still)
    assert step.run_epoch(X, Y, batch_size=5, progress=False) == pytest.approx(expected, rel=1e-6)
