"""Convolution by direct loops: over images, output channels, kernel taps and runs of positions, without a matrix.

An image is first laid out as (C, kw, sh, rows, OW): for each kernel column the pixels that it meets, in order, so that
rows one stride apart follow each other. What a tap (c, u, v) meets at all positions 0 .. OH*OW-1 is then one run.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends.jit.compile import inner, kernel
from fastnn.backends.jit.tiles import (
    TILE,
    TILE_ROWS,
    Geometry,
    accumulate,
    add_row,
    blocks,
    copy_row,
    dots,
    runs,
)
from fastnn.backends.shapes import Array

_CHANNELS = 4  # input channels in one tile of backward_input
_POSITIONS = 512  # in one sweep of backward_weight


@inner()
def _rows(oh: int, kh: int, geometry: Geometry) -> int:
    """How many rows the layout has for each of the sh remainders of a row number."""
    sh, _, _, _, dh, _ = geometry
    return ((oh - 1) * sh + (kh - 1) * dh) // sh + 1


@inner()
def _lay_out(laid: Array, x: Array, kw: int, rows: int, ow: int, geometry: Geometry) -> None:
    """laid (C,kw,sh,rows,OW) from x (C,H,W), which is zero outside the image."""
    sh, sw, ph, pw, _, dw = geometry
    channels, h, _ = x.shape
    start = 0
    for c in range(channels):
        for v in range(kw):
            for phase in range(sh):
                for row in range(rows):
                    target = laid[start : start + ow]
                    i = row * sh + phase - ph
                    if 0 <= i < h:
                        copy_row(target, x[c, i], v * dw - pw, sw)
                    else:
                        target[:] = 0
                    start += ow


@inner()
def _taps(channels: int, kh: int, kw: int, rows: int, ow: int, geometry: Geometry) -> Array:
    """Where in the layout the run of each tap (c, u, v) starts: (C*kh*kw,)."""
    sh, _, _, _, dh, _ = geometry
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
def forward(x: Array, weight: Array, bias: Array, geometry: Geometry, groups: int, splits: int, y: Array) -> None:
    """y (N,O,OH,OW) from x (N,C,H,W), weight (O,C/groups,kh,kw), bias (O,).

    A task is one image, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = y.shape
    _, channels, kh, kw = weight.shape
    rows = _rows(oh, kh, geometry)
    starts = _taps(channels, kh, kw, rows, ow, geometry)
    depth, size, group_filters = starts.size, oh * ow, filters // groups
    part, width = blocks(group_filters, -(-group_filters // splits)), blocks(size, TILE)
    flat_weight, flat_y = weight.reshape(weight.size), y.reshape(n, filters, size)
    for task in prange(n * groups * splits):
        i, g, split = task // (groups * splits), task // splits % groups, task % splits
        laid = np.empty(channels * kw * geometry[0] * rows * ow, np.float32)
        _lay_out(laid, x[i, g * channels : (g + 1) * channels], kw, rows, ow, geometry)
        tile = np.empty(TILE_ROWS * TILE, np.float32)
        end = g * group_filters + min(group_filters, (split + 1) * part)
        for p in range(0, size, width):
            count = min(width, size - p)
            for o in range(g * group_filters + split * part, end, TILE_ROWS):
                tile_rows = min(TILE_ROWS, end - o)
                for r in range(tile_rows):
                    tile[r * TILE :][:count] = bias[o + r]
                accumulate(tile, tile_rows, count, flat_weight, o * depth, depth, np.int64(1), depth, laid, starts, p)
                for r in range(tile_rows):
                    flat_y[i, o + r, p : p + count] = tile[r * TILE :][:count]


@kernel()
def backward_input(grad: Array, weight: Array, geometry: Geometry, groups: int, splits: int, grad_x: Array) -> None:
    """grad_x (N,C,H,W) from grad (N,O,OH,OW), weight (O,C/groups,kh,kw).

    A task is one image, one group, and one of `splits` parts of the group's input channels. For a few channels at a
    time, what each tap sends back from each position is summed over the output channels, then added to the pixel that
    the tap met there.
    """
    n, filters, oh, ow = grad.shape
    _, channels, kh, kw = weight.shape
    taps, size, group_filters = kh * kw, oh * ow, filters // groups
    part, width = blocks(channels, -(-channels // splits)), blocks(size, TILE)
    starts = runs(group_filters, size)
    flat_weight, flat_grad = weight.reshape(weight.size), grad.reshape(grad.size)
    for task in prange(n * groups * splits):
        i, g, split = task // (groups * splits), task // splits % groups, task % splits
        end = min(channels, (split + 1) * part)
        tile = np.empty(_CHANNELS * taps * TILE, np.float32)
        for c in range(split * part, end, _CHANNELS):
            tile_channels = min(_CHANNELS, end - c)
            image = grad_x[i, g * channels + c :][:tile_channels]
            image[:] = 0
            a_start = (g * group_filters * channels + c) * taps
            for p in range(0, size, width):
                count = min(width, size - p)
                for r in range(tile_channels * taps):
                    tile[r * TILE :][:count] = 0
                shift = (i * filters + g * group_filters) * size + p
                accumulate(
                    tile, tile_channels * taps, count, flat_weight, a_start, np.int64(1), channels * taps,
                    group_filters, flat_grad, starts, shift,
                )  # fmt: skip
                _send_back(image, tile, p, count, kh, kw, ow, geometry)


@inner()
def _send_back(image: Array, tile: Array, p: int, count: int, kh: int, kw: int, ow: int, geometry: Geometry) -> None:
    """image (C,H,W) += tile (C*kh*kw, TILE)[:, :count], which belongs to the positions p .. p+count-1."""
    sh, sw, ph, pw, dh, dw = geometry
    channels, h, _ = image.shape
    row = 0
    for c in range(channels):
        for u in range(kh):
            for v in range(kw):
                for i in range(p // ow, (p + count - 1) // ow + 1):
                    to = i * sh + u * dh - ph
                    if 0 <= to < h:
                        start, end = max(p, i * ow), min(p + count, (i + 1) * ow)
                        source = tile[row + start - p : row + end - p]
                        add_row(source, image[c, to], (start - i * ow) * sw + v * dw - pw, sw)
                row += TILE


@kernel()
def backward_weight(grad: Array, x: Array, geometry: Geometry, groups: int, splits: int, parts: Array) -> None:
    """parts (P,O,C/groups,kh,kw) from grad (N,O,OH,OW), x (N,C,H,W): part i is the sum over the i-th run of images.

    A task is one part, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = grad.shape
    count, _, channels, kh, kw = parts.shape
    rows = _rows(oh, kh, geometry)
    starts = _taps(channels, kh, kw, rows, ow, geometry)
    depth, size, group_filters = starts.size, oh * ow, filters // groups
    part = blocks(group_filters, -(-group_filters // splits))
    flat_grad, flat_parts = grad.reshape(grad.size), parts.reshape(parts.size)
    for task in prange(count * groups * splits):
        run, g, split = task // (groups * splits), task // splits % groups, task % splits
        filter_count = min(part, group_filters - split * part)
        if filter_count > 0:
            first = g * group_filters + split * part
            target = flat_parts[(run * filters + first) * depth :][: filter_count * depth]
            target[:] = 0
            laid = np.empty(channels * kw * geometry[0] * rows * ow, np.float32)
            for i in range(run * n // count, (run + 1) * n // count):
                _lay_out(laid, x[i, g * channels : (g + 1) * channels], kw, rows, ow, geometry)
                rows_of_grad = flat_grad[(i * filters + first) * size :]
                for p in range(0, size, _POSITIONS):
                    length = min(_POSITIONS, size - p)
                    dots(target, depth, rows_of_grad[p:], size, filter_count, laid, starts, p, length)
