"""The engine of training regions: mosaics of small images, few blocks for large weights, winners of pools, strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
from plan_networks import CLASSES, EXACT, ISAS, NATIVE, WINOGRAD, running_on

import fastnn as fnn
from fastnn import nn

pytestmark = pytest.mark.skipif(not NATIVE, reason="the other backends run operators one by one")


class Residual(nn.Module):
    """f(x + conv(f(norm(conv(x))))), with f smooth: then rounding does not decide where a gradient goes."""

    def __init__(self, c: int, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.second = (
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.Conv2d(c, c, 3, padding=1),
        )
        self.activation = activation

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return self.activation(x + self.second(self.activation(self.norm(self.first(x)))))


def classifier(features: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES))


def compare(model: nn.Module, shape: tuple[int, ...], bound: float, **options: bool) -> None:
    """Gradients against float64."""
    rng = np.random.default_rng(0)
    x, y = networks.draw_batch(rng, shape, False, 0)
    loss_fn = nn.CrossEntropyLoss()
    networks.assert_close(
        networks.compiled_gradients(model, loss_fn, x, y, **options),
        networks.exact_gradients(model, loss_fn, x, y),
        bound,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("images", [1, 7, 33, 64])
@pytest.mark.parametrize("size", [5, 9, 13])
def test_small_images_go_together(size: int, images: int, isa: str) -> None:
    """Sizes at which tiles of 4x4 would be half empty at the edges, and batches that leave a mosaic partly empty."""
    fnn.manual_seed(size)
    model = classifier(
        24 * size * size,
        nn.Conv2d(3, 24, 3, padding=1),
        nn.ELU(),
        Residual(24, nn.GELU()),
        Residual(24, nn.Tanh()),
    )
    with running_on(isa, threads=2):
        compare(model, (images, 3, size, size), WINOGRAD)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_mosaics_of_any_padding(padding: int) -> None:
    fnn.manual_seed(padding)
    size = 9 + 3 * (2 * padding - 2)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 1)]
    for _ in range(3):
        layers += [nn.ELU(), nn.Conv2d(16, 16, 3, padding=padding), nn.BatchNorm2d(16)]
    compare(classifier(16 * size * size, *layers), (24, 3, 9, 9), WINOGRAD)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ELU, nn.GELU])
@pytest.mark.parametrize("pool", [(2, 2), (3, 3), (1, 2)])
def test_poolings_by_winners(pool: tuple[int, int], activation: Callable[[], nn.Module]) -> None:
    """Windows side by side, with rows and columns that they leave out."""
    fnn.manual_seed(1)
    model = classifier(
        20 * (7 // pool[0]) * (11 // pool[1]), nn.Conv2d(3, 12, 3, padding=1), activation(),
        nn.Conv2d(12, 20, 3, padding=1), nn.BatchNorm2d(20), activation(), nn.MaxPool2d(pool),
    )  # fmt: skip
    compare(model, (9, 3, 7, 11), EXACT, exact=True)


def test_large_weights_have_few_blocks() -> None:
    fnn.manual_seed(2)
    model = classifier(
        640, nn.Conv2d(3, 640, 3, padding=1), nn.ELU(), nn.Conv2d(640, 640, 3), nn.BatchNorm2d(640), nn.ELU(),
        nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip
    compare(model, (32, 3, 6, 6), WINOGRAD)


STRIDED = [  # kernel, channels in and out, image, padding, batch: outputs that fill tiles of 4x4, and that do not
    (4, (32, 48), (16, 16), 1, 32),
    (4, (32, 40), (16, 14), 1, 32),
    (5, (40, 40), (17, 16), 0, 33),
    (5, (24, 32), (15, 16), (3, 2), 40),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("kernel", "channels", "image", "padding", "batch"), STRIDED)
def test_stride_of_two_in_winograds_domain(
    kernel: int, channels: tuple[int, int], image: tuple[int, int], padding: Any, batch: int, isa: str
) -> None:
    """Gradients are float64's, not bit for bit those of direct loops, and any number of threads'."""
    fnn.manual_seed(kernel)
    model = nn.Sequential(
        nn.Conv2d(3, channels[0], 1),
        nn.Tanh(),
        nn.Conv2d(*channels, kernel, stride=2, padding=padding),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels[1], CLASSES),
    )
    loss_fn = nn.CrossEntropyLoss()
    x, y = networks.draw_batch(np.random.default_rng(0), (batch, 3, *image), False, 0)
    with running_on(isa, threads=2):
        found = networks.compiled_gradients(model, loss_fn, x, y)
        direct = networks.compiled_gradients(model, loss_fn, x, y, exact=True)
    with running_on(isa, threads=1):
        alone = networks.compiled_gradients(model, loss_fn, x, y)
    exact = networks.exact_gradients(model, loss_fn, x, y)
    networks.assert_close(found, exact, WINOGRAD / 10)
    networks.assert_close(direct, exact, EXACT)
    assert isa == "baseline" or any((found[name] != direct[name]).any() for name in found)
    for name, values in found.items():
        np.testing.assert_array_equal(values, alone[name], err_msg=name)
