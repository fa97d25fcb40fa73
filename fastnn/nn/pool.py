"""Pooling layers: input (N, C, H, W), output (N, C, OH, OW)."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import plain
from fastnn.errors import ArgumentError
from fastnn.habits import check_options
from fastnn.nn.module import Module
from fastnn.ops.common import Size, pair
from fastnn.tensor import Tensor


class MaxPool2d(Module):
    """The largest entry of each window; stride defaults to kernel_size, padding is at most half of it.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.MaxPool2d(2)(np.zeros((8, 64, 24, 24), np.float32)).shape
    (8, 64, 12, 12)
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        check_options("MaxPool2d", dilation=dilation, return_indices=return_indices, ceil_mode=ceil_mode)
        self.kernel_size, self.padding = plain(kernel_size), plain(padding)
        self.stride = self.kernel_size if stride is None else plain(stride)
        _check("MaxPool2d", self.kernel_size, self.stride, self.padding)

    def forward(self, x: Any) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window; stride defaults to kernel_size. `count_include_pad=False` leaves the padding out."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        check_options("AvgPool2d", ceil_mode=ceil_mode, divisor_override=divisor_override)
        self.kernel_size, self.padding, self.count_include_pad = plain(kernel_size), plain(padding), count_include_pad
        self.stride = self.kernel_size if stride is None else plain(stride)
        _check("AvgPool2d", self.kernel_size, self.stride, self.padding)

    def forward(self, x: Any) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, count_include_pad=self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The mean of each plane, (N, C, H, W) -> (N, C, 1, 1), by PyTorch's name; output_size is 1, no other."""

    def __init__(self, output_size: Size) -> None:
        super().__init__()
        if pair("output_size", output_size) != (1, 1):
            raise ArgumentError(f"AdaptiveAvgPool2d: expected output_size=1, got {output_size!r}: use AvgPool2d")
        self.output_size = plain(output_size)

    def forward(self, x: Any) -> Tensor:
        return ops.global_avg_pool2d(x)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class GlobalAvgPool2d(AdaptiveAvgPool2d):
    """The mean of each plane: (N, C, H, W) -> (N, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__(1)

    def extra_repr(self) -> str:
        return ""


def _check(layer: str, kernel_size: Size, stride: Size, padding: Size) -> None:
    kernels, strides, pads = pair("kernel_size", kernel_size), pair("stride", stride), pair("padding", padding)
    if min(*kernels, *strides) < 1 or any(not 0 <= p <= k // 2 for p, k in zip(pads, kernels, strict=True)):
        raise ArgumentError(
            f"{layer}: expected kernel_size and stride of at least 1 and padding from 0 to half of kernel_size, got "
            f"{kernel_size}, {stride} and {padding}"
        )
