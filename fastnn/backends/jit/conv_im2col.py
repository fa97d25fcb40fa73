"""Convolution by im2col: windows gathered as the columns of a matrix, then matrix products.

The positions of all images count as one sequence of N*OH*OW; TILE of them at a time are gathered, so that the matrix
stays in cache, and small images share one.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends.jit.compile import inner, kernel
from fastnn.backends.jit.tiles import TILE, TILE_ROWS, accumulate, add_row, blocks, copy_row, dots, runs
from fastnn.backends.shapes import Array, Pair


@inner()
def _gather(
    columns: Array, x: Array, first: int, channels: int, kh: int, kw: int, oh: int, ow: int, p0: int, p1: int,
    stride: Pair, padding: Pair, dilation: Pair,
) -> None:  # fmt: skip
    """columns (channels*kh*kw, TILE)[:, :p1-p0]: the windows of positions p0 .. p1-1 of x (N,C,H,W)[:, first:]."""
    h = x.shape[2]
    row = 0
    for c in range(first, first + channels):
        for u in range(kh):
            for v in range(kw):
                p = p0
                while p < p1:
                    n, i, j = p // (oh * ow), p // ow % oh, p % ow
                    end = min(p1, p - j + ow)
                    target = columns[row + p - p0 : row + end - p0]
                    y = i * stride[0] + u * dilation[0] - padding[0]
                    if 0 <= y < h:
                        copy_row(target, x[n, c, y], j * stride[1] + v * dilation[1] - padding[1], stride[1])
                    else:
                        target[:] = 0
                    p = end
                row += TILE


@inner()
def _scatter(
    columns: Array, x: Array, first: int, channels: int, kh: int, kw: int, oh: int, ow: int, p0: int, p1: int,
    stride: Pair, padding: Pair, dilation: Pair,
) -> None:  # fmt: skip
    """x (N,C,H,W)[:, first:] += columns (channels*kh*kw, TILE)[:, :p1-p0]: gather, transposed (col2im)."""
    h = x.shape[2]
    row = 0
    for c in range(first, first + channels):
        for u in range(kh):
            for v in range(kw):
                p = p0
                while p < p1:
                    n, i, j = p // (oh * ow), p // ow % oh, p % ow
                    end = min(p1, p - j + ow)
                    y = i * stride[0] + u * dilation[0] - padding[0]
                    if 0 <= y < h:
                        source = columns[row + p - p0 : row + end - p0]
                        add_row(source, x[n, c, y], j * stride[1] + v * dilation[1] - padding[1], stride[1])
                    p = end
                row += TILE


@inner()
def _gather_outputs(rows: Array, y: Array, first: int, count: int, p0: int, p1: int) -> None:
    """rows (count, TILE)[:, :p1-p0]: positions p0 .. p1-1 of y (N,O,OH*OW)[:, first:first+count]."""
    size = y.shape[2]
    for o in range(count):
        p = p0
        while p < p1:
            n, j = p // size, p % size
            end = min(p1, p - j + size)
            rows[o * TILE + p - p0 : o * TILE + end - p0] = y[n, first + o, j : j + end - p]
            p = end


@kernel()
def forward(
    x: Array, weight: Array, bias: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, splits: int, y: Array
) -> None:
    """y (N,O,OH,OW) from x (N,C,H,W), weight (O,C/groups,kh,kw), bias (O,).

    A task is one block of positions, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = y.shape
    _, channels, kh, kw = weight.shape
    group_filters, depth, size = filters // groups, channels * kh * kw, oh * ow
    starts = runs(depth, TILE)
    part = blocks(group_filters, (group_filters + splits - 1) // splits)
    flat_weight = weight.reshape(weight.size)
    flat_y = y.reshape(n, filters, size)
    for task in prange((n * size + TILE - 1) // TILE * groups * splits):
        p0, g, split = task // (groups * splits) * TILE, task // splits % groups, task % splits
        p1 = min(n * size, p0 + TILE)
        columns = np.empty(depth * TILE, np.float32)
        _gather(columns, x, g * channels, channels, kh, kw, oh, ow, p0, p1, stride, padding, dilation)
        tile = np.empty(TILE_ROWS * TILE, np.float32)
        end = g * group_filters + min(group_filters, (split + 1) * part)
        for o in range(g * group_filters + split * part, end, TILE_ROWS):
            rows = min(TILE_ROWS, end - o)
            for r in range(rows):
                tile[r * TILE :][: p1 - p0] = bias[o + r]
            accumulate(tile, rows, p1 - p0, flat_weight, o * depth, depth, np.int64(1), depth, columns, starts, np.int64(0))
            for r in range(rows):
                p = p0
                while p < p1:
                    j = p % size
                    stop = min(p1, p - j + size)
                    flat_y[p // size, o + r, j : j + stop - p] = tile[r * TILE + p - p0 : r * TILE + stop - p0]
                    p = stop


@kernel()
def backward_input(
    grad: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, images: int, grad_x: Array
) -> None:
    """grad_x (N,C,H,W) from grad (N,O,OH,OW), weight (O,C/groups,kh,kw). A task is `images` images and one group."""
    n, filters, oh, ow = grad.shape
    _, channels, kh, kw = weight.shape
    group_filters, depth, size = filters // groups, channels * kh * kw, oh * ow
    starts = runs(group_filters, TILE)
    flat_weight = weight.reshape(weight.size)
    flat_grad = grad.reshape(n, filters, size)
    for task in prange((n + images - 1) // images * groups):
        i0, g = task // groups * images, task % groups
        i1 = min(n, i0 + images)
        for i in range(i0, i1):
            grad_x[i, g * channels : (g + 1) * channels] = 0
        rows = np.empty(group_filters * TILE, np.float32)
        columns = np.empty((depth + 3) // 4 * 4 * TILE, np.float32)
        for p0 in range(i0 * size, i1 * size, TILE):
            p1 = min(i1 * size, p0 + TILE)
            _gather_outputs(rows, flat_grad, g * group_filters, group_filters, p0, p1)
            columns[:] = 0
            accumulate(
                columns, depth, p1 - p0, flat_weight, g * group_filters * depth, np.int64(1), depth, group_filters,
                rows, starts, np.int64(0),
            )
            _scatter(columns, grad_x, g * channels, channels, kh, kw, oh, ow, p0, p1, stride, padding, dilation)


@kernel()
def backward_weight(
    grad: Array, x: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, splits: int, parts: Array
) -> None:
    """parts (P,O,C/groups,kh,kw) from grad (N,O,OH,OW), x (N,C,H,W): part i is the sum over the i-th run of positions.

    A task is one part, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = grad.shape
    count, _, channels, kh, kw = parts.shape
    group_filters, depth, size = filters // groups, channels * kh * kw, oh * ow
    starts = runs(depth, TILE)
    part = blocks(group_filters, (group_filters + splits - 1) // splits)
    total = (n * size + TILE - 1) // TILE
    flat_grad = grad.reshape(n, filters, size)
    flat_parts = parts.reshape(parts.size)
    for task in prange(count * groups * splits):
        run, g, split = task // (groups * splits), task // splits % groups, task % splits
        first = g * group_filters + split * part
        rows = min(group_filters - split * part, part)
        if rows > 0:
            columns = np.empty(depth * TILE, np.float32)
            outputs = np.empty(rows * TILE, np.float32)
            c_start = (run * filters + first) * depth
            flat_parts[c_start : c_start + rows * depth] = 0
            for block in range(run * total // count, (run + 1) * total // count):
                p0 = block * TILE
                p1 = min(n * size, p0 + TILE)
                _gather(columns, x, g * channels, channels, kh, kw, oh, ow, p0, p1, stride, padding, dilation)
                _gather_outputs(outputs, flat_grad, first, rows, p0, p1)
                dots(flat_parts, c_start, depth, outputs, 0, TILE, rows, columns, starts, np.int64(0), depth, np.int64(0), p1 - p0)
