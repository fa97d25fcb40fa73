"""Layers that change the size of images and sequences, and put entries around them; none has parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import ops
from fastnn.checks import number, plain, whole
from fastnn.errors import ShapeError
from fastnn.nn.applied import Applied
from fastnn.nn.module import Module
from fastnn.ops.common import Size, pair, sizes, tensor_of
from fastnn.tensors import Tensor

__all__ = [
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "ConstantPad1d",
    "ConstantPad2d",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
]


class Upsample(Applied):
    """(N, C, H, W) or (N, C, L) in another size, by `size` or `scale_factor`, as fastnn.ops.interpolate.

    >>> from fastnn import nn
    >>> nn.Upsample(scale_factor=2)([[[[1.0, 2.0]]]])
    Tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """

    function = "interpolate"
    options = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.scale_factor, self.mode = plain(size), plain(scale_factor), mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def extra_repr(self) -> str:
        size = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{size}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Upsample with mode "nearest"."""

    def __init__(self, size: Size | None = None, scale_factor: float | tuple[float, float] | None = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Upsample with mode "bilinear", the corners as they are."""

    def __init__(self, size: Size | None = None, scale_factor: float | tuple[float, float] | None = None) -> None:
        super().__init__(size, scale_factor, "bilinear", align_corners=True)


class PixelShuffle(Applied):
    """(..., C·r², H, W) -> (..., C, H·r, W·r): channels become places (Shi et al. 2016)."""

    function, options = "pixel_shuffle", ("upscale_factor",)

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = whole("PixelShuffle", "upscale_factor", upscale_factor, 1)


class PixelUnshuffle(Applied):
    """(..., C, H·r, W·r) -> (..., C·r², H, W): places become channels."""

    function, options = "pixel_unshuffle", ("downscale_factor",)

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = whole("PixelUnshuffle", "downscale_factor", downscale_factor, 1)


class ChannelShuffle(Applied):
    """(N, C, ...) with the first channels of all groups first, then the second ones (Zhang et al. 2018)."""

    function, options = "channel_shuffle", ("groups",)

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = whole("ChannelShuffle", "groups", groups, 1)


class Unfold(Applied):
    """(N, C, H, W) -> (N, C·kh·kw, windows): each window of a convolution as a column."""

    function = "unfold"
    options: tuple[str, ...] = ("kernel_size", "dilation", "padding", "stride")

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation = pair("kernel_size", kernel_size), pair("dilation", dilation)
        self.padding, self.stride = pair("padding", padding), pair("stride", stride)


class Fold(Unfold):
    """(N, C·kh·kw, windows) -> (N, C, H, W): the columns of Unfold added where they came from."""

    function, options = "fold", ("output_size", *Unfold.options)

    def __init__(
        self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = pair("output_size", output_size)


# ---- around ----------------------------------------------------------------------------------------------------------


class _Pad(Module):
    """`padding`: how many on every side, or (left, right) of (N, C, L), (left, right, top, bottom) of (N, C, H, W)."""

    dims: int
    mode: str
    value: float | None = None

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = sizes("padding", padding, 2 * self.dims)

    def forward(self, input: Any) -> Tensor:
        x = tensor_of(input)
        if x.ndim not in (self.dims + 1, self.dims + 2):
            expected = "(N, C, L) or (C, L)" if self.dims == 1 else "(N, C, H, W) or (C, H, W)"
            raise ShapeError(f"pad: expected input of shape {expected}, got {x.shape}")
        return ops.pad(x, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = number(type(self).__name__, "value", value, finite=False)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """(N, C, L) with `padding` entries of `value` on each side, an int or (left, right)."""

    dims = 1


class ConstantPad2d(_ConstantPad):
    """(N, C, H, W) with `padding` entries of `value` on each side, an int or (left, right, top, bottom)."""

    dims = 2


class ZeroPad1d(_Pad):
    """(N, C, L) with zeros on both sides, an int or (left, right)."""

    dims, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """(N, C, H, W) with zeros on all sides, an int or (left, right, top, bottom)."""

    dims, mode = 2, "constant"


class ReflectionPad1d(_Pad):
    """(N, C, L) mirrored at its ends, which are not repeated."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """(N, C, H, W) mirrored at its edges, which are not repeated."""

    dims, mode = 2, "reflect"


class ReplicationPad1d(_Pad):
    """(N, C, L) with its ends repeated."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """(N, C, H, W) with its edges repeated."""

    dims, mode = 2, "replicate"


class CircularPad1d(_Pad):
    """(N, C, L) with what lies at the other end."""

    dims, mode = 1, "circular"


class CircularPad2d(_Pad):
    """(N, C, H, W) with what lies at the other side."""

    dims, mode = 2, "circular"
