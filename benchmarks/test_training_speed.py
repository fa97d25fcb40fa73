"""Training the four models on the digits: one step with 128 images, and one epoch, by every backend and PyTorch.

PyTorch runs eagerly, in its usual layout and in channels_last, with its fused optimiser; torch.compile is left out, as
it needs a compiler and minutes. Every competitor's first loss is compared with the NumPy backend's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
from competitors import INSTALLED, load_torch

import fastnn as fnn
from fastnn import backends, nn, optim, recipes
from fastnn.data import Batches, Dataset

BATCH = 128
MODELS = ("cnn", "lenet5", "mlp", "linear")
SETTINGS: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
BACKENDS = {"native": "native", "jit": "jit", "numpy": "reference"}
LAYOUTS = {"torch": False, "torch channels_last": True}
STEPS = [name for name in BACKENDS if INSTALLED[name]] + list(LAYOUTS) * INSTALLED["torch"]
EPOCHS = [name for name in STEPS if name != "numpy"]  # which would take a minute, to show what its step has shown

Step = Callable[[np.ndarray, np.ndarray], float]


@cache
def digits() -> Dataset:
    return fnn.data.load("digits")


def batches() -> Batches:
    return Batches(digits().images, digits().labels, BATCH, shuffle=True, seed=0, drop_last=True)


@contextmanager
def backend_of(competitor: str) -> Iterator[None]:
    """Several backends in one process, where users have FASTNN_BACKEND."""
    with pytest.MonkeyPatch.context() as patch:
        chosen = BACKENDS.get(competitor, backends.name()), "benchmark"
        patch.setattr(backends, "_choice", lambda: chosen)
        yield


def new_model(name: str) -> tuple[nn.Sequential, optim.SGD]:
    """Always with the same weights."""
    fnn.manual_seed(0)
    model = recipes.recipe(name, digits()).build(digits())
    return model, optim.SGD(model.parameters(), **SETTINGS)


def training_step(name: str, competitor: str) -> Step:
    """A function of images and labels that updates a new model and returns the loss."""
    model, optimiser = new_model(name)
    if competitor in LAYOUTS:
        load_torch()
        import torch_training

        return torch_training.training_step(model, SETTINGS, LAYOUTS[competitor])
    loss_fn = nn.CrossEntropyLoss()

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        loss = loss_fn(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def training_epoch(name: str, competitor: str) -> Callable[[], float]:
    """A function that trains a new model, or trains it further, for one epoch, and returns the mean loss."""
    order = batches()
    if competitor in LAYOUTS:
        step = training_step(name, competitor)
        return lambda: float(np.mean([step(images, labels) for images, labels in order]))
    model, optimiser = new_model(name)
    return lambda: fnn.fit(model, order, optimizer=optimiser, verbose=False)[-1].train_loss


@cache
def expected_loss(name: str) -> float:
    with backend_of("numpy"):
        return training_step(name, "numpy")(*next(iter(batches())))


@pytest.mark.parametrize("competitor", STEPS)
@pytest.mark.parametrize("model", MODELS)
def test_step(benchmark: Any, model: str, competitor: str) -> None:
    several = list(batches())
    with backend_of(competitor):
        step = training_step(model, competitor)
        assert step(*several[0]) == pytest.approx(expected_loss(model), abs=1e-3)
        feed = itertools.cycle(several)
        _time(benchmark, lambda: step(*next(feed)), f"training step {model}, {BATCH} images", competitor, BATCH)


@pytest.mark.parametrize("competitor", EPOCHS)
@pytest.mark.parametrize("model", MODELS)
def test_epoch(benchmark: Any, model: str, competitor: str) -> None:
    with backend_of(competitor):
        epoch = training_epoch(model, competitor)
        first = epoch()
        group, images = f"training epoch {model}, digits in batches of {BATCH}", BATCH * len(batches())
        assert _time(benchmark, epoch, group, competitor, images) < first


def _time(benchmark: Any, call: Callable[[], Any], group: str, competitor: str, images: int) -> Any:
    benchmark.group, benchmark.name = group, competitor
    rounds = 2 if competitor == "numpy" else 3 if "epoch" in group else 10
    result = benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["images/s"] = images / benchmark.stats.stats.min
    return result
