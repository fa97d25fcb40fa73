"""Convolution by im2col: windows gathered as the columns of a matrix, then matrix products.

The positions of all images count as one sequence of N*OH*OW; TILE of them at a time are gathered, so that the matrix
stays in cache, and small images share one.
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


@inner()
def _gather(
    columns: Array, x: Array, first: int, channels: int, kh: int, kw: int, oh: int, ow: int, p0: int, p1: int,
    geometry: Geometry,
) -> None:  # fmt: skip
    """columns (channels*kh*kw, TILE)[:, :p1-p0]: the windows of positions p0 .. p1-1 of x (N,C,H,W)[:, first:]."""
    sh, sw, ph, pw, dh, dw = geometry
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
                    y = i * sh + u * dh - ph
                    if 0 <= y < h:
                        copy_row(target, x[n, c, y], j * sw + v * dw - pw, sw)
                    else:
                        target[:] = 0
                    p = end
                row += TILE


@inner()
def _scatter(
    columns: Array, x: Array, first: int, channels: int, kh: int, kw: int, oh: int, ow: int, p0: int, p1: int,
    geometry: Geometry,
) -> None:  # fmt: skip
    """x (N,C,H,W)[:, first:] += columns (channels*kh*kw, TILE)[:, :p1-p0]: _gather, transposed (col2im)."""
    sh, sw, ph, pw, dh, dw = geometry
    h = x.shape[2]
    row = 0
    for c in range(first, first + channels):
        for u in range(kh):
            for v in range(kw):
                p = p0
                while p < p1:
                    n, i, j = p // (oh * ow), p // ow % oh, p % ow
                    end = min(p1, p - j + ow)
                    y = i * sh + u * dh - ph
                    if 0 <= y < h:
                        add_row(columns[row + p - p0 : row + end - p0], x[n, c, y], j * sw + v * dw - pw, sw)
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


@inner()
def _put_outputs(rows: Array, y: Array, first: int, count: int, p0: int, p1: int) -> None:
    """The same the other way round: y from rows."""
    size = y.shape[2]
    for o in range(count):
        p = p0
        while p < p1:
            n, j = p // size, p % size
            end = min(p1, p - j + size)
            y[n, first + o, j : j + end - p] = rows[o * TILE + p - p0 : o * TILE + end - p0]
            p = end


@kernel()
def forward(x: Array, weight: Array, bias: Array, geometry: Geometry, groups: int, splits: int, y: Array) -> None:
    """y (N,O,OH,OW) from x (N,C,H,W), weight (O,C/groups,kh,kw), bias (O,).

    A task is one block of positions, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = y.shape
    _, channels, kh, kw = weight.shape
    depth, total, group_filters = channels * kh * kw, n * oh * ow, filters // groups
    part = blocks(group_filters, -(-group_filters // splits))
    starts, zero = runs(depth, TILE), np.int64(0)
    flat_weight, flat_y = weight.reshape(weight.size), y.reshape(n, filters, oh * ow)
    for task in prange((total + TILE - 1) // TILE * groups * splits):
        p0, g, split = task // (groups * splits) * TILE, task // splits % groups, task % splits
        p1 = min(total, p0 + TILE)
        columns = np.empty(depth * TILE, np.float32)
        _gather(columns, x, g * channels, channels, kh, kw, oh, ow, p0, p1, geometry)
        tile = np.empty(TILE_ROWS * TILE, np.float32)
        end = g * group_filters + min(group_filters, (split + 1) * part)
        for o in range(g * group_filters + split * part, end, TILE_ROWS):
            rows = min(TILE_ROWS, end - o)
            for r in range(rows):
                tile[r * TILE :][: p1 - p0] = bias[o + r]
            accumulate(tile, rows, p1 - p0, flat_weight, o * depth, depth, np.int64(1), depth, columns, starts, zero)
            _put_outputs(tile, flat_y, o, rows, p0, p1)


@kernel()
def backward_input(grad: Array, weight: Array, geometry: Geometry, groups: int, images: int, grad_x: Array) -> None:
    """grad_x (N,C,H,W) from grad (N,O,OH,OW), weight (O,C/groups,kh,kw). A task is `images` images and one group."""
    n, filters, oh, ow = grad.shape
    _, channels, kh, kw = weight.shape
    depth, size, group_filters = channels * kh * kw, oh * ow, filters // groups
    starts, zero = runs(group_filters, TILE), np.int64(0)
    flat_weight, flat_grad = weight.reshape(weight.size), grad.reshape(n, filters, size)
    for task in prange((n + images - 1) // images * groups):
        i0, g = task // groups * images, task % groups
        i1, first = min(n, i0 + images), g * group_filters
        for i in range(i0, i1):
            grad_x[i, g * channels : (g + 1) * channels] = 0
        rows = np.empty(group_filters * TILE, np.float32)
        columns = np.empty((depth + 3) // 4 * 4 * TILE, np.float32)  # as accumulate wants
        for p0 in range(i0 * size, i1 * size, TILE):
            p1 = min(i1 * size, p0 + TILE)
            _gather_outputs(rows, flat_grad, first, group_filters, p0, p1)
            columns[:] = 0
            accumulate(
                columns, depth, p1 - p0, flat_weight, first * depth, np.int64(1), depth, group_filters, rows, starts,
                zero,
            )  # fmt: skip
            _scatter(columns, grad_x, g * channels, channels, kh, kw, oh, ow, p0, p1, geometry)


@kernel()
def backward_weight(grad: Array, x: Array, geometry: Geometry, groups: int, splits: int, parts: Array) -> None:
    """parts (P,O,C/groups,kh,kw) from grad (N,O,OH,OW), x (N,C,H,W): part i is the sum over the i-th run of positions.

    A task is one part, one group, and one of `splits` parts of the group's output channels.
    """
    n, filters, oh, ow = grad.shape
    count, _, channels, kh, kw = parts.shape
    depth, total, group_filters = channels * kh * kw, n * oh * ow, filters // groups
    part, position_blocks = blocks(group_filters, -(-group_filters // splits)), (total + TILE - 1) // TILE
    starts, zero = runs(depth, TILE), np.int64(0)
    flat_grad, flat_parts = grad.reshape(n, filters, oh * ow), parts.reshape(parts.size)
    for task in prange(count * groups * splits):
        run, g, split = task // (groups * splits), task // splits % groups, task % splits
        rows = min(part, group_filters - split * part)
        if rows > 0:
            first = g * group_filters + split * part
            target = flat_parts[(run * filters + first) * depth :][: rows * depth]
            target[:] = 0
            columns = np.empty(depth * TILE, np.float32)
            outputs = np.empty(rows * TILE, np.float32)
            for block in range(run * position_blocks // count, (run + 1) * position_blocks // count):
                p0 = block * TILE
                p1 = min(total, p0 + TILE)
                _gather(columns, x, g * channels, channels, kh, kw, oh, ow, p0, p1, geometry)
                _gather_outputs(outputs, flat_grad, first, rows, p0, p1)
                dots(target, depth, outputs, TILE, rows, columns, starts, zero, p1 - p0)
