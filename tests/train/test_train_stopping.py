"""Stopping rules: when they stop, and that the best weights are back on every way out."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
from collections.abc import Callable as Function
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, NonFiniteError
from fastnn.train import Callback, Checkpoint, EarlyStopping, Interrupted, StopOnPlateau, StopOnStep, Training, fit

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = (X @ np.array([[1.0], [-1.0], [0.5], [2.0]]) + 0.3).astype(np.float32)


def line() -> nn.Sequential:
    fnn.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 1))


def run(model: nn.Module, *callbacks: Callback, lr: float = 0.2, **options: Any) -> fnn.History:
    settings: dict[str, Any] = {
        "loss": nn.MSELoss(),
        "optimizer": optim.SGD(model.parameters(), lr=lr),
        "epochs": 60,
        "batch_size": "full",
        "verbose": False,
        **options,
    }
    return fit(model, (X, Y), callbacks=list(callbacks), **settings)


class Weights(Callback):
    """All parameters after each epoch, and what the rules see as validation loss instead of the true one."""

    def __init__(self, values: list[float] | None = None) -> None:
        self.values, self.kept = values, []  # type: tuple[list[float] | None, list[dict[str, np.ndarray]]]

    def on_epoch_end(self, training: Training) -> None:
        self.kept.append({name: np.array(value) for name, value in training.model.state_dict().items()})
        if self.values is not None:
            object.__setattr__(training.history[-1], "val_loss", self.values[training.epoch - 1])


def assert_weights(model: nn.Module, expected: dict[str, np.ndarray]) -> None:
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


# ---- steps and plateaus ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", ["full", 10])
def test_stop_on_step_by_hand(batch_size: Any) -> None:
    """Stops with the first update that is shorter than eps, and not before."""
    model = line()
    points = [np.concatenate([p.data.reshape(-1) for p in model.parameters()])]

    class Path(Callback):
        def on_batch_end(self, training: Training) -> None:
            points.append(np.concatenate([p.data.reshape(-1) for p in training.model.parameters()]))

    history = run(model, Path(), StopOnStep(0.05), batch_size=batch_size, seed=0)
    steps = [float(np.linalg.norm(b.astype(np.float64) - a)) for a, b in itertools.pairwise(points)]
    assert steps[-1] < 0.05 <= min(steps[:-1])
    assert 2 < len(steps) < 60
    assert len(history) == (len(steps) if batch_size == "full" else len(steps) // 3)


def test_stop_on_plateau_counts_the_penalty() -> None:
    """The loss alone still falls when loss and penalty together do not any more: training starts at the ridge."""
    model = line()
    for _ in range(2):  # the second training begins where the first has arrived
        history = run(
            model, StopOnPlateau(patience=2, min_delta=1e-4), epochs=300,
            optimizer=optim.SGD(model.parameters(), lr=0.1, l2=0.5),
        )  # fmt: skip
    assert len(history) == 3
    values = [record.train_loss + record.penalty for record in history]
    assert max(values) - min(values) < 1e-4
    assert history[0].penalty is not None
    assert history[0].penalty > 0.1


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "epochs"),
    [
        ([5, 4, 4, 4, 1], 2, 0.0, 4),
        ([5, 4, 4, 3, 3, 3, 3], 3, 0.0, 7),
        ([5, 4.9, 4.8, 4.7, 4.6], 2, 0.5, 3),
        ([5, math.nan, math.nan, 1], 2, 0.0, 3),
        ([math.nan, math.nan, 5, 4], 2, 0.0, 2),
    ],
)
def test_patience_by_hand(values: list[float], patience: int, min_delta: float, epochs: int) -> None:
    stop = EarlyStopping(patience=patience, min_delta=min_delta)
    assert len(run(line(), Weights(values), stop, val=(X, Y), epochs=len(values))) == epochs


def test_the_mode_follows_from_what_is_monitored() -> None:
    assert [EarlyStopping(name).mode for name in ("val_loss", "val_accuracy", "train_accuracy")] == [
        "min",
        "max",
        "max",
    ]
    stop = EarlyStopping("val_loss", patience=1, mode="max")
    assert len(run(line(), Weights([1, 2, 3, 3, 4]), stop, val=(X, Y))) == 4
    assert stop.best_epoch == 3


# ---- the best weights, on every way out ------------------------------------------------------------------------------

VALUES = [5.0, 3.0, 4.0, 4.5, 6.0, 7.0, 8.0]  # epoch 2 is the best


class Fails(Callback):
    """Does something bad in this epoch and moment."""

    def __init__(self, moment: str, act: Function[[Training], None], epoch: int = 4) -> None:
        def at(training: Training) -> None:
            if training.epoch == epoch:
                act(training)

        setattr(self, moment, at)


def raise_error(training: Training) -> None:
    raise RuntimeError("a callback's own")


def interrupt(training: Training) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def spoil(training: Training) -> None:
    training.model[0].weight.data[...] = np.nan


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("first", [False, True], ids=["the rule first", "the other first"])
@pytest.mark.parametrize(
    ("other", "error"),
    [
        (Callback(), None),
        (Fails("on_epoch_end", lambda training: training.stop("enough")), None),
        (Fails("on_batch_end", lambda training: training.stop("enough")), None),
        (Fails("on_batch_end", interrupt), Interrupted),
        (Fails("on_epoch_end", interrupt), Interrupted),
        (Fails("on_batch_end", raise_error), RuntimeError),
        (Fails("on_epoch_begin", raise_error), RuntimeError),
        (Fails("on_epoch_end", raise_error), RuntimeError),
        (Fails("on_train_end", raise_error, epoch=5), RuntimeError),
        (Fails("on_epoch_end", spoil), NonFiniteError),
    ],
)
def test_the_best_weights_are_back(other: Callback, error: Any, first: bool, compile: bool) -> None:
    model, weights, stop = line(), Weights(VALUES), EarlyStopping(patience=3)
    callbacks = [weights, other, stop] if first else [weights, stop, other]
    if error is None:
        history = run(model, *callbacks, val=(X, Y), compile=compile)
        assert len(history) <= 5
    else:
        with pytest.raises(error):
            run(model, *callbacks, val=(X, Y), compile=compile)
    assert stop.best_epoch == 2
    assert_weights(model, weights.kept[1])
    assert model[0].weight.data.flags.writeable


def test_statistics_of_batch_norm_are_the_best_epochs() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    weights = Weights(VALUES)
    run(model, weights, EarlyStopping(patience=3), val=(X, Y), lr=0.01)
    assert_weights(model, weights.kept[1])
    assert weights.kept[1]["1.running_mean"].tolist() != weights.kept[-1]["1.running_mean"].tolist()


def test_without_a_complete_epoch_the_model_stays() -> None:
    model = line()
    with pytest.raises(RuntimeError):
        run(model, Fails("on_batch_end", raise_error, epoch=1), EarlyStopping(), val=(X, Y))
    assert np.isfinite(model[0].weight.data).all()


def test_used_again_it_begins_anew() -> None:
    stop = EarlyStopping(patience=3)
    run(line(), Weights(VALUES), stop, val=(X, Y))
    model, weights = line(), Weights([9.0, 9.5, 9.7, 9.8])
    run(model, weights, stop, val=(X, Y), lr=0.3)
    assert stop.best_epoch == 1
    assert_weights(model, weights.kept[0])


# ---- kept in a folder ------------------------------------------------------------------------------------------------


def test_a_resumed_training_stops_and_restores_as_one_in_one_go(tmp_path: Path) -> None:
    """Interrupted after the best epoch, which the second process has never seen."""
    whole, weights = line(), Weights(VALUES)
    run(whole, weights, EarlyStopping(patience=3), Checkpoint(tmp_path / "whole"), val=(X, Y))
    for epochs in (3, 60, 60):  # the last has nothing to do any more
        model, stop = line(), EarlyStopping(patience=3)
        keep = Checkpoint(tmp_path / "parts", resume=True)
        history = run(model, Weights(VALUES), stop, keep, val=(X, Y), epochs=epochs)
    assert len(history) == 5
    assert stop.best_epoch == 2
    assert_weights(model, weights.kept[1])
    assert_weights(whole, weights.kept[1])


@pytest.mark.parametrize("rule", ["step", "no step"])
def test_a_training_that_stopped_at_a_step_stays_stopped(tmp_path: Path, rule: str) -> None:
    found, reasons = [], []

    class Look(Callback):
        def on_train_end(self, training: Training) -> None:
            reasons.append(training.stopped)

    for _ in range(3):
        model = line()
        if rule == "step":
            optimizer: optim.Optimizer = optim.SGD(model.parameters(), lr=0.1)
        else:
            optimizer = optim.GradientDescent(model.parameters(), lr=1.0)
        callbacks = [*([StopOnStep(1e-3)] if rule == "step" else []), Checkpoint(tmp_path, resume=True), Look()]
        history = run(model, *callbacks, epochs=500, optimizer=optimizer)
        found.append((len(history), model[0].weight.data.tobytes()))
    assert 3 < found[0][0] < 500
    assert found[1:] == [found[0]] * 2
    assert reasons[0]
    assert reasons[1:] == [reasons[0]] * 2
    if rule == "step":  # another rule judges what it finds by its own eps
        again = run(line(), StopOnStep(1e-4), Checkpoint(tmp_path, resume=True), lr=0.1, epochs=500)
        assert len(again) > found[0][0]


@pytest.mark.parametrize(
    "act",
    [
        Fails("on_batch_end", lambda training: training.stop("enough"), 5),
        Fails("on_epoch_end", lambda training: training.stop("enough"), 4),
        Fails("on_batch_end", raise_error, 5),
        Fails("on_batch_end", interrupt, 5),
        Fails("on_epoch_end", interrupt, 4),
    ],
    ids=["stopped within", "stopped behind", "failed", "interrupted within", "interrupted at the end"],
)
def test_the_last_complete_epoch_is_always_kept(tmp_path: Path, act: Callback) -> None:
    """With the parameters that it had, not those of the batch after, nor those that a rule has put back."""
    whole, weights = line(), Weights(VALUES)
    run(whole, weights, val=(X, Y), epochs=6, batch_size=10, seed=3)
    with contextlib.suppress(RuntimeError, Interrupted):
        run(
            line(), Weights(VALUES), EarlyStopping(patience=9), Checkpoint(tmp_path, every=3), act,
            val=(X, Y), batch_size=10, epochs=6, seed=3,
        )  # fmt: skip
    assert len(fnn.History.load(tmp_path / "history.jsonl")) == 4
    for name, value in fnn.weights.load(tmp_path / "weights.safetensors").items():
        np.testing.assert_array_equal(value, weights.kept[3][name])
    model = line()
    run(model, Checkpoint(tmp_path, resume=True), val=(X, Y), batch_size=10, epochs=6, seed=3)
    assert_weights(model, weights.kept[5])


def test_checkpoints_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    found: list[int] = []

    class Look(Callback):
        def on_epoch_end(self, training: Training) -> None:
            path = tmp_path / "run" / "history.jsonl"
            found.append(len(fnn.History.load(path)) if path.exists() else 0)

    run(line(), Checkpoint(tmp_path / "run", every=3), Look(), epochs=7)
    assert found == [0, 0, 3, 3, 3, 6, 7]
    found.clear()
    run(line(), Fails("on_epoch_end", lambda t: t.stop("enough"), 2), Checkpoint(tmp_path / "run", every=5), Look())
    assert found == [7, 2]


def test_the_folder_may_hold_the_best_weights(tmp_path: Path) -> None:
    """And a checkpoint of the last epoch to go on from."""
    model, weights = line(), Weights(VALUES)
    run(model, weights, Checkpoint(tmp_path, best="val_loss", every=2), val=(X, Y), epochs=5)
    kept = fnn.weights.load(tmp_path / "weights.safetensors")
    assert_weights(model, weights.kept[4])
    for name, value in kept.items():
        np.testing.assert_array_equal(value, weights.kept[1][name])
    other, again = line(), Weights(VALUES)
    run(other, again, Checkpoint(tmp_path, best="val_loss", resume=True), val=(X, Y), epochs=6)
    straight, straight_weights = line(), Weights(VALUES)
    run(straight, straight_weights, val=(X, Y), epochs=6)
    assert_weights(other, straight_weights.kept[5])
    assert fnn.weights.load(tmp_path / "weights.safetensors").keys() == kept.keys()
    for name, value in fnn.weights.load(tmp_path / "weights.safetensors").items():
        np.testing.assert_array_equal(value, weights.kept[1][name])


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StopOnStep(0), "StopOnStep: expected eps above 0, got 0"),
        (lambda: StopOnPlateau(patience=0), "StopOnPlateau: expected a patience of at least 1 epoch, got 0"),
        (lambda: StopOnPlateau(min_delta=-1), "StopOnPlateau: expected min_delta of at least 0, got -1"),
        (lambda: EarlyStopping("accuracy"), "EarlyStopping: expected one of val_loss, .*, got 'accuracy'"),
        (lambda: EarlyStopping(mode="least"), "expected mode 'min' or 'max', got 'least'"),
        (lambda: Checkpoint("run", every=0), "Checkpoint: expected every to be at least 1 epoch, got 0"),
        (lambda: Checkpoint("run", best="loss"), "Checkpoint: expected one of val_loss, .*, got 'loss'"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_nothing_to_monitor(tmp_path: Path) -> None:
    for callback in (EarlyStopping(), Checkpoint(tmp_path, best="val_loss")):
        with pytest.raises(ArgumentError, match="expected validation data"):
            run(line(), callback)
    with pytest.raises(ArgumentError, match="EarlyStopping: expected train_accuracy to be measured"):
        run(line(), EarlyStopping("train_accuracy"))


def test_rules_come_before_what_keeps_their_state(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"Checkpoint: expected EarlyStopping before it in callbacks=\[...\]"):
        run(line(), Checkpoint(tmp_path), EarlyStopping(), val=(X, Y))
