"""The learning-rate range test: by hand on a line, and that it leaves everything as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError
from fastnn.train import Checkpoint, LRFinder, fit

X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
Y = (np.arange(64) % 3).astype(np.int64)


def network() -> nn.Sequential:
    fnn.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def sgd(model: nn.Module, **options: Any) -> optim.SGD:
    return optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})


@pytest.mark.parametrize("compile", [False, True])
def test_the_losses_are_those_of_a_loop_by_hand(compile: bool) -> None:
    """θ ← θ - γ·2xᵀ(xθ - y)/n on all data, in float64, for each rate in turn; until the loss has blown up."""
    y = X @ np.arange(5, dtype=np.float32)[:, None]
    model = nn.Sequential(nn.Linear(5, 1, bias=False))
    w = model[0].weight.data.astype(np.float64).T.copy()
    finder = LRFinder(1e-4, 10.0, 40)
    finder.run(model, (X, y), loss=nn.MSELoss(), optimizer=sgd(model, momentum=0), batch_size="full", compile=compile)
    assert 10 < len(finder.rates) < 40
    np.testing.assert_allclose(finder.rates, np.geomspace(1e-4, 10.0, 40)[: len(finder.rates)])
    mean = 0.0
    for i, rate in enumerate(finder.rates):
        error = X @ w - y
        assert finder.losses[i] == pytest.approx(np.mean(error**2), rel=1e-3)
        mean = 0.9 * mean + 0.1 * finder.losses[i]
        weight = 0.9 ** np.arange(i, -1, -1)
        centre = float(weight @ np.log(finder.rates[: i + 1]) / weight.sum())
        assert finder.centres[i] == pytest.approx(np.exp(centre), rel=1e-9)
        assert finder.smoothed[i] == pytest.approx(mean / (1 - 0.9 ** (i + 1)), rel=1e-9)
        w -= rate * 2 * X.T @ error / len(X)
    largest = float(np.linalg.eigvalsh(X.T.astype(np.float64) @ X / len(X))[-1])
    assert finder.suggestion is not None
    assert 0.001 < finder.suggestion < 1 / largest  # beyond, gradient descent diverges


def test_everything_is_as_it_was() -> None:
    """Parameters, statistics, the optimiser's state, random numbers: the training is that of one without the test."""
    found = []
    for tested in (False, True):
        model = network()
        optimizer = sgd(model)
        fit(model, (X, Y), optimizer=optimizer, batch_size=16, seed=0, verbose=False)
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), fnn.random.get_state()))
        if tested:
            finder = LRFinder().run(model, (X, Y), optimizer=optimizer, batch_size=16)
            assert len(finder.losses) > 10
            after = model.state_dict(), optimizer.state_dict(), fnn.random.get_state()
            for name, value in before[0].items():
                assert value.tobytes() == after[0][name].tobytes()
            assert before[1]["param_groups"] == after[1]["param_groups"]
            for i, state in before[1]["state"].items():
                assert state["momentum_buffer"].tobytes() == after[1]["state"][i]["momentum_buffer"].tobytes()
            assert before[2] == after[2]
            assert model.training
        found.append(fit(model, (X, Y), optimizer=optimizer, batch_size=16, verbose=False)["train_loss"])
    assert found[0] == found[1]


def test_as_a_callback_it_sets_the_rate_that_it_found() -> None:
    """Of every group in proportion, and nothing else: the epoch is that of a training at that rate."""
    found = []
    finder = LRFinder()
    for callbacks in ([finder], []):
        model = network()
        rate = 0.1 if callbacks else finder.suggestion
        first, *rest = model.parameters()
        optimizer = optim.SGD([{"params": [first]}, {"params": rest, "lr": 0.5 * rate}], lr=rate, momentum=0.9)
        history = fit(
            model, (X, Y), optimizer=optimizer, batch_size=16, seed=0, epochs=2, callbacks=callbacks, verbose=False
        )
        assert optimizer.param_groups[0]["lr"] == finder.suggestion
        assert optimizer.param_groups[1]["lr"] == pytest.approx(0.5 * finder.suggestion, rel=1e-15)
        found.append(history["train_loss"])
    assert len(found[0]) == 2
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_a_training_that_goes_on_keeps_its_rate(tmp_path: Path) -> None:
    """No test on a model half trained, and no other rate than in one go."""
    for epochs in (1, 2):
        model = network()
        optimizer = sgd(model)
        finder = LRFinder()
        callbacks = [Checkpoint(tmp_path, resume=True), finder]
        options = {"batch_size": 16, "seed": 0, "verbose": False}
        history = fit(model, (X, Y), optimizer=optimizer, epochs=epochs, callbacks=callbacks, **options)
        assert len(finder.rates) > 0 if epochs == 1 else len(finder.rates) == 0
    assert history[0].lr == history[1].lr == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("momentum", [0.0, 0.9], ids=["SGD", "Nesterov"])
