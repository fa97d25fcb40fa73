"""Eager calls of the kernels that plans run one operator at a time (kernels/plan/operator.h)."""

from __future__ import annotations

import math

import numpy as np

from fastnn._kernels import contiguous, one_or_contiguous, operate
from fastnn.backends.checks import Array, empty
from fastnn.backends.reference import entries as reference

TOPK_MOST = 64  # of kernels/plan/operator.h, as is
SPREAD_SIZE = 2048


def _around(x: Array, dim: int) -> tuple[int, int, int]:
    return math.prod(x.shape[:dim]), x.shape[dim], math.prod(x.shape[dim + 1 :])


def function_forward(name: str, *arrays: Array) -> Array:
    y = empty(arrays[0].shape, arrays[0].dtype)
    if y.size:
        operate(name, (y.reshape(-1), *(contiguous(x).reshape(-1) for x in arrays)), shape=(y.size,))
    return y


def cumsum(x: Array, dim: int, reverse: bool = False) -> Array:
    y = empty(x.shape, x.dtype)
    operate("cumsum", (y, contiguous(x)), (*_around(x, dim), int(reverse)))
    return y


def prod_forward(x: Array, dim: int) -> Array:
    y = empty(x.shape[:dim] + x.shape[dim + 1 :], x.dtype)
    operate("prod", (y, contiguous(x)), _around(x, dim))
    return y


def prod_backward_input(grad: Array, x: Array, y: Array, dim: int) -> Array:
    grad_x = empty(x.shape, x.dtype)
    operate("prod_backward", (grad_x, contiguous(grad), contiguous(x), contiguous(y)), _around(x, dim))
    return grad_x


def topk(x: Array, count: int, smallest: bool = False) -> Array:
    if not 1 <= count <= min(TOPK_MOST, x.shape[1]):
        raise ValueError(f"topk: expected 1 to {min(TOPK_MOST, x.shape[1])} of {x.shape[1]} entries, got {count}")
    places = empty((len(x), count), np.dtype(np.int64))
    operate("topk", (places, contiguous(x)), (*x.shape, count, int(smallest)))
    return places


def embedding_backward_weight(grad: Array, index: Array, rows: int, padding_idx: int = -1) -> Array:
    grad_weight = empty((rows, grad.shape[1]), grad.dtype)
    sizes = len(index), grad.shape[1], rows, padding_idx
    if not operate("take_rows_backward", (grad_weight, contiguous(grad), contiguous(index)), sizes):
        raise IndexError(f"embedding_backward_weight: expected indices from 0 to {rows - 1}")
    return grad_weight


def pick_rows(x: Array, places: Array) -> Array:
    y = empty(places.shape, x.dtype)
    if not operate("pick_rows", (y, contiguous(x), contiguous(places)), (*x.shape, places.shape[1])):
        raise IndexError(f"pick_rows: expected places from 0 to {x.shape[1] - 1}")
    return y


def spread_rows(values: Array, places: Array, size: int) -> Array:
    if not 0 < size <= SPREAD_SIZE:
        return reference.spread_rows(values, places, size)
    y, values = empty((len(places), size), values.dtype), one_or_contiguous(values)
    sizes = len(places), size, places.shape[1], int(values.size < places.size)
    if not operate("spread_rows", (y, values, contiguous(places)), sizes):
        raise IndexError(f"spread_rows: expected places from 0 to {size - 1}")
    return y


def stacked_matmul(a: Array, b: Array) -> Array:
    alike = a.shape[:-2] == b.shape[:-2]
    stack = a.shape[:-2] if alike else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    if not a.size or not b.size:
        y.fill(0)
        return y
    a, b = (x if x.flags.aligned else x.copy() for x in (a, b))
    if not alike:
        a, b = (np.broadcast_to(x, stack + x.shape[-2:]) for x in (a, b))
    sizes = (*y.shape[-2:], a.shape[-1], *(stride // 4 for x in (a, b) for stride in x.strides[-2:]))
    operate("matmul", (y, a, b), sizes, shape=stack)
    return y
