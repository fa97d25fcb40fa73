"""Pooling over windows, and over whole planes, of images and of sequences, for the kernels images of height 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from fastnn.checks import whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.habits import check_options
from fastnn.ops.common import Size, floating, low, sizes, tall, tensor_of, unbatched, window
from fastnn.ops.dense import matmul
from fastnn.ops.joining import stack
from fastnn.ops.joining import where as chosen
from fastnn.ops.padding import pad
from fastnn.ops.places import gather, scatter
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "avg_pool1d",
    "avg_pool2d", "global_avg_pool2d", "max_pool1d", "max_pool2d", "max_unpool1d", "max_unpool2d",
]  # fmt: skip


class MaxPool2d(Function):
    """x (N, C, H, W) -> (N, C, OH, OW), or without H and OH. Saves where the maxima were; kernels max_pool2d_*.

    Attributes: kernel_size, stride, padding (pairs).
    """

    @staticmethod
    def forward(ctx: Context, x: Array, **attributes: Any) -> Array:
        y, argmax = ctx.kernels.max_pool2d_forward(tall(x), **attributes)
        ctx.save_for_backward(argmax, tall(x).shape[2:])
        return low(y, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        argmax, input_size = ctx.saved_tensors
        return low(ctx.kernels.max_pool2d_backward_input(tall(grad), argmax, input_size), grad)


class AvgPool2d(Function):
    """x (N, C, H, W) -> (N, C, OH, OW), or without H and OH. Saves the input's size; kernels avg_pool2d_*.

    Attributes: kernel_size, stride, padding (pairs), count_include_pad.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, **attributes: Any) -> Array:
        ctx.save_for_backward(tall(x).shape[2:])
        return low(ctx.kernels.avg_pool2d_forward(tall(x), **attributes), x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (input_size,) = ctx.saved_tensors
        return low(ctx.kernels.avg_pool2d_backward_input(tall(grad), input_size, **ctx.attributes), grad)


class GlobalAvgPool2d(Function):
    """x (N, C, H, W) -> (N, C, 1, 1), or (N, C, L) -> (N, C, 1).

    Saves the input's size; kernels global_avg_pool2d_*.
    """

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(tall(x).shape[2:])
        return low(ctx.kernels.global_avg_pool2d_forward(tall(x)), x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (input_size,) = ctx.saved_tensors
        return low(ctx.kernels.global_avg_pool2d_backward_input(tall(grad), input_size), grad)


def max_pool1d(
    input: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest entry of each window: (N, C, L) -> (N, C, OL); all else as max_pool2d."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest entry of each window: (N, C, H, W) -> (N, C, OH, OW); stride defaults to kernel_size.

    With `ceil_mode` the last window may reach beyond the padding, but begins before its right half. `return_indices`
    gives a pair: the second holds where each maximum was in its plane, row by row, int64. Padding, of at most half the
    window, is never the largest (ArgumentError for more).

    >>> import numpy as np, fastnn as fnn
    >>> fnn.ops.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).numpy()[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: (N, C, L) -> (N, C, OL); all else as avg_pool2d."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW); stride defaults to kernel_size.

    `count_include_pad=False` divides by the entries inside the image alone, `divisor_override` by that number. With
    `ceil_mode` the last window may reach beyond the padding, whose entries alone count.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def global_avg_pool2d(x: Any) -> Tensor:
    """The mean of each plane: (N, C, H, W) -> (N, C, 1, 1)."""
    return GlobalAvgPool2d.apply(floating(x))


def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """(N, C, L) -> (N, C, OL), as max_unpool2d."""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any, indices: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, output_size: Any = None
) -> Tensor:
    """Puts maxima back where they were: input and `indices` (N, C, H, W), as max_pool2d gave both with
    `return_indices`, -> (N, C, OH, OW), 0 elsewhere. `output_size`, (OH, OW) or a whole shape, tells apart what was
    pooled to the same size.

    >>> import fastnn as fnn
    >>> y, places = fnn.nn.functional.max_pool2d(fnn.tensor([[[[1.0, 4.0], [3.0, 2.0]]]]), 2, return_indices=True)
    >>> fnn.nn.functional.max_unpool2d(y, places, 2)
    Tensor([[[[0., 4.],
              [0., 0.]]]])
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def _max_unpool(
    op: str, dims: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    x, places = floating(input), tensor_of(indices)
    if x.shape != places.shape or x.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"{op}: expected input and indices of one shape, got {x.shape} and {places.shape}")
    kernel = sizes("kernel_size", kernel_size, dims)
    steps = kernel if stride is None else sizes("stride", stride, dims)
    each = zip(x.shape[-dims:], kernel, steps, sizes("padding", padding, dims), strict=True)
    usual = tuple((n - 1) * s - 2 * p + k for n, k, s, p in each)
    wanted = usual if output_size is None else tuple(whole(op, "output_size", n, 1) for n in output_size)[-dims:]
    if len(wanted) != dims or any(not u - s < w < u + s for w, u, s in zip(wanted, usual, steps, strict=True)):
        raise ShapeError(f"{op}: expected output_size within a stride of {usual}, got {output_size}")
    planes, count = x.shape[:-dims], math.prod(x.shape[-dims:])
    empty = Tensor(np.zeros((*planes, math.prod(wanted)), x.dtype))
    full = scatter(empty, -1, places.reshape((*planes, count)), x.reshape((*planes, count)))
    return full.reshape((*planes, *wanted))


# ---- windows ---------------------------------------------------------------------------------------------------------

Windows = tuple[int, int]


def _windows(op: str, dims: int, x: Any, kernel_size: Any, stride: Any, padding: Any) -> tuple[Tensor, Any, Any, Any]:
    x = floating(x)
    if x.ndim != dims + 2:
        expected = "(N, C, L)" if dims == 1 else "(N, C, H, W) with C, H, W at least 1"
        raise ShapeError(f"{op}: expected input of shape {expected}, got {x.shape}")
    kernel = window("kernel_size", kernel_size, dims)
    steps = kernel if stride is None or (isinstance(stride, list) and not stride) else window("stride", stride, dims)
    return x, kernel, steps, window("padding", padding, dims, 0)


def _beyond(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How far beyond the padding the last window reaches with ceil_mode."""
    reach = dilation * (kernel - 1) + 1
    last = -(-(size + 2 * padding - reach) // stride) * stride
    if last >= size + padding:
        last -= stride
    return max(0, last + reach - size - 2 * padding)


def _all_beyond(x: Tensor, dims: int, *options: Windows) -> tuple[int, ...]:
    """`_beyond` of each dimension, of images and sequences."""
    each = [tuple(option[2 - dims :]) for option in options]
    return tuple(_beyond(size, *numbers) for size, *numbers in zip(x.shape[2:], *each, strict=True))


def _put_beyond(x: Tensor, more: tuple[int, ...], value: float) -> Tensor:
    return pad(x, [n for each in reversed(more) for n in (0, each)], value=value) if any(more) else x


@unbatched
def _max_pool(
    op: str, dims: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool,
) -> Any:  # fmt: skip
    x, kernel, steps, pads = _windows(op, dims, input, kernel_size, stride, padding)
    spread = window("dilation", dilation, dims)
    pads_fit = 0 <= pads[0] <= kernel[0] // 2 and 0 <= pads[1] <= kernel[1] // 2
    if min(*kernel, *steps, *spread) < 1 or not pads_fit:
        raise ArgumentError(
            f"{op}: expected kernel_size, stride and dilation of at least 1 and padding from 0 to half of kernel_size, "
            f"got {kernel_size}, {stride}, {dilation} and {padding}"
        )
    more = _all_beyond(x, dims, kernel, steps, pads, spread) if ceil_mode else ()
    if spread == (1, 1) and not return_indices:
        return MaxPool2d.apply(_put_beyond(x, more, -math.inf), kernel_size=kernel, stride=steps, padding=pads)
    before = pads[2 - dims :]
    around = [n for b, m in zip(reversed(before), reversed(more or (0,) * dims), strict=True) for n in (b, b + m)]
    taps, places = taps_of(op, pad(x, around, value=-math.inf), dims, kernel, steps, spread)
    stacked = stack(taps, 0)
    largest, which = stacked.max(0)
    if not return_indices:
        return largest
    if any(before):  # where all is minus infinity, the first entry is not the padding's
        first = _first_inside(places, x.shape[2:], before)
        which = chosen(largest == -math.inf, Tensor(np.broadcast_to(first, largest.shape)), which)
        largest = gather(stacked, 0, which[None])[0]
    index = np.stack([_position(place, x.shape[2:], before) for place in places])  # of each tap and window
    flat = which.reshape(1, *which.shape)
    found = sum((flat == k).astype(np.int64) * Tensor(index[k]) for k in range(len(taps)))
    return largest, found.reshape(which.shape)


def taps_of(
    op: str, x: Tensor, dims: int, kernel: Windows, stride: Windows, dilation: Windows
) -> tuple[list[Tensor], list[list[Array]]]:
    """For each entry of a window what all windows have there, (N, C, OH, OW), and where that lies, by dimension."""
    each = list(zip(x.shape[2:], *(option[2 - dims :] for option in (kernel, stride, dilation)), strict=True))
    counts = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in each]
    if min(counts) < 1:
        raise ShapeError(f"{op}: expected a kernel that fits into the padded image, got kernel {kernel} on {x.shape}")
    taps, places = [], []
    for at in product(*(range(k) for _, k, _, _ in each)):
        firsts = [i * d for i, (_, _, _, d) in zip(at, each, strict=True)]
        parts = [slice(f, f + (n - 1) * s + 1, s) for f, n, (_, _, s, _) in zip(firsts, counts, each, strict=True)]
        where = (slice(None), slice(None), *parts)
        taps.append(x[where])
        places.append([np.arange(part.start, part.stop, part.step) for part in parts])
    return taps, places


def _first_inside(places: list[list[Array]], shape: tuple[int, ...], padding: tuple[int, ...]) -> Array:
    """The number of each window's first tap that is no padding."""
    within = []
    for place in places:
        each = ((at - p >= 0) & (at - p < size) for at, p, size in zip(place, padding, shape, strict=True))
        within.append(np.logical_and.reduce(np.meshgrid(*each, indexing="ij")))
    return np.argmax(within, 0)


def _position(place: list[Array], shape: tuple[int, ...], padding: tuple[int, ...]) -> Array:
    """Row by row in a plane of this shape, of entries of the padded one."""
    grid = np.meshgrid(*(where - p for where, p in zip(place, padding, strict=True)), indexing="ij")
    position = np.zeros(grid[0].shape, np.int64)
    for where, size in zip(grid, shape, strict=True):
        position = position * size + where
    return position


@unbatched
def _avg_pool(
    op: str, dims: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    x, kernel, steps, pads = _windows(op, dims, input, kernel_size, stride, padding)
    more = _all_beyond(x, dims, kernel, steps, pads, (1, 1)) if ceil_mode else ()
    plain = divisor_override is None and not any(more)
    means = AvgPool2d.apply(
        _put_beyond(x, more, 0.0),
        kernel_size=kernel,
        stride=steps,
        padding=pads,
        count_include_pad=bool(count_include_pad) if plain else True,
    )
    if plain:
        return means
    if divisor_override is not None:
        return means * (math.prod(kernel) / whole(op, "divisor_override", divisor_override, 1))
    counts = np.ones(())
    for d, (size, out) in enumerate(zip(x.shape[2:], means.shape[2:], strict=True), start=2 - dims):
        first = np.arange(out) * steps[d] - pads[d]
        last = np.minimum(first + kernel[d], size + pads[d])
        inside = last - first if count_include_pad else np.minimum(last, size) - np.maximum(first, 0)
        counts = counts[..., None] * inside
    return means * (math.prod(kernel) / counts)


# ---- windows by the output's size ------------------------------------------------------------------------------------


def adaptive_avg_pool1d(input: Any, output_size: int | tuple[int]) -> Tensor:
    """(N, C, L) -> (N, C, output_size), as adaptive_avg_pool2d."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None]) -> Tensor:
    """(N, C, H, W) -> (N, C, OH, OW): the means of windows that are as even as can be; None keeps a dimension's size.

    The window of output i begins at floor(i·H/OH) and ends before ceil((i + 1)·H/OH), as in PyTorch.

    >>> import fastnn as fnn
    >>> fnn.ops.adaptive_avg_pool2d([[[[1.0, 2.0, 3.0]]]], (1, 2))
    Tensor([[[[1.5, 2.5]]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_max_pool1d(input: Any, output_size: int | tuple[int], return_indices: bool = False) -> Tensor:
    """(N, C, L) -> (N, C, output_size), as adaptive_max_pool2d."""
    check_options("adaptive_max_pool1d", return_indices=return_indices)
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size)


def adaptive_max_pool2d(input: Any, output_size: int | Sequence[int | None], return_indices: bool = False) -> Tensor:
    """(N, C, H, W) -> (N, C, OH, OW): the largest entries of the windows of adaptive_avg_pool2d; no indices."""
    check_options("adaptive_max_pool2d", return_indices=return_indices)
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size)


def _adaptive(op: str, dims: int, x: Any, output_size: Any) -> tuple[Tensor, tuple[int, ...], Windows | None]:
    """x, the output's size, and the windows' where all are equal."""
    x = floating(x)
    if x.ndim != dims + 2 or 0 in x.shape[1:]:
        expected = "(N, C, L)" if dims == 1 else "(N, C, H, W) with C, H, W at least 1"
        raise ShapeError(f"{op}: expected input of shape {expected}, got {x.shape}")
    wanted = output_size if isinstance(output_size, Sequence) else (output_size,) * dims
    if len(wanted) != dims:
        raise ArgumentError(f"{op}: expected output_size of {dims} ints, got {output_size!r}")
    filled = tuple(size if n is None else n for n, size in zip(wanted, x.shape[2:], strict=True))
    outputs = tuple(whole(op, "output_size", n, 1, 1 << 20) for n in filled)  # each has a window of its own
    if any(size % n for n, size in zip(outputs, x.shape[2:], strict=True)):
        return x, outputs, None
    even = window("output_size", tuple(size // n for n, size in zip(outputs, x.shape[2:], strict=True)), dims)
    return x, outputs, even


def _bounds(size: int, outputs: int) -> list[tuple[int, int]]:
    return [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


@unbatched
def _adaptive_avg_pool(op: str, dims: int, input: Any, output_size: Any) -> Tensor:
    x, outputs, even = _adaptive(op, dims, input, output_size)
    if set(outputs) == {1}:
        return GlobalAvgPool2d.apply(x)
    if even is not None:
        return AvgPool2d.apply(x, kernel_size=even, stride=even, padding=(0, 0), count_include_pad=True)
    return mapped(x, [_averaging(size, n, x.dtype) for size, n in zip(x.shape[2:], outputs, strict=True)])


def _averaging(size: int, outputs: int, dtype: np.dtype[Any]) -> Array:
    matrix = np.zeros((outputs, size), dtype)
    for row, (start, end) in zip(matrix, _bounds(size, outputs), strict=True):
        row[start:end] = 1 / (end - start)
    return matrix


def mapped(x: Tensor, matrices: Sequence[Array]) -> Tensor:
    """x (N, C, H, W) or (N, C, L) with a linear map (OH, H), (OW, W) along each dimension after C."""
    for dim in range(x.ndim - 1, 1, -1):
        matrix = matrices[dim - 2]
        if len(matrix) == matrix.shape[1] and (matrix == np.eye(len(matrix))).all():
            continue
        moved = x.transpose(dim, x.ndim - 1)
        rows = matmul(moved.reshape(-1, matrix.shape[1]), np.ascontiguousarray(matrix.T))
        x = rows.reshape(*moved.shape[:-1], len(matrix)).transpose(dim, x.ndim - 1)
    return x


@unbatched
def _adaptive_max_pool(op: str, dims: int, input: Any, output_size: Any) -> Tensor:
    x, outputs, even = _adaptive(op, dims, input, output_size)
    if even is not None:
        return MaxPool2d.apply(x, kernel_size=even, stride=even, padding=(0, 0))
    found = []
    for bounds in product(*(_bounds(size, n) for size, n in zip(x.shape[2:], outputs, strict=True))):
        where = (slice(None), slice(None), *(slice(*ends) for ends in bounds))
        found.append(x[where].reshape(*x.shape[:2], -1).max(2)[0])
    return stack(found, 2).reshape(*x.shape[:2], *outputs)
