"""Signals during fit: heeded between two updates, with the epochs so far in hand."""

from __future__ import annotations

import signal
import time
from typing import Any

import numpy as np
import pytest

from fastnn import nn
from fastnn.train import Callback, Interrupted, Training, evaluate, fit

DATA = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32), np.arange(20) % 2


class Raise(Callback):
    """Lets something happen after the second batch of the second epoch, and counts what comes after it."""

    def __init__(self, what: Any) -> None:
        self.what, self.batches, self.ended = what, 0, 0

    def on_batch_end(self, training: Training) -> None:
        self.batches += 1
        if (training.epoch, training.batch) == (2, 2):
            self.what()

    def on_train_end(self, training: Training) -> None:
        self.ended += 1


def keyboard_interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("what", "number"),
    [
        (lambda: signal.raise_signal(signal.SIGINT), signal.SIGINT),
        (lambda: signal.raise_signal(signal.SIGTERM), signal.SIGTERM),
        (keyboard_interrupt, signal.SIGINT),
    ],
    ids=["SIGINT", "SIGTERM", "KeyboardInterrupt"],
)
def test_the_epochs_so_far_and_the_model_are_kept(what: Any, number: signal.Signals) -> None:
    model = nn.Sequential(nn.Linear(6, 2))
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    stop = Raise(what)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(model, DATA, epochs=5, batch_size=4, callbacks=[stop], verbose=False)
    assert isinstance(caught.value, Interrupted)
    assert caught.value.signal == number
    assert number.name in str(caught.value)
    assert "epoch 2, after 2 of 5 batches" in str(caught.value)
    assert len(caught.value.history) == 1
    assert (stop.batches, stop.ended) == (7, 1)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert np.isfinite(evaluate(model, DATA).loss)
    assert len(fit(model, DATA, verbose=False)) == 1  # and it can be trained further


def test_a_signal_during_the_last_validation_is_not_lost() -> None:
    class Late(Callback):
        def on_epoch_end(self, training: Training) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        fit(nn.Sequential(nn.Linear(6, 2)), DATA, callbacks=[Late()], verbose=False)
    assert len(caught.value.history) == 1


def test_a_second_ctrl_c_is_heeded_at_once() -> None:
    stop = Raise(lambda: [signal.raise_signal(signal.SIGINT), signal.raise_signal(signal.SIGINT), pytest.fail("late")])
    with pytest.raises(Interrupted):
        fit(nn.Sequential(nn.Linear(6, 2)), DATA, epochs=5, batch_size=4, callbacks=[stop], verbose=False)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_sigterm_is_heeded_at_once_unless_it_is_the_first_one_again(first: signal.Signals) -> None:
    went_on = []

    def signals() -> None:
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)  # `timeout` sends it to the process, and to its group
        went_on.append(True)
        time.sleep(0.15)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("late")

    with pytest.raises(Interrupted) as caught:
        fit(nn.Sequential(nn.Linear(6, 2)), DATA, epochs=5, batch_size=4, callbacks=[Raise(signals)], verbose=False)
    assert caught.value.signal == signal.SIGTERM
    assert went_on == [True]


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        stop = Raise(lambda: signal.raise_signal(signal.SIGTERM))
        history = fit(nn.Sequential(nn.Linear(6, 2)), DATA, epochs=3, batch_size=4, callbacks=[stop], verbose=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(history) == 3
