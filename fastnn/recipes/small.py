"""Models for small pictures: a `Normalize`, convolutions or none, dense layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastnn.checks import entries, whole
from fastnn.errors import ArgumentError
from fastnn.nn import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    Normalize,
    ReLU,
    Sequential,
)

__all__ = ["Channels", "at_least", "best", "cnn", "fast", "lenet5", "linear", "mlp"]

Channels = float | Sequence[float]  # one number, or one a channel


def linear(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Linear classifier y = W x + b over all pixels.

    Args, of all models:
        image_shape: (C, H, W) of the images. Raises ArgumentError if they are too small for the model.
        classes: number of outputs.
        mean, std: of the training images, on the scale 0 .. 1, for `nn.Normalize`.
    """
    return Sequential(Normalize(mean, std), Flatten(), Linear(math.prod(shape("linear", image_shape)), classes))


def mlp(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """One hidden layer of 1000 ReLU units."""
    return Sequential(
        Normalize(mean, std),
        Flatten(),
        Linear(math.prod(shape("mlp", image_shape)), 1000),
        ReLU(),
        Linear(1000, classes),
    )


def lenet5(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """LeNet-5 with ReLU and max-pooling (after LeCun et al. 1998): two 5x5 convolutions, three dense layers."""
    channels, height, width = at_least(12, image_shape, "lenet5")
    height, width = (height // 2 - 4) // 2, (width // 2 - 4) // 2
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 6, 5, padding=2), ReLU(), MaxPool2d(2),
        Conv2d(6, 16, 5), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(16 * height * width, 120), ReLU(),
        Linear(120, 84), ReLU(),
        Linear(84, classes),
    )  # fmt: skip


def cnn(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Two 3x3 convolutions of 32 and 64 filters, one max-pooling, two dense layers.

    >>> cnn()((__import__("numpy").zeros((2, 1, 28, 28), "uint8"))).shape
    (2, 10)
    """
    channels, height, width = at_least(6, image_shape, "cnn")
    height, width = (height - 4) // 2, (width - 4) // 2
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 32, 3), ReLU(),
        Conv2d(32, 64, 3), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(64 * height * width, 128), ReLU(),
        Linear(128, classes),
    )  # fmt: skip


def fast(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Two 3x3 convolutions of 8 and 16 filters, each with max-pooling, and two dense layers."""
    channels, height, width = at_least(10, image_shape, "fast")
    height, width = ((height - 2) // 2 - 2) // 2, ((width - 2) // 2 - 2) // 2
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 8, 3), ReLU(), MaxPool2d(2),
        Conv2d(8, 16, 3), ReLU(), MaxPool2d(2),
        Flatten(),
        Linear(16 * height * width, 128), ReLU(),
        Linear(128, classes),
    )  # fmt: skip


def best(
    image_shape: Sequence[int] = (1, 28, 28), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Twice two 3x3 convolutions with batch norm, of 32 and of 64 filters, and max-pooling; two dense layers."""
    channels, height, width = at_least(16, image_shape, "best")
    height, width = ((height - 4) // 2 - 4) // 2, ((width - 4) // 2 - 4) // 2
    return Sequential(
        Normalize(mean, std),
        *_normalised(channels, 32), *_normalised(32, 32), MaxPool2d(2),
        *_normalised(32, 64), *_normalised(64, 64), MaxPool2d(2),
        Flatten(),
        Linear(64 * height * width, 128), ReLU(),
        Linear(128, classes),
    )  # fmt: skip


def _normalised(channels: int, filters: int) -> tuple[Module, ...]:
    return Conv2d(channels, filters, 3, bias=False), BatchNorm2d(filters), ReLU()


def shape(model: str, given: Sequence[int]) -> tuple[int, ...]:
    """The shape of a sample, checked."""
    return tuple(whole(model, "each size of a sample", size, 1) for size in entries(model, "a sample's shape", given))


def at_least(side: int, image_shape: Sequence[int], model: str) -> Sequence[int]:
    image_shape = shape(model, image_shape)
    if len(image_shape) != 3 or min(image_shape[1:]) < side:
        raise ArgumentError(f"{model}: expected images (C, H, W) of at least {side}x{side}, got {tuple(image_shape)}")
    return image_shape
