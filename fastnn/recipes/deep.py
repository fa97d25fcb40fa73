"""Models for pictures of any size, in colour above all: no dense layer sees where in the picture something was."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from fastnn.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    Module,
    Normalize,
    ReLU,
    Sequential,
)
from fastnn.tensors import Tensor

from .small import Channels, at_least

__all__ = ["Residual", "mobile", "resnet"]


class Residual(Module):
    """ReLU(F(x) + x), with two 3x3 convolutions and batch norms for F (He et al. 2015, figure 2 and section 4.2).

    Where the number of channels or the size changes, x goes through a 1x1 convolution and batch norm of its own.

    Args:
        inputs, outputs: channels of x (N, inputs, H, W) and of the result (N, outputs, H / stride, W / stride).
        stride: of the first convolution.

    >>> import fastnn as fnn
    >>> Residual(16, 32, stride=2)(fnn.zeros(1, 16, 8, 8)).shape
    (1, 32, 4, 4)
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = Sequential(
            Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), BatchNorm2d(outputs), ReLU(),
            Conv2d(outputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = (
            Sequential()
            if same
            else Sequential(Conv2d(inputs, outputs, 1, stride=stride, bias=False), BatchNorm2d(outputs))
        )
        self.relu = ReLU()
        self.inputs, self.outputs, self.stride = inputs, outputs, stride

    def forward(self, x: Any) -> Tensor:
        result: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return result

    def __repr__(self) -> str:
        return f"Residual({self.inputs}, {self.outputs}, stride={self.stride})"


def resnet(
    image_shape: Sequence[int] = (3, 32, 32), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """ResNet-20 (He et al. 2015, section 4.2): nine residual blocks of 16, 32 and 64 filters, an average over all
    places, one dense layer.
    """
    channels, _, _ = at_least(8, image_shape, "resnet")
    widths = [16] * 4 + [32] * 3 + [64] * 3
    pairs = itertools.pairwise(widths)
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU(),
        *(Residual(inputs, outputs, 1 if inputs == outputs else 2) for inputs, outputs in pairs),
        AdaptiveAvgPool2d(1), Flatten(),
        Linear(64, classes),
    )  # fmt: skip


def mobile(
    image_shape: Sequence[int] = (3, 32, 32), classes: int = 10, mean: Channels = 0.0, std: Channels = 1.0
) -> Sequential:
    """Depthwise separable convolutions as in MobileNet (Howard et al. 2017, table 1), of a quarter of its width and
    for small pictures: a fifth of the weights of `resnet`.
    """
    channels, _, _ = at_least(8, image_shape, "mobile")
    blocks = [(16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    return Sequential(
        Normalize(mean, std),
        Conv2d(channels, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU(),
        *(layer for block in blocks for layer in _separable(*block)),
        AdaptiveAvgPool2d(1), Flatten(),
        Linear(128, classes),
    )  # fmt: skip


def _separable(inputs: int, outputs: int, stride: int) -> tuple[Module, ...]:
    """One filter of 3x3 a channel, then 1x1 across the channels, each with batch norm and ReLU."""
    return (
        Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False), BatchNorm2d(inputs), ReLU(),
        Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs), ReLU(),
    )  # fmt: skip
