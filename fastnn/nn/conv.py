"""The convolutional layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import init, ops
from fastnn.checks import whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import check_options
from fastnn.nn.module import Module, Parameter
from fastnn.ops.common import Size, pair
from fastnn.tensor import Tensor


class Conv2d(Module):
    """Convolution (cross-correlation): input (N, in_channels, H, W), output (N, out_channels, OH, OW).

    OH = (H + 2·padding - dilation·(kernel_size - 1) - 1) // stride + 1. Sizes are ints or pairs (height, width);
    `padding` may be "valid" (none) or "same" (the output has the input's size; stride 1). weight
    (out_channels, in_channels/groups, kh, kw) and bias start uniform on ±1/sqrt(fan_in), as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Conv2d(1, 32, 3)(np.zeros((8, 1, 28, 28), np.float32)).shape
    (8, 32, 26, 26)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("Conv2d", padding_mode=padding_mode, device=device, dtype=dtype)
        self.in_channels = whole("Conv2d", "in_channels", in_channels, 1)
        self.out_channels = whole("Conv2d", "out_channels", out_channels, 1)
        self.groups = whole("Conv2d", "groups", groups, 1)
        self.kernel_size, self.stride = pair("kernel_size", kernel_size), pair("stride", stride)
        self.dilation = pair("dilation", dilation)
        self.padding = _padding(padding, self.kernel_size, self.stride, self.dilation)
        if min(*self.kernel_size, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise ArgumentError(
                "Conv2d: expected kernel_size, stride and dilation of at least 1 and padding of at least 0, got "
                f"{kernel_size}, {stride}, {dilation} and {padding}"
            )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"Conv2d: expected in_channels and out_channels divisible by groups={groups}, "
                f"got {in_channels} and {out_channels}"
            )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(np.empty(shape, np.float32))
        self.bias = Parameter(np.empty(self.out_channels, np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh random weights."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight.data)[0])
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Tensor:
        if (x.ndim if isinstance(x, Tensor) else np.ndim(x)) == 3:
            raise ShapeError(f"conv2d: expected input of shape (N, C, H, W), got {np.shape(x)}: add a batch, x[None]")
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding}"] if self.padding != (0, 0) else []
        parts += [f"dilation={self.dilation}"] if self.dilation != (1, 1) else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join(parts)


def _padding(
    padding: Size | str, kernel_size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    """`padding` as a pair; "same" wants stride 1 and windows that can lie in the middle."""
    if not isinstance(padding, str):
        return pair("padding", padding)
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise ArgumentError(f"Conv2d: expected padding of ints, 'same' or 'valid', got {padding!r}")
    reach = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    if stride != (1, 1) or reach[0] % 2 or reach[1] % 2:
        raise ArgumentError(
            "Conv2d: padding='same' expects stride 1 and an odd kernel_size (or even dilation), got "
            f"stride={stride}, kernel_size={kernel_size}, dilation={dilation}"
        )
    return reach[0] // 2, reach[1] // 2