def test_a_network_trains_at_the_rate_found(momentum: float) -> None:
    """LeNet-5 has a plateau at first: the trailing mean falls where the rate is already too large."""
    digits = fnn.data.load("digits")
    for seed in (0, 1, 2):
        fnn.manual_seed(seed)
        model = fnn.recipes.MODELS["lenet5"]((1, 28, 28), 10, *digits.statistics())
        optimizer = sgd(model, momentum=momentum, nesterov=momentum > 0)
        history = fit(
            model, digits, optimizer=optimizer, epochs=3, batch_size=16, callbacks=[LRFinder()], verbose=False
        )
        assert history[-1].train_accuracy is not None
        assert history[-1].train_accuracy > 0.8


def test_a_blown_up_loss_ends_it() -> None:
    model = nn.Sequential(nn.Linear(5, 1))
    finder = LRFinder(1.0, 1e30, 100)
    with np.errstate(over="ignore"):
        finder.run(model, (X * 1e3, X[:, :1]), loss=nn.MSELoss(), optimizer=sgd(model), batch_size=8)
    assert len(finder.losses) < 20
    assert finder.suggestion is None
    assert np.isfinite(finder.losses).all()


def test_plot() -> None:
    pytest.importorskip("matplotlib")
    model = network()
    finder = LRFinder(steps=30).run(model, (X, Y), optimizer=sgd(model), batch_size=16)
    (axes,) = finder.plot().axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), finder.smoothed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRFinder(1.0, 0.1), "LRFinder: expected 0 < start < end, got start=1.0 and end=0.1"),
        (lambda: LRFinder(steps=3), "LRFinder: expected at least 10 steps, got 3"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_what_it_cannot_find_a_rate_for() -> None:
    model = network()
    for optimizer in (optim.Rprop(model.parameters()), optim.GradientDescent(model.parameters())):
        with pytest.raises(ArgumentError, match="expected an optimiser whose steps follow its lr, got"):
            LRFinder().run(model, (X, Y), optimizer=optimizer, batch_size="full")
    optimizer = sgd(model)
    schedule = optim.lr_scheduler.StepLR(optimizer, step_size=1)
    with pytest.raises(ArgumentError, match="LRFinder: expected no scheduler"):
        fit(model, (X, Y), optimizer=optimizer, scheduler=schedule, callbacks=[LRFinder()], verbose=False)
    with pytest.raises(ArgumentError, match="expected a loss that falls at some rate from 1e-30 to 1e-29"):
        fit(model, (X, Y), optimizer=sgd(model), callbacks=[LRFinder(1e-30, 1e-29, 10)], verbose=False)


def test_a_finder_says_what_it_found() -> None:
    finder = LRFinder(1e-4, 10, steps=30)
    assert repr(finder) == "LRFinder(0.0001 to 10 in 30 steps; .run(model, data))"
    assert finder._repr_html_() == f"<pre>{finder!r}</pre>"
    finder.rates, finder.losses = np.geomspace(1e-4, 1, 20), np.ones(20)
    finder.smoothed, finder.centres = finder.losses, finder.rates
    assert repr(finder) == "LRFinder(suggestion none, of 20 rates from 0.0001 to 1)"
    pytest.importorskip("matplotlib")
    assert "<img " in finder._repr_html_()
