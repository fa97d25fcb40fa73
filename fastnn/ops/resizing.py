"""Images and sequences in another size: interpolation, and entries moved between channels and places."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import choice, flag, number, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import Size, floating, pair
from fastnn.ops.conv import conv_transpose2d
from fastnn.ops.joining import stack
from fastnn.ops.padding import pad
from fastnn.ops.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, mapped, taps_of
from fastnn.ops.shaping import apart
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["channel_shuffle", "fold", "interpolate", "pixel_shuffle", "pixel_unshuffle", "unfold", "upsample"]

_DIMENSIONS = {
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "nearest": (3, 4),
    "nearest-exact": (3, 4),
    "area": (3, 4),
}


class Repeat(Function):
    """Each entry so many times along each dimension. Attribute: repeats, one a dimension."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, repeats: tuple[int, ...]) -> Array:
        y = np.empty([size * count for size, count in zip(x.shape, repeats, strict=True)], x.dtype)
        for places in copies(repeats):
            y[places] = x
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return functools.reduce(operator.add, (grad[places] for places in copies(ctx.attributes["repeats"])))


def copies(repeats: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Where the first copies of all entries are, then the second ones, and so on."""
    return [
        tuple(slice(first, None, count) for first, count in zip(firsts, repeats, strict=True))
        for firsts in np.ndindex(*repeats)
    ]


def interpolate(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """input (N, C, H, W) or (N, C, L) in another size, as PyTorch makes it.

    Args:
        size, scale_factor: one of them; a number, or one for each dimension after C.
        mode: "nearest", "nearest-exact", "area", "linear" (of sequences), "bilinear" or "bicubic" (of images).
        align_corners: whether the entries in the corners stay as they are, with the last three.
        recompute_scale_factor: whether the scale follows from the sizes, rounded down, and not from `scale_factor`.
        antialias: False, no other.

    Raises ArgumentError for another mode, ShapeError for inputs of other dimensions.

    >>> import fastnn as fnn
    >>> fnn.ops.interpolate([[[1.0, 3.0]]], scale_factor=2)
    Tensor([[[1., 1., 3., 3.]]])
    >>> fnn.ops.interpolate([[[1.0, 3.0]]], 3, mode="linear", align_corners=True)
    Tensor([[[1., 2., 3.]]])
    """
    x = floating(input)
    choice("interpolate", "mode", mode, _DIMENSIONS)
    if x.ndim not in _DIMENSIONS[mode] or 0 in x.shape[1:]:
        expected = " or ".join({3: "(N, C, L)", 4: "(N, C, H, W)"}[n] for n in _DIMENSIONS[mode])
        raise ShapeError(f"interpolate: expected input of shape {expected} with {mode!r}, got {x.shape}")
    if flag("interpolate", "antialias", antialias):
        raise ArgumentError("interpolate: expected antialias=False, all that fastnn has")
    if align_corners is not None and mode not in ("linear", "bilinear", "bicubic"):
        raise ArgumentError(f"interpolate: expected align_corners=None with mode {mode!r}, got {align_corners!r}")
    sizes, scales = _sizes(x.shape[2:], size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return adaptive_avg_pool1d(x, sizes) if x.ndim == 3 else adaptive_avg_pool2d(x, sizes)  # type: ignore[arg-type]
    each = list(zip(x.shape[2:], sizes, scales, strict=True))
    if mode.startswith("nearest"):
        shift = 0.5 if mode == "nearest-exact" else 0.0
        return _nearest(x, [_sources(n, out, np.float32(scale), shift) for n, out, scale in each])
    taps, corners = _cubic if mode == "bicubic" else _linear, flag("interpolate", "align_corners", align_corners)
    return mapped(x, [_matrix(n, *taps(n, out, scale, corners), x.dtype) for n, out, scale in each])


def upsample(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """PyTorch's older name of interpolate."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def _sizes(
    shape: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The output's sizes, and how many entries of the input an entry of the output is long."""
    if (size is None) == (scale_factor is None):
        raise ArgumentError(f"interpolate: expected either size or scale_factor, got {size!r} and {scale_factor!r}")
    given = scale_factor if size is None else size
    each = tuple(given) if isinstance(given, (Sequence, np.ndarray)) else (given,) * len(shape)
    if len(each) != len(shape):
        raise ArgumentError(f"interpolate: expected a number or {len(shape)} of them, got {given!r}")
    if size is not None:
        sizes = tuple(whole("interpolate", "size", n, 1) for n in each)
        return sizes, tuple(n / out for n, out in zip(shape, sizes, strict=True))
    factors = [number("interpolate", "scale_factor", factor, above=0) for factor in each]
    sizes = tuple(math.floor(n * factor) for n, factor in zip(shape, factors, strict=True))
    if min(sizes) < 1:
        raise ShapeError(f"interpolate: expected an output with entries, got {sizes} of {shape} by {scale_factor!r}")
    if recompute:
        return sizes, tuple(n / out for n, out in zip(shape, sizes, strict=True))
    return sizes, tuple(1 / factor for factor in factors)


def _sources(size: int, outputs: int, scale: np.float32, shift: float) -> Array:
    """Which entry each of the outputs is, in single precision, as PyTorch computes it."""
    places = (np.arange(outputs, dtype=np.float32) + np.float32(shift)) * scale
    return np.minimum(np.floor(places).astype(np.int64), size - 1)


def _nearest(x: Tensor, sources: list[Array]) -> Tensor:
    given, repeats = x, [1, 1]
    for dim, source in enumerate(sources, start=2):
        factor = len(source) // x.shape[dim]
        repeated = factor * x.shape[dim] == len(source) and (source == np.arange(len(source)) // factor).all()
        repeats.append(factor if repeated else 1)
        if not repeated:
            steps = set(np.diff(source).tolist())
            even = len(steps) == 1 and min(steps) > 0
            part = slice(int(source[0]), int(source[-1]) + 1, steps.pop()) if even else source
            x = x[(slice(None),) * dim + (part,)]
    if set(repeats) == {1}:
        return apart(x, given)
    return Repeat.apply(x, repeats=tuple(repeats))


def _places(outputs: int, scale: float, size: int, align_corners: bool) -> Array:
    if align_corners:
        return np.arange(outputs) * ((size - 1) / (outputs - 1) if outputs > 1 else 0.0)
    return (np.arange(outputs) + 0.5) * scale - 0.5


def _linear(size: int, outputs: int, scale: float, align_corners: bool) -> tuple[Array, Array]:
    """Of each output the entries that it is made of, and their weights, (outputs, 2)."""
    places = np.maximum(_places(outputs, scale, size, align_corners), 0)
    first = np.minimum(places.astype(np.int64), size - 1)
    share = np.where(first < size - 1, places - first, 0)
    return np.stack([first, np.minimum(first + 1, size - 1)], 1), np.stack([1 - share, share], 1)


def _cubic(size: int, outputs: int, scale: float, align_corners: bool) -> tuple[Array, Array]:
    """By cubic convolution with a = -0.75 (Keys 1981), (outputs, 4)."""
    places = _places(outputs, scale, size, align_corners)
    first = np.floor(places).astype(np.int64)
    t = np.abs((places - first)[:, None] - np.arange(-1, 3))
    near, far = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
    return np.clip(first[:, None] + np.arange(-1, 3), 0, size - 1), np.where(t <= 1, near, far)


def _matrix(size: int, entries: Array, weights: Array, dtype: np.dtype[Any]) -> Array:
    matrix = np.zeros((len(entries), size))
    np.add.at(matrix, (np.arange(len(entries))[:, None], entries), weights)
    return matrix.astype(dtype)


# ---- between channels and places -------------------------------------------------------------------------------------


def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """(..., C·r², H, W) -> (..., C, H·r, W·r): channels become places (Shi et al. 2016)."""
    x, r = floating(input), whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: expected channels divisible by {r * r}, got {x.shape}")
    *before, c, h, w = x.shape
    return _exchanged(x, (*before, c // (r * r), r, r, h, w), (3, 1, 4, 2), (*before, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """(..., C, H·r, W·r) -> (..., C·r², H, W): places become channels."""
    x, r = floating(input), whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        raise ShapeError(f"pixel_unshuffle: expected height and width divisible by {r}, got {x.shape}")
    *before, c, h, w = x.shape
    return _exchanged(x, (*before, c, h // r, r, w // r, r), (2, 4, 1, 3), (*before, c * r * r, h // r, w // r))


def channel_shuffle(input: Any, groups: int) -> Tensor:
    """(N, C, ...) with the first channels of all groups first, then the second ones (Zhang et al. 2018)."""
    x, groups = floating(input), whole("channel_shuffle", "groups", groups, 1)
    if x.ndim < 2 or x.shape[1] % groups:
        raise ShapeError(f"channel_shuffle: expected channels divisible by groups={groups}, got {x.shape}")
    return apart(x.reshape(x.shape[0], groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape))


def _exchanged(x: Tensor, cut: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Cut into more dimensions, of which the last four are put in this order (1 is the first of them)."""
    before = len(cut) - 4
    return apart(x.reshape(cut).permute(*range(before), *(before - 1 + place for place in order)).reshape(shape))


def unfold(input: Any, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Tensor:
    """(N, C, H, W) -> (N, C·kh·kw, windows): each window of a convolution as a column."""
    x = floating(input)
    if x.ndim != 4:
        raise ShapeError(f"unfold: expected input of shape (N, C, H, W), got {x.shape}")
    (kh, kw), (ph, pw) = pair("kernel_size", kernel_size), pair("padding", padding)
    padded = pad(x, (pw, pw, ph, ph))
    taps, _ = taps_of("unfold", padded, 2, (kh, kw), pair("stride", stride), pair("dilation", dilation))
    return stack(taps, 2).reshape(x.shape[0], x.shape[1] * kh * kw, -1)


def fold(
    input: Any, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """(N, C·kh·kw, windows) -> (N, C, H, W): the columns of `unfold` added where they came from."""
    x, size, (kh, kw) = floating(input), pair("output_size", output_size), pair("kernel_size", kernel_size)
    (ph, pw), (sh, sw), (dh, dw) = pair("padding", padding), pair("stride", stride), pair("dilation", dilation)
    rows, columns = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, (ph, pw), (dh, dw), (kh, kw), (sh, sw), strict=True)
    )
    if x.ndim != 3 or x.shape[1] % (kh * kw) or x.shape[2] != rows * columns:
        raise ShapeError(f"fold: expected input of shape (N, C·{kh * kw}, {rows * columns}), got {x.shape}")
    channels = x.shape[1] // (kh * kw)
    weight = Tensor(np.tile(np.eye(kh * kw, dtype=x.dtype).reshape(kh * kw, 1, kh, kw), (channels, 1, 1, 1)))
    more = (
        size[0] - ((rows - 1) * sh - 2 * ph + dh * (kh - 1) + 1),
        size[1] - ((columns - 1) * sw - 2 * pw + dw * (kw - 1) + 1),
    )
    images = x.reshape(x.shape[0], x.shape[1], rows, columns)
    return conv_transpose2d(images, weight, None, (sh, sw), (ph, pw), more, channels, (dh, dw))
