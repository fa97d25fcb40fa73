"""Convolution by direct loops: over images, output channels, kernel taps and runs of positions, without a matrix.

An image is first laid out as (C, kw, sh, rows, OW): for each kernel column the pixels it meets, in order, and the rows
that one stride apart follow each other. Then what a tap (c, u, v) meets at the positions 0 .. OH*OW-1 is one run.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends.jit.compile import inner, kernel
from fastnn.backends.jit.tiles import TILE, TILE_ROWS, accumulate, add_row, blocks, copy_row, dots, runs
from fastnn.backends.shapes import Array, Pair

_CHANNELS = 4  # input channels in one tile of backward_input
_POSITIONS = 2048  # in one sweep of backward_weight


@inner()
def _rows_per_phase(oh: int, kh: int, sh: int, dh: int) -> int:
    """Rows of the layout for each of the sh remainders of a row number."""
    return ((oh - 1) * sh + (kh - 1) * dh) // sh + 1


@inner()
def _lay_out(laid: Array, x: Array, kw: int, oh_rows: int, ow: int, stride: Pair, padding: Pair, dilation: Pair) -> None:
    """laid (C,kw,sh,rows,OW) from x (C,H,W), which is zero outside the image."""
    channels, h, w = x.shape
    sh, sw = stride
    ph, pw = padding
    start = 0
    for c in range(channels):
        for v in range(kw):
            for phase in range(sh):
                for row in range(oh_rows):
                    target = laid[start : start + ow]
                    i = row * sh + phase - ph
                    if 0 <= i < h:
                        copy_row(target, x[c, i], v * dilation[1] - pw, sw)
                    else:
                        target[:] = 0
                    start += ow


@inner()
def _taps(channels: int, kh: int, kw: int, rows: int, ow: int, sh: int, dh: int) -> Array:
    """Where in the layout the run of each tap (c, u, v) starts: (C*kh*kw,)."""
    starts = np.empty(channels * kh * kw, np.int64)
    k = 0
    for c in range(channels):
        for u in range(kh):
            for v in range(kw):
                plane = (c * kw + v) * sh + u * dh % sh
                starts[k] = (plane * rows + u * dh // sh) * ow
                k += 1
    return starts


@kernel()
def forward(
    x: Array, weight: Array, bias: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, splits: int, y: Array
) -> None:
    """y (N,O,OH,OW) from x (N,C,H,W), weight (O,C/groups,kh,kw), bias (O,).

    A task is one image, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = y.shape
    _, channels, kh, kw = weight.shape
    group_filters = filters // groups
    rows = _rows_per_phase(oh, kh, stride[0], dilation[0])
    starts = _taps(channels, kh, kw, rows, ow, stride[0], dilation[0])
    depth = starts.size
    part = blocks(group_filters, (group_filters + splits - 1) // splits)
    width = blocks(oh * ow, TILE)
    flat_weight = weight.reshape(weight.size)
    flat_y = y.reshape(n, filters, oh * ow)
    for task in prange(n * groups * splits):
        i, g, split = task // (groups * splits), task // splits % groups, task % splits
        laid = np.empty(channels * kw * stride[0] * rows * ow, np.float32)
        _lay_out(laid, x[i, g * channels : (g + 1) * channels], kw, rows, ow, stride, padding, dilation)
        tile = np.empty(TILE_ROWS * TILE, np.float32)
        end = g * group_filters + min(group_filters, (split + 1) * part)
        for p in range(0, oh * ow, width):
            count = min(width, oh * ow - p)
            for o in range(g * group_filters + split * part, end, TILE_ROWS):
                tile_rows = min(TILE_ROWS, end - o)
                for r in range(tile_rows):
                    tile[r * TILE :][:count] = bias[o + r]
                accumulate(tile, tile_rows, count, flat_weight, o * depth, depth, np.int64(1), depth, laid, starts, p)
                for r in range(tile_rows):
                    flat_y[i, o + r, p : p + count] = tile[r * TILE :][:count]


@kernel()
def backward_input(
    grad: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, splits: int, grad_x: Array
) -> None:
    """grad_x (N,C,H,W) from grad (N,O,OH,OW), weight (O,C/groups,kh,kw).

    A task is one image, one group, and one of `splits` parts of the group's input channels. A few channels at a time:
    what each tap sends back from each position is summed over the output channels, then added to the pixel it met.
    """
    n, filters, oh, ow = grad.shape
    _, channels, kh, kw = weight.shape
    group_filters, taps = filters // groups, kh * kw
    part = blocks(channels, (channels + splits - 1) // splits)
    width = blocks(oh * ow, TILE)
    starts = runs(group_filters, oh * ow)
    flat_weight = weight.reshape(weight.size)
    flat_grad = grad.reshape(grad.size)
    for task in prange(n * groups * splits):
        i, g, split = task // (groups * splits), task // splits % groups, task % splits
        end = min(channels, (split + 1) * part)
        tile = np.empty(_CHANNELS * taps * TILE, np.float32)
        for c in range(split * part, end, _CHANNELS):
            tile_channels = min(_CHANNELS, end - c)
            image = grad_x[i, g * channels + c :][:tile_channels]
            image[:] = 0
            for p in range(0, oh * ow, width):
                count = min(width, oh * ow - p)
                for r in range(tile_channels * taps):
                    tile[r * TILE :][:count] = 0
                accumulate(
                    tile, tile_channels * taps, count, flat_weight, (g * group_filters * channels + c) * taps, np.int64(1),
                    channels * taps, group_filters, flat_grad, starts, (i * filters + g * group_filters) * oh * ow + p,
                )  # fmt: skip
                _send_back(image, tile, p, count, kh, kw, ow, stride, padding, dilation)


@inner()
def _send_back(
    image: Array, tile: Array, p: int, count: int, kh: int, kw: int, ow: int, stride: Pair, padding: Pair, dilation: Pair
) -> None:
    """image (C,H,W) += tile (C*kh*kw, TILE)[:, :count], which belongs to the positions p .. p+count-1."""
    channels, h, _ = image.shape
    row = 0
    for c in range(channels):
        for u in range(kh):
            for v in range(kw):
                for i in range(p // ow, (p + count - 1) // ow + 1):
                    to = i * stride[0] + u * dilation[0] - padding[0]
                    if 0 <= to < h:
                        start, end = max(p, i * ow), min(p + count, (i + 1) * ow)
                        first = (start - i * ow) * stride[1] + v * dilation[1] - padding[1]
                        add_row(tile[row + start - p : row + end - p], image[c, to], first, stride[1])
                row += TILE


@kernel()
def backward_weight(
    grad: Array, x: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, splits: int, parts: Array
) -> None:
    """parts (P,O,C/groups,kh,kw) from grad (N,O,OH,OW), x (N,C,H,W): part i is the sum over every image of the i-th run
    of images. A task is one part, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = grad.shape
    count, _, channels, kh, kw = parts.shape
    group_filters = filters // groups
    rows = _rows_per_phase(oh, kh, stride[0], dilation[0])
    starts = _taps(channels, kh, kw, rows, ow, stride[0], dilation[0])
    depth = starts.size
    part = blocks(group_filters, (group_filters + splits - 1) // splits)
    flat_grad = grad.reshape(grad.size)
    flat_parts = parts.reshape(parts.size)
    for task in prange(count * groups * splits):
        run, g, split = task // (groups * splits), task // splits % groups, task % splits
        first = g * group_filters + split * part
        filter_count = min(group_filters - split * part, part)
        if filter_count > 0:
            laid = np.empty(channels * kw * stride[0] * rows * ow, np.float32)
            c_start = (run * filters + first) * depth
            flat_parts[c_start : c_start + filter_count * depth] = 0
            for i in range(run * n // count, (run + 1) * n // count):
                _lay_out(laid, x[i, g * channels : (g + 1) * channels], kw, rows, ow, stride, padding, dilation)
                for p in range(0, oh * ow, _POSITIONS):
                    dots(
                        flat_parts, c_start, depth, flat_grad, (i * filters + first) * oh * ow + p, oh * ow, filter_count,
                        laid, starts, np.int64(0), depth, p, min(_POSITIONS, oh * ow - p),
                    )  # fmt: skip
