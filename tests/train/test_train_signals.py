"""Signals within a step, and at the end of a training: what is given up leaves no trace, and no signal is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn, optim
from fastnn.data import Batches
from fastnn.tensors import Function, Tensor
from fastnn.train import Callback, Checkpoint, Interrupted, LRFinder, Training, evaluate, fit

COUNT, SIDE, CLASSES = 180, 28, 10  # 141,120 pixels: a step that may be given up
NATIVE = backends.name() == "native"
compiled = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
numbers = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def data(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 1, SIDE, SIDE)).astype(np.float32), rng.integers(0, CLASSES, count)


class Interrupting(Function):
    """The identity; on its way it lets a signal come."""

    when = ""
    number = signal.SIGINT

    @classmethod
    def arrive(cls, where: str) -> None:
        if cls.when == where:
            cls.when = ""
            signal.raise_signal(cls.number)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        Interrupting.arrive("forward")
        return x.copy()

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        Interrupting.arrive("backward")
        return grad.copy()


class Interrupts(nn.Module):
    def forward(self, x: Any) -> Tensor:
        return Interrupting.apply(x)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    Interrupting.when, Interrupting.number = "", signal.SIGINT


def network() -> nn.Sequential:
    fnn.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), Interrupts(), nn.Conv2d(8, 8, 3),
        nn.ReLU(), nn.Flatten(), nn.Linear(8 * 11**2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES),
    )  # fmt: skip


def everything(model: Any, optimizer: Any) -> list[np.ndarray]:
    """Copies of the model's state and of the optimiser's."""
    states = [value for entries in optimizer.state_dict()["state"].values() for value in entries.values()]
    return [np.array(value) for value in (*model.state_dict().values(), *states)]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


class SignalIn(Callback):
    """Lets a signal come within the step of an epoch, and keeps what there was before it."""

    def __init__(self, epoch: int, where: str, number: signal.Signals) -> None:
        self.epoch, self.where, self.number = epoch, where, number
        self.before: list[np.ndarray] = []

    def on_epoch_begin(self, training: Training) -> None:
        if training.epoch == self.epoch:
            self.before = everything(training.model, training.optimizer)
            Interrupting.when, Interrupting.number = self.where, self.number


@compiled
@numbers
@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("make", [optim.Adam, optim.SGD, optim.GradientDescent])
def test_a_step_that_is_given_up_leaves_no_trace(make: Any, where: str, number: signal.Signals, compiled: bool) -> None:
    model = network()
    opt = make(model.parameters())
    comes = SignalIn(2, where, number)
    options: dict[str, Any] = {"optimizer": opt, "batch_size": "full", "verbose": False, "compile": compiled}
    with pytest.raises(Interrupted, match="epoch 2, after 0 of 1 batches") as caught:
        fit(model, data(), epochs=4, callbacks=[comes], **options)
    assert caught.value.signal == number
    assert len(caught.value.history) == 1
    assert same(everything(model, opt), comes.before)
    if make is optim.GradientDescent:
        return
    fit(model, data(), epochs=3, seed=1, **options)  # and it goes on as if nothing had been
    twin = network()
    other = make(twin.parameters())
    fit(twin, data(), epochs=1, **{**options, "optimizer": other})
    fit(twin, data(), epochs=3, seed=1, **{**options, "optimizer": other})
    assert same(everything(model, opt), everything(twin, other))


@pytest.mark.skipif(not NATIVE, reason="other backends end the operator under way")
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_of_ones_own_loop_is_given_up(where: str) -> None:
    """Python's own handler raises as soon as the kernels are left, and before the update."""
    model = network()
    opt = optim.Adam(model.parameters())
    step = fnn.compile(model, nn.CrossEntropyLoss(), opt)
    step(*data())
    before = everything(model, opt)
    Interrupting.when = where
    with pytest.raises(KeyboardInterrupt):
        step(*data())
    assert same(everything(model, opt), before)
    loss = step(*data())
    assert loss == _second_loss()


def _second_loss() -> float:
    model = network()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
    step(*data())
    return float(step(*data()))


