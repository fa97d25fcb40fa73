"""Convolutional layers, and their transposes."""

from __future__ import annotations

import math
from typing import Any

from fastnn import init, ops
from fastnn.checks import entries, flag, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import check_options
from fastnn.nn.members import new_parameter
from fastnn.nn.module import Module, Parameter
from fastnn.ops.common import sizes, tensor_of
from fastnn.ops.conv import paddings
from fastnn.tensors import Tensor

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all of them share; `dims` counts the dimensions of a kernel."""

    dims: int
    transposed = False
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options(type(self).__name__, device=device, dtype=dtype)
        name, dims = type(self).__name__, self.dims
        self.in_channels = whole(name, "in_channels", in_channels, 1)
        self.out_channels = whole(name, "out_channels", out_channels, 1)
        self.groups = whole(name, "groups", groups, 1)
        self.kernel_size: Any = sizes("kernel_size", kernel_size, dims)
        self.stride: Any = sizes("stride", stride, dims)
        self.dilation: Any = sizes("dilation", dilation, dims)
        if padding_mode not in _PADDING_MODES or (self.transposed and padding_mode != "zeros"):
            expected = "'zeros'" if self.transposed else f"one of {', '.join(_PADDING_MODES)}"
            raise ArgumentError(f"{name}: expected padding_mode to be {expected}, got {padding_mode!r}")
        self.padding_mode = padding_mode
        self.padding: Any = padding if isinstance(padding, str) else sizes("padding", padding, dims)
        pads_less = not isinstance(self.padding, str) and min(self.padding) < 0
        if min(*self.kernel_size, *self.stride, *self.dilation) < 1 or pads_less:
            raise ArgumentError(
                f"{name}: expected kernel_size, stride and dilation of at least 1 and padding of at least 0, got "
                f"{kernel_size}, {stride}, {dilation} and {padding}"
            )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"{name}: expected in_channels and out_channels divisible by groups={groups}, "
                f"got {in_channels} and {out_channels}"
            )
        self._around = self._pads_around()
        rows, columns = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (rows, columns // self.groups, *self.kernel_size)
        self.weight = new_parameter(self, shape)
        self.bias = new_parameter(self, (self.out_channels,)) if flag(type(self).__name__, "bias", bias) else None
        self.reset_parameters()

    def _pads_around(self) -> tuple[int, ...]:
        """What `pad` puts around the input: with other modes than zeros the convolution itself pads nothing."""
        beside = 2 - self.dims
        before, more = self.padding, (0,) * self.dims
        if isinstance(self.padding, str):
            kernel, stride, dilation = ((1,) * beside + each for each in (self.kernel_size, self.stride, self.dilation))
            both = paddings(type(self).__name__, self.padding, kernel, stride, dilation)
            before, more = (each[beside:] for each in both)
        if self.padding_mode == "zeros":
            return ()
        return tuple(n for b, m in zip(reversed(before), reversed(more), strict=True) for n in (b, b + m))

    def reset_parameters(self) -> None:
        """Fresh random weights."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight.data)[0])
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Tensor:
        convolve = ops.conv1d if self.dims == 1 else ops.conv2d
        padding = self.padding
        if self._around:
            input, padding = ops.pad(input, self._around, self.padding_mode), 0
        return convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        nothing, ones = (0,) * self.dims, (1,) * self.dims
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding}"] if self.padding != nothing else []
        parts += [f"dilation={self.dilation}"] if self.dilation != ones else []
        parts += [f"output_padding={more}"] if (more := getattr(self, "output_padding", nothing)) != nothing else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        parts += [f"padding_mode={self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts)


class Conv1d(_ConvNd):
    """Convolution of sequences: input (N, in_channels, L), output (N, out_channels, OL); all else as Conv2d.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Conv1d(1, 16, 3, padding=1)(np.zeros((8, 1, 100), np.float32)).shape
    (8, 16, 100)
    """

    dims = 1


class Conv2d(_ConvNd):
    """Convolution (cross-correlation): input (N, in_channels, H, W), output (N, out_channels, OH, OW).

    OH = (H + 2·padding - dilation·(kernel_size - 1) - 1) // stride + 1. Sizes are ints or pairs (height, width);
    `padding` may be "valid" (none) or "same" (the output has the input's size; stride 1; where it is uneven there is
    one more on the right and below). `padding_mode` "reflect", "replicate" or "circular" pads by the image itself.
    weight (out_channels, in_channels/groups, kh, kw) and bias start uniform on ±1/sqrt(fan_in), as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Conv2d(1, 32, 3)(np.zeros((8, 1, 28, 28), np.float32)).shape
    (8, 32, 26, 26)
    """

    dims = 2


class _ConvTransposeNd(_ConvNd):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        padding = sizes("padding", padding, self.dims)  # no words
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self.output_padding = sizes("output_padding", output_padding, self.dims)

    def forward(self, input: Any, output_size: Any = None) -> Tensor:
        transpose = ops.conv_transpose1d if self.dims == 1 else ops.conv_transpose2d
        more: Any = self.output_padding
        if output_size is not None:
            more = self._padding_for(tensor_of(input).shape, output_size)
        return transpose(
            input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )  # fmt: skip

    def _padding_for(self, shape: tuple[int, ...], output_size: Any) -> tuple[int, ...]:
        """The output_padding that gives this size, of the last dimensions or of all."""
        wanted = tuple(entries(type(self).__name__, "output_size", output_size))[-self.dims :]
        wanted = sizes("output_size", wanted, self.dims)
        if len(shape) not in (self.dims + 1, self.dims + 2):
            raise ShapeError(f"{type(self).__name__}: expected an input of {self.dims + 2} dimensions, got {shape}")
        each = zip(shape[-self.dims :], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        least = [(size - 1) * s - 2 * p + d * (k - 1) + 1 for size, k, s, p, d in each]
        return tuple(size - n for size, n in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTransposeNd):
    """The transpose of Conv1d: input (N, in_channels, L), output (N, out_channels, OL); all else as ConvTranspose2d."""

    dims = 1


class ConvTranspose2d(_ConvTransposeNd):
    """The transpose of Conv2d as a linear map: input (N, in_channels, H, W), output (N, out_channels, OH, OW).

    OH = (H - 1)·stride - 2·padding + dilation·(kernel_size - 1) + output_padding + 1; `output_padding` is less than
    stride. A call may name the `output_size` instead. weight (in_channels, out_channels/groups, kh, kw) and bias start
    uniform on ±1/sqrt(out_channels/groups·kh·kw), as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)(np.zeros((2, 8, 7, 7), np.float32)).shape
    (2, 4, 14, 14)
    """

    dims = 2
