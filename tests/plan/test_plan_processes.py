"""Forks, threads and signals beside a plan in use: children never hang, and a plan called within itself says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from forks import FORKS

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import GraphError

LOSS = nn.CrossEntropyLoss()
HAS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@HAS_FORK
def test_children_of_a_process_whose_thread_trains() -> None:
    """Which locks the thread holds when the process forks is chance: over 20 forks each of them, mostly."""
    done = subprocess.run([sys.executable, "-c", FORKS, "20"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


@HAS_FORK
def test_a_child_while_every_lock_is_held() -> None:
    """Held for sure: a thread is inside a step, inside the random numbers' lock and inside a bar's."""
    from tqdm import tqdm

    from fastnn import random

    model = networks.mlp()
    x, y = networks.batch_for(networks.mlp, 16)
    step = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1))
    predict = fnn.compile(model)
    expected = predict(x)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with step._lock, predict._lock, random._of_process.lock, tqdm.get_lock():
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            code = 3
            try:
                right = np.array_equal(predict(x), expected)
                fnn.manual_seed(0)
                code = 0 if right and np.isfinite(step.run_epoch(x, y, batch_size=8)) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
    finally:
        release.set()
        thread.join(60)
    assert status == 0
    assert np.array_equal(predict(x), expected)


@HAS_FORK
def test_a_fork_within_a_step_goes_on_in_the_child() -> None:
    """The thread that forks is in the child: what it holds stays its own, and it may finish what it began."""
    model = networks.mlp()
    x, y = networks.batch_for(networks.mlp, 16)
    step = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1))
    children: list[int] = []

    class Forks:
        def step(self) -> None:
            children.append(os.fork())

    try:
        step.run_epoch(x, y, None, 16, Forks(), progress=False)
        step(x, y)
        code = 0
    except BaseException:
        code = 1
        if children[0]:
            raise
    finally:
        if children and not children[0]:
            os._exit(code)
    assert os.waitpid(children[0], 0)[1] == 0


# ---- a plan called by what it runs itself ----------------------------------------------------------------------------


class Calls(fnn.Function):
    """The identity, which first calls whatever `inner` is."""

    inner: Callable[[], Any] | None = None

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        if Calls.inner is not None:
            Calls.inner()
        return x

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        return grad


class Layer(nn.Module):
    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return Calls.apply(x)


class CallingOptimizer(optim.Optimizer):
    """One that steps by its own code, which calls a plan."""

    inner: Callable[[], Any] | None = None

    def step(self, closure: Any = None) -> Any:
        if self.inner is not None:
            self.inner()


@pytest.mark.parametrize("who", ["Function", "optimiser", "schedule", "signal handler"])
def test_a_plan_called_within_itself_says_so(who: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), Layer(), nn.Linear(8, 3))
    x, y = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), np.arange(6) % 3
    optimizer = CallingOptimizer(model.parameters(), {"lr": 0.1})
    step = fnn.compile(model, LOSS, optimizer)
    first = step(x, y)

    def inner() -> None:
        step(x, y)

    class Schedule:
        step = staticmethod(inner)

    def raise_signal() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)

    before = signal.signal(signal.SIGUSR1, lambda *_: inner())
    Calls.inner = {"Function": inner, "signal handler": raise_signal}.get(who)
    optimizer.inner = inner if who == "optimiser" else None
    schedule = Schedule() if who == "schedule" else None
    try:
        with pytest.raises(GraphError, match="called while it is running: by a signal handler, a schedule"):
            step.run_epoch(x, y, None, 6, schedule, progress=False)
    finally:
        signal.signal(signal.SIGUSR1, before)
        Calls.inner = optimizer.inner = None
    assert step(x, y) == first, "usable again, and as it was"


def test_a_signal_handler_that_computes_while_a_model_is_traced_computes() -> None:
    """What it does is no part of the plan, and its own handler is the one that stands afterwards."""
    found: list[float] = []
    x = np.arange(8, dtype=np.float32).reshape(2, 4)

    def handler(*_: object) -> None:
        found.append((fnn.Tensor(x) * 2).sum().item())

    class Signalled(nn.Module):
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            signal.raise_signal(signal.SIGUSR1)
            return x * 3

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        predict = fnn.compile(Signalled())
        assert np.array_equal(predict(x), x * 3)
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found
    assert set(found) == {56.0}


def test_one_plan_may_run_within_another() -> None:
    """A schedule that looks at predictions of the model that is being trained, by a plan of its own."""
    model = networks.mlp()
    x, y = networks.batch_for(networks.mlp, 16)
    step, predict = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1)), fnn.compile(model)
    seen: list[np.ndarray] = []

    class Schedule:
        def step(self) -> None:
            seen.append(predict(x))

    step.run_epoch(x, y, None, 8, Schedule(), progress=False)
    assert len(seen) == 2
    assert not np.array_equal(*seen)


def test_ctrl_c_in_a_thread_that_waits_for_a_plan() -> None:
    """The wait ends, and the plan is neither lost nor taken twice."""
    predict = fnn.compile(networks.mlp())
    x, _ = networks.batch_for(networks.mlp, 16)
    expected = predict(x)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with predict._lock:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            predict(x)
    finally:
        timer.join()
        release.set()
        thread.join(60)
    assert np.array_equal(predict(x), expected)


def test_an_error_between_two_programs_leaves_the_plan_usable() -> None:
    model = nn.Sequential(nn.Linear(4, 8), Layer(), nn.Linear(8, 3))
    x, y = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), np.arange(6) % 3
    step, predict = fnn.compile(model, LOSS), fnn.compile(model)
    loss, outputs = step(x, y), predict(x)
    before = [p.grad.copy() for p in model.parameters()]

    def interrupt() -> None:
        raise KeyboardInterrupt

    for plan, arguments in ((step, (x, y)), (predict, (x,))):
        Calls.inner = interrupt
        try:
            with pytest.raises(KeyboardInterrupt):
                plan(*arguments)
        finally:
            Calls.inner = None
    model.zero_grad()
    assert step(x, y) == loss
    assert np.array_equal(predict(x), outputs)
    assert all(np.array_equal(p.grad, grad) for p, grad in zip(model.parameters(), before, strict=True))


@HAS_FORK
def test_a_child_draws_random_numbers_that_a_lost_thread_was_drawing() -> None:
    held, done = threading.Event(), threading.Event()

    def draw() -> None:
        with fnn.random.generator().bit_generator.lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=draw)
    thread.start()
    held.wait(60)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        layer = nn.Linear(3, 3)
        fnn.random.generator().permutation(4)
        nn.Dropout(0.5)(layer(np.ones((2, 3), np.float32)))
        fnn.randn_like(layer.weight)
        os._exit(0)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
