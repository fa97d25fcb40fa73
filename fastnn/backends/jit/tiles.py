"""The inner loops of the matrix product and of both convolution algorithms.

Whatever is multiplied is brought into one form: a matrix A in a flat buffer, given by start, row pitch and column
pitch, and a matrix B whose row k is a run of a flat buffer: b[starts[k] + shift:][:width]. For a matrix product these
are B's rows. For im2col they are the rows of a gathered matrix, one for each (channel, kernel row, kernel column). For
direct convolution they are shifted views of the image itself, laid out so that each is one run: no matrix.

Two inner loops do the work. Numba cannot keep a tile of C in registers, so
    accumulate  adds A B to a tile of C that lies in cache, four rows and four k at a time: the sixteen coefficients of
                A stay in registers, and sixteen products come of every eight vectors loaded;
    dots        makes A B^T of long rows: twelve sums, which do stay in registers, along the contiguous direction.
Slices, instead of sums in the index, let the compiler see that no index is negative; else nothing is vectorised.
Literal numbers among the arguments are types of their own to Numba: np.int64(1) instead, or all is compiled again.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from fastnn.backends.jit.compile import REORDERED, inner
from fastnn.backends.shapes import Array

TILE = 256  # columns of a tile of C, and the pitch of its rows
TILE_ROWS = 64
_DEPTH = 128  # k in one sweep over a tile: that part of B stays in the L2 cache

Geometry: TypeAlias = tuple[int, int, int, int, int, int]  # of a convolution: sh, sw, ph, pw, dh, dw


# ---- C += A B --------------------------------------------------------------------------------------------------------


@inner()
def accumulate(
    tile: Array, rows: int, width: int, a: Array, a_start: int, a_row: int, a_step: int, depth: int,
    b: Array, starts: Array, shift: int,
) -> None:  # fmt: skip
    """tile (rows, TILE)[:, :width] += A (rows, depth) B (depth, width).

    Where rows is not a multiple of four, the tile's next rows, up to one, are overwritten too.
    """
    for k0 in range(0, depth, _DEPTH):
        k1 = min(k0 + _DEPTH, depth)
        for r in range(0, rows, 4):
            # Of one to three rows that are left over, the last one is computed again in place of those that lack.
            last = rows - 1 - r
            a0 = a_start + r * a_row
            a1, a2, a3 = a0 + min(1, last) * a_row, a0 + min(2, last) * a_row, a0 + min(3, last) * a_row
            _four_rows(tile[r * TILE :], width, a, a0, a1, a2, a3, a_step, k0, k1, b, starts, shift)


@inner()
def _four_rows(
    tile: Array, width: int, a: Array, a0: int, a1: int, a2: int, a3: int, a_step: int, k0: int, k1: int,
    b: Array, starts: Array, shift: int,
) -> None:  # fmt: skip
    """tile (4, TILE)[:, :width] += A (4, K)[:, k0:k1] B, the rows of A beginning at a0 .. a3."""
    k = k0
    while k + 4 <= k1:
        i = k * a_step
        a00, a10, a20, a30 = a[a0 + i], a[a1 + i], a[a2 + i], a[a3 + i]
        i += a_step
        a01, a11, a21, a31 = a[a0 + i], a[a1 + i], a[a2 + i], a[a3 + i]
        i += a_step
        a02, a12, a22, a32 = a[a0 + i], a[a1 + i], a[a2 + i], a[a3 + i]
        i += a_step
        a03, a13, a23, a33 = a[a0 + i], a[a1 + i], a[a2 + i], a[a3 + i]
        b0 = b[starts[k] + shift :][:width]
        b1 = b[starts[k + 1] + shift :][:width]
        b2 = b[starts[k + 2] + shift :][:width]
        b3 = b[starts[k + 3] + shift :][:width]
        for j in range(width):
            tile[j] = tile[j] + a00 * b0[j] + a01 * b1[j] + a02 * b2[j] + a03 * b3[j]
            tile[TILE + j] = tile[TILE + j] + a10 * b0[j] + a11 * b1[j] + a12 * b2[j] + a13 * b3[j]
            tile[2 * TILE + j] = tile[2 * TILE + j] + a20 * b0[j] + a21 * b1[j] + a22 * b2[j] + a23 * b3[j]
            tile[3 * TILE + j] = tile[3 * TILE + j] + a30 * b0[j] + a31 * b1[j] + a32 * b2[j] + a33 * b3[j]
        k += 4
    while k < k1:
        i = k * a_step
        a00, a10, a20, a30 = a[a0 + i], a[a1 + i], a[a2 + i], a[a3 + i]
        b0 = b[starts[k] + shift :][:width]
        for j in range(width):
            tile[j] += a00 * b0[j]
            tile[TILE + j] += a10 * b0[j]
            tile[2 * TILE + j] += a20 * b0[j]
            tile[3 * TILE + j] += a30 * b0[j]
        k += 1


# ---- C += A B^T ------------------------------------------------------------------------------------------------------


@inner(REORDERED)
def _four_by_three(c: Array, c_row: int, a: Array, a_row: int, b0: Array, b1: Array, b2: Array, n: int) -> None:
    """C (4, 3) += A (4, n) B (3, n)^T, the rows of B being b0, b1, b2."""
    u0, u1, u2, u3 = a[:n], a[a_row:][:n], a[2 * a_row :][:n], a[3 * a_row :][:n]
    v0, v1, v2 = b0[:n], b1[:n], b2[:n]
    zero = np.float32(0)
    s00, s01, s02, s10, s11, s12 = zero, zero, zero, zero, zero, zero
    s20, s21, s22, s30, s31, s32 = zero, zero, zero, zero, zero, zero
    for j in range(n):
        s00 += u0[j] * v0[j]
        s01 += u0[j] * v1[j]
        s02 += u0[j] * v2[j]
        s10 += u1[j] * v0[j]
        s11 += u1[j] * v1[j]
        s12 += u1[j] * v2[j]
        s20 += u2[j] * v0[j]
        s21 += u2[j] * v1[j]
        s22 += u2[j] * v2[j]
        s30 += u3[j] * v0[j]
        s31 += u3[j] * v1[j]
        s32 += u3[j] * v2[j]
    i = 0
    for s0, s1, s2 in ((s00, s01, s02), (s10, s11, s12), (s20, s21, s22), (s30, s31, s32)):
        c[i] += s0
        c[i + 1] += s1
        c[i + 2] += s2
        i += c_row


@inner(REORDERED)
def _dot(u: Array, v: Array) -> np.float32:
    s = np.float32(0)
    for j in range(u.size):
        s += u[j] * v[j]
    return s


@inner()
def dots(
    c: Array, c_row: int, a: Array, a_row: int, rows: int, b: Array, starts: Array, shift: int, length: int
) -> None:
    """C (rows, K) += A (rows, length) B (K, length)^T. C and A begin where their buffers do."""
    whole_rows, whole_k = rows // 4 * 4, starts.size // 3 * 3
    for r in range(0, whole_rows, 4):
        for k in range(0, whole_k, 3):
            _four_by_three(
                c[r * c_row + k :], c_row, a[r * a_row :], a_row,
                b[starts[k] + shift :], b[starts[k + 1] + shift :], b[starts[k + 2] + shift :], length,
            )  # fmt: skip
    for r in range(rows):
        for k in range(whole_k if r < whole_rows else 0, starts.size):
            c[r * c_row + k] += _dot(a[r * a_row :][:length], b[starts[k] + shift :][:length])


# ---- rows of images --------------------------------------------------------------------------------------------------


@inner()
def copy_row(target: Array, row: Array, first: int, stride: int) -> None:
    """target[j] = row[first + j*stride], zero where that lies outside the row."""
    inside, end = _inside(target.size, row.size, first, stride)
    for j in range(inside):
        target[j] = 0
    if stride == 1:
        part, source = target[inside:end], row[first + inside :]
        for j in range(part.size):
            part[j] = source[j]
    else:
        for j in range(inside, end):
            target[j] = row[first + j * stride]
    for j in range(end, target.size):
        target[j] = 0


@inner()
def add_row(source: Array, row: Array, first: int, stride: int) -> None:
    """row[first + j*stride] += source[j] where that lies inside the row: copy_row, transposed."""
    inside, end = _inside(source.size, row.size, first, stride)
    if stride == 1:
        part, target = source[inside:end], row[first + inside :]
        for j in range(part.size):
            target[j] += part[j]
    else:
        for j in range(inside, end):
            row[first + j * stride] += source[j]


@inner()
def _inside(count: int, size: int, first: int, stride: int) -> tuple[int, int]:
    """The range of those j in 0 .. count-1 for which first + j*stride is in 0 .. size-1."""
    start, end = -first, size - first
    if stride > 1:  # a division takes as long as a short row
        start, end = (start + stride - 1) // stride, (end + stride - 1) // stride
    start = min(count, max(0, start))
    return start, max(start, min(count, end))


@inner()
def runs(count: int, pitch: int) -> Array:
    """The starts of the rows of a matrix: 0, pitch, 2*pitch, ..."""
    starts = np.empty(count, np.int64)
    for k in range(count):
        starts[k] = k * pitch
    return starts


@inner()
def blocks(n: int, most: int) -> int:
    """The size, a multiple of 8, of equal blocks of at most `most` that cover n."""
    count = max(1, (n + most - 1) // most)
    return ((n + count - 1) // count + 7) // 8 * 8