def test_handlers_of_others_run_and_nothing_is_given_up() -> None:
    """A program that only notes SIGTERM, to stop when it suits."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        model = network()
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
        step(*data())
        Interrupting.when, Interrupting.number = "forward", signal.SIGTERM
        loss = step(*data())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]
    assert loss == _second_loss()


LONG: dict[str, Callable[[], nn.Sequential]] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(),
        nn.Linear(64 * 36, CLASSES),
    ),
    "batch norm": lambda: nn.Sequential(
        nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64),
        nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(64 * 4, CLASSES),
    ),
}  # fmt: skip


@pytest.mark.skipif(not NATIVE, reason="other backends end the operator under way")
@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_native_step_is_given_up(name: str, threads: int) -> None:
    """A step of a second or more, in one native call; the signal comes from outside, soon after it has begun."""
    model = LONG[name]()
    opt = optim.SGD(model.parameters(), lr=0.1)
    x = np.random.default_rng(0).integers(0, 256, (2400, 1, SIDE, SIDE)).astype(np.uint8)  # nothing flat to be skipped
    y = np.zeros(2400, int)
    before, kept = everything(model, opt), backends.get_num_threads()

    class Soon(Callback):
        def on_epoch_begin(self, training: Training) -> None:
            self.timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            self.timer.start()

        def on_train_end(self, training: Training) -> None:
            self.timer.cancel()

    backends.set_num_threads(threads)
    try:
        with pytest.raises(Interrupted, match="after 0 of 1 batches"):
            fit(model, (x, y), optimizer=opt, batch_size="full", callbacks=[Soon()], verbose=False)
    finally:
        backends.set_num_threads(kept)
    assert same(everything(model, opt), before)


# ---- elsewhere ------------------------------------------------------------------------------------------------------


@compiled
def test_validation_is_given_up(compiled: bool) -> None:
    model = network()

    class Later(Callback):
        def on_batch_end(self, training: Training) -> None:
            Interrupting.when = "forward"

    with pytest.raises(Interrupted, match="after 1 of 1 batches") as caught:
        fit(model, data(), data(), callbacks=[Later()], batch_size="full", verbose=False, compile=compiled)
    assert len(caught.value.history) == 0


def test_the_range_test_is_given_up() -> None:
    model = network()
    opt = optim.SGD(model.parameters(), lr=0.1)
    before = everything(model, opt)
    Interrupting.when = "forward"
    with pytest.raises(KeyboardInterrupt):
        LRFinder(steps=1000).run(model, data(), optimizer=opt)
    assert same(everything(model, opt), before)


def test_augmentation_is_given_up() -> None:
    """NumPy's work on a batch may be left anywhere: nothing has been updated from it."""
    reached = []

    def augment(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        signal.raise_signal(signal.SIGTERM)
        reached.append(1)
        return images

    with pytest.raises(Interrupted, match=r"SIGTERM in epoch 1, after 0 of"):
        fit(network(), Batches(*data(), 32, augment=augment), verbose=False)
    assert not reached


# ---- the end --------------------------------------------------------------------------------------------------------


class AtTheEnd(Callback):
    def __init__(self, what: Callable[[Training], Any]) -> None:
        self.what, self.ended = what, False

    def on_train_end(self, training: Training) -> None:
        self.what(training)
        self.ended = True


@numbers
@pytest.mark.parametrize("stopped", [False, True])
def test_a_signal_while_callbacks_end_is_raised_when_they_have(
    number: signal.Signals, stopped: bool, tmp_path: Path
) -> None:
    first = AtTheEnd(lambda _: signal.raise_signal(number))
    keep, last = Checkpoint(tmp_path, every=100), AtTheEnd(lambda _: None)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]

    class Stops(Callback):
        def on_batch_end(self, training: Training) -> None:
            if stopped and training.epoch == 2:
                training.stop("enough")

    with pytest.raises(Interrupted, match=number.name) as caught:
        fit(network(), data(), epochs=2, callbacks=[Stops(), first, keep, last], verbose=False)
    assert caught.value.signal == number
    assert len(caught.value.history) == (1 if stopped else 2)
    assert first.ended
    assert last.ended
    assert (tmp_path / "checkpoint.safetensors").exists()
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_what_callbacks_compute_at_the_end_is_not_given_up() -> None:
    """After a signal, too: a last evaluation on many images has its own numbers."""
    measured: list[float] = []
    end = AtTheEnd(lambda training: measured.append(evaluate(training.model, data(COUNT)).loss))
    comes = SignalIn(2, "forward", signal.SIGINT)
    model = network()
    with pytest.raises(Interrupted):
        fit(model, data(), epochs=3, batch_size="full", callbacks=[comes, end], verbose=False)
    assert measured == [evaluate(model, data(COUNT)).loss]


def test_a_signal_in_the_last_step_of_an_epoch_is_not_lost() -> None:
    class Schedule:
        def step(self) -> None:
            signal.raise_signal(signal.SIGINT)

    model = network()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(KeyboardInterrupt):
        step.run_epoch(*data(), None, COUNT, Schedule(), progress=False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_ends_within_a_step_over_all_images(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Gradient descent with backtracking: an epoch takes seconds, and the run is as it was before it."""
    command = [
        sys.executable,
        "-m",
        "fastnn",
        "train",
        "--optimizer",
        "gd",
        "--model",
        "best",
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch"):  # the head of the table: an epoch has ended
            assert process.poll() is None
        time.sleep(0.2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert re.search(rf"stopped by {number.name} in epoch \d+, after 0 of 1 batches", errors)
