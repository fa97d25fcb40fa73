"""Pooling layers: input (N, C, H, W) or (N, C, L), output (N, C, OH, OW) or (N, C, OL)."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.checks import plain
from fastnn.errors import ArgumentError
from fastnn.habits import check_options
from fastnn.nn.applied import Applied
from fastnn.nn.module import Module
from fastnn.ops.common import sizes
from fastnn.tensors import Tensor

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "GlobalAvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxUnpool1d",
    "MaxUnpool2d",
]


class _MaxPoolNd(Module):
    dims: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.dilation = plain(kernel_size), plain(padding), plain(dilation)
        self.stride = self.kernel_size if stride is None else plain(stride)
        self.return_indices, self.ceil_mode = return_indices, ceil_mode
        _check(type(self).__name__, self.dims, self.kernel_size, self.stride, self.padding)

    def forward(self, input: Any) -> Any:
        pool = ops.max_pool1d if self.dims == 1 else ops.max_pool2d
        return pool(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        parts = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{parts}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPoolNd):
    """The largest entry of each window: (N, C, L) -> (N, C, OL); all else as MaxPool2d."""

    dims = 1


class MaxPool2d(_MaxPoolNd):
    """The largest entry of each window; stride defaults to kernel_size, padding is at most half of it.

    With `ceil_mode` the last window may reach beyond the padding; `return_indices` gives a pair, maxima and where they
    were in their planes.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.MaxPool2d(2)(np.zeros((8, 64, 24, 24), np.float32)).shape
    (8, 64, 12, 12)
    """

    dims = 2


class _MaxUnpoolNd(Module):
    dims: int
    function: str

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size, self.padding = plain(kernel_size), plain(padding)
        self.stride = self.kernel_size if stride is None else plain(stride)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Tensor:
        unpool = getattr(ops, self.function)
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        sizes = (each if isinstance(each, tuple) else (each,) * self.dims
                 for each in (self.kernel_size, self.stride, self.padding))  # fmt: skip
        return "kernel_size={}, stride={}, padding={}".format(*sizes)


class MaxUnpool1d(_MaxUnpoolNd):
    """Maxima of sequences put back where they were, called with what MaxPool1d(..., return_indices=True) gave."""

    dims, function = 1, "max_unpool1d"


class MaxUnpool2d(_MaxUnpoolNd):
    """Maxima of images put back where they were, called with what MaxPool2d(..., return_indices=True) gave."""

    dims, function = 2, "max_unpool2d"


class _AvgPoolNd(Module):
    dims: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.count_include_pad = plain(kernel_size), plain(padding), count_include_pad
        self.stride = self.kernel_size if stride is None else plain(stride)
        self.ceil_mode, self.divisor_override = ceil_mode, divisor_override
        _check(type(self).__name__, self.dims, self.kernel_size, self.stride, self.padding)

    def forward(self, input: Any) -> Tensor:
        options = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return ops.avg_pool1d(input, *options) if self.dims == 1 else ops.avg_pool2d(
            input, *options, self.divisor_override
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd):
    """The mean of each window: (N, C, L) -> (N, C, OL); all else as AvgPool2d, without divisor_override."""

    dims = 1

    def extra_repr(self) -> str:
        kernel, stride, padding = (
            each if isinstance(each, tuple) else (each,) for each in (self.kernel_size, self.stride, self.padding)
        )
        return f"kernel_size={kernel}, stride={stride}, padding={padding}"


class AvgPool2d(_AvgPoolNd):
    """The mean of each window; stride defaults to kernel_size. `count_include_pad=False` leaves the padding out,
    `divisor_override` divides the sums by that number, `ceil_mode` lets the last window reach beyond the padding.
    """

    dims = 2


class _Adaptive(Applied):
    options = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = plain(output_size)


class AdaptiveAvgPool1d(_Adaptive):
    """The means of `output_size` windows that are as even as can be: (N, C, L) -> (N, C, output_size)."""

    function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_Adaptive):
    """The means of windows that are as even as can be, (N, C, H, W) -> (N, C, OH, OW); output_size is an int or a pair,
    in which None keeps a size.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.AdaptiveAvgPool2d((3, 1))(np.zeros((8, 64, 7, 7), np.float32)).shape
    (8, 64, 3, 1)
    """

    function = "adaptive_avg_pool2d"


class _AdaptiveMax(_Adaptive):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        check_options(type(self).__name__, return_indices=return_indices)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The largest entries of the windows of AdaptiveAvgPool1d."""

    function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The largest entries of the windows of AdaptiveAvgPool2d."""

    function = "adaptive_max_pool2d"


class GlobalAvgPool2d(AdaptiveAvgPool2d):
    """The mean of each plane: (N, C, H, W) -> (N, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__(1)

    def extra_repr(self) -> str:
        return ""


def _check(layer: str, dims: int, kernel_size: Any, stride: Any, padding: Any) -> None:
    named = (("kernel_size", kernel_size), ("stride", stride), ("padding", padding))
    kernels, strides, pads = (sizes(name, value, dims) for name, value in named)
    if min(*kernels, *strides) < 1 or any(not 0 <= p <= k // 2 for p, k in zip(pads, kernels, strict=True)):
        raise ArgumentError(
            f"{layer}: expected kernel_size and stride of at least 1 and padding from 0 to half of kernel_size, got "
            f"{kernel_size}, {stride} and {padding}"
        )
