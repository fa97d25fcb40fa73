"""Gradients of compiled steps over many images, and over large ones, lose no digits in any of the engines."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from plan_networks import ISAS, running_on

import fastnn as fnn
from fastnn import nn


def conv(*channels: int, norm: bool = False, pool: int = 1, size: int = 3) -> list[nn.Module]:
    """Convolutions in a row, each with what follows it."""
    layers: list[nn.Module] = []
    for c, o in itertools.pairwise(channels):
        layers += [nn.Conv2d(c, o, size), *[nn.BatchNorm2d(o)] * norm, nn.ReLU(), *[nn.MaxPool2d(pool)] * (pool > 1)]
    return layers


NETWORKS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "dense": (lambda: [nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 9)], (40,)),
    "dense, sparse input": (lambda: [nn.Flatten(), nn.Linear(100, 48)], (1, 10, 10)),
    "narrow": (lambda: [*conv(1, 3, 5, pool=2), nn.Flatten()], (1, 12, 12)),
    "narrow, Winograd": (lambda: [*conv(2, 6, 7), nn.Flatten()], (2, 12, 12)),
    "wide": (lambda: [*conv(1, 16, 32, pool=2), nn.Flatten()], (1, 12, 12)),
    "wide, unpooled": (lambda: [*conv(3, 16, 16), nn.Flatten()], (3, 9, 9)),
    "norm": (lambda: [*conv(1, 4, 16, norm=True, pool=2), nn.Flatten()], (1, 12, 12)),
    "norm, Winograd": (lambda: [*conv(2, 8, 8, norm=True), nn.Flatten()], (2, 12, 12)),
}


def gradients(model: nn.Module, x: np.ndarray, y: np.ndarray, compiled: bool) -> dict[str, np.ndarray]:
    loss_fn = nn.CrossEntropyLoss()
    model.zero_grad()
    if compiled:
        fnn.compile(model, loss_fn)(x, y)
    else:
        loss_fn(model(x), y).backward()
    return {name: np.array(p.grad) for name, p in model.named_parameters()}


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], bound: float, message: str) -> None:
    """Beside the largest entry of all: of a bias before or in a batch norm the terms cancel."""
    largest = max(float(np.abs(g).max()) for g in expected.values())
    for name, gradient in expected.items():
        error = np.abs(got[name] - gradient).max() / largest
        assert error <= bound, f"{name}, {message}: {error:.2g}"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_many_equal_images(name: str) -> None:
    """Their gradient is the one of a few of them; what is left is rounding in the sums over the batch."""
    layers, shape = NETWORKS[name]
    fnn.manual_seed(0)
    model = nn.Sequential(*layers())
    rng = np.random.default_rng(0)
    few = np.abs(rng.normal(size=(16, *shape))).astype(np.float32)
    if name == "dense, sparse input":
        few[:, :, :, 3:] = 0
    y = np.arange(16) % 2
    for isa in ISAS:
        with running_on(isa):
            expected = gradients(model, few, y, compiled=True)
            many = gradients(model, np.tile(few, (1024, *(1 for _ in shape))), np.tile(y, 1024), compiled=True)
            assert_same(many, expected, 3e-6, str(isa))


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("norm", [False, True])
def test_large_images(channels: int, norm: bool) -> None:
    """Against double precision; the forward pass rounds too, and batch norm leaves small differences of large sums."""
    fnn.manual_seed(1)
    rng = np.random.default_rng(1)
    x = (0.5 + 0.1 * rng.random((2, 1, 300, 300))).astype(np.float32)
    y = np.array([0, 1])
    model = nn.Sequential(*conv(1, channels, norm=norm, pool=2), nn.GlobalAvgPool2d(), nn.Flatten())
    model[0].bias.data[...] = 1.0 if not norm else 0.0  # ReLU lets everything through
    exact = gradients(model.double(), x.astype(np.float64), y, compiled=False)
    model = model.float()
    for isa in ISAS:
        with running_on(isa):
            assert_same(gradients(model, x, y, compiled=True), exact, 3e-4 if norm else 2e-5, str(isa))


def test_a_dense_layer_of_many_inputs() -> None:
    """Forward, of few and of many images; input of equal numbers makes the rounding errors add up."""
    fnn.manual_seed(2)
    for features in (5_000, 300_000):
        layer = nn.Linear(features, 33, bias=False)
        layer.weight.data[...] = 0.1
        for images in (1, 2, 5, 40):
            x = np.full((images, features), 0.3, np.float32)
            x[:, 0] = 0.5
            expected = 0.1 * (0.3 * (features - 1) + 0.5)
            for isa in ISAS:
                with running_on(isa):
                    predict = fnn.compile(layer)
                    np.testing.assert_allclose(
                        predict(x), expected, rtol=1e-6, err_msg=f"{isa}, {images} of {features}"
                    )
