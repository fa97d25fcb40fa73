"""fit and evaluate with models of several inputs, outputs and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Batches
from fastnn.errors import NonFiniteError, ShapeError


class Game(nn.Module):
    """A policy and a value from a board and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.board, self.clock = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(1, 4 * 16)
        self.policy, self.value = nn.Linear(4 * 16, 5), nn.Linear(4 * 16, 1)

    def forward(self, board: Any, clock: Any) -> Any:
        h = (self.board(board).flatten(1) + self.clock(clock)).relu()
        return {"policy": self.policy(h), "value": self.value(h)}


def loss(outputs: Any, targets: Any) -> Any:
    return nn.CrossEntropyLoss()(outputs["policy"], targets["move"]) + nn.MSELoss()(outputs["value"], targets["score"])


def data(n: int = 40) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(3)
    inputs = {"board": rng.random((n, 2, 4, 4), np.float32), "clock": rng.random((n, 1), np.float32)}
    return inputs, {"move": rng.integers(0, 5, n), "score": rng.random((n, 1), np.float32)}


@pytest.mark.parametrize("compile", [True, False])
def test_a_training_of_several_arrays_is_its_steps(compile: bool) -> None:
    fnn.manual_seed(0)
    inputs, targets = data()
    model, twin = Game(), Game()
    twin.load_state_dict(model.state_dict())
    batches = Batches(inputs, targets, 16, shuffle=True, seed=4)
    history = fnn.fit(
        model, batches, loss=loss, optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=2, verbose=False,
        compile=compile,
    )  # fmt: skip
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    for epoch in range(2):
        total, order = 0.0, batches.order(epoch)
        for start in range(0, 40, 16):
            chosen = order[start : start + 16]
            outputs = twin(inputs["board"][chosen], inputs["clock"][chosen])
            value = loss(outputs, {name: fnn.Tensor(array[chosen]) for name, array in targets.items()})
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item() * len(chosen)
        assert history[epoch].train_loss == pytest.approx(total / 40, rel=1e-4)
    np.testing.assert_allclose(model.policy.weight.data, twin.policy.weight.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compile", [True, False])
def test_an_evaluation_of_several_arrays(compile: bool) -> None:
    inputs, targets = data(300)
    model = Game()
    found = fnn.evaluate(model, (inputs, targets), loss=loss, batch_size=64, compile=compile)
    outputs = model(inputs["board"], inputs["clock"])
    logits, values = outputs["policy"].data.astype(np.float64), outputs["value"].data.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    cross = np.log(np.exp(logits).sum(1)) - logits[np.arange(300), targets["move"]]
    assert found.loss == pytest.approx(cross.mean() + ((values - targets["score"]) ** 2).mean(), rel=1e-4)
    assert found.count == 300
    assert found.accuracy is None


def test_validation_may_be_a_share() -> None:
    inputs, targets = data(50)
    history = fnn.fit(Game(), (inputs, targets), val=0.2, loss=loss, epochs=1, batch_size=8, verbose=False, seed=0)
    assert np.isfinite(history[0].val_loss)
    tuples = ((inputs["board"], inputs["clock"]), targets)
    assert len(fnn.fit(Game(), tuples, val=tuples, loss=loss, verbose=False, seed=0)) == 1


def test_arrays_of_another_number_are_refused_and_a_nan_is_found() -> None:
    inputs, targets = data()
    with pytest.raises(ShapeError, match=r"\(39, 1\)"):
        fnn.fit(Game(), ({**inputs, "clock": inputs["clock"][:-1]}, targets), loss=loss, verbose=False)
    inputs["clock"][7] = np.nan
    with pytest.raises(NonFiniteError, match="sample 7 of the data"):
        fnn.fit(Game(), (inputs, targets), loss=loss, verbose=False)
