"""Entries put around a tensor: a constant, or what lies at its edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backends.checks import empty
from fastnn.checks import choice, number
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import number_as, sizes, tensor_of
from fastnn.ops.joining import Cat
from fastnn.ops.shaping import apart
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["pad"]


class Pad(Function):
    """x among entries of `value`. Attributes: before, after (how many, for each dimension), value."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, before: tuple[int, ...], after: tuple[int, ...], value: float) -> Array:
        y = empty(tuple(b + size + a for b, size, a in zip(before, x.shape, after, strict=True)), x.dtype)
        y.fill(value)
        y[inside(y.shape, before, after)] = x
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad[inside(grad.shape, ctx.attributes["before"], ctx.attributes["after"])]


def inside(shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]) -> tuple[slice, ...]:
    """Where a padded array of this shape holds the entries that it was made of."""
    return tuple(slice(b, size - a) for size, b, a in zip(shape, before, after, strict=True))


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """`input` with more entries before and after it, or fewer where the number is negative.

    Args:
        pad: how many before and after, first of the last dimension, then of the one before it: (left, right, top,
            bottom) for images.
        mode: "constant", "reflect" (mirrored at the entry at the edge, which is not repeated; fewer than the
            dimension's size), "replicate" (the entry at the edge again) or "circular" (from the other end).
        value: of "constant", 0 by default.

    Raises ArgumentError for an odd number of numbers or another mode, ShapeError for more than there are dimensions or
    entries.

    >>> import fastnn as fnn
    >>> fnn.ops.pad([[1.0, 2.0, 3.0]], (1, 2), "reflect")
    Tensor([[2., 1., 2., 3., 2., 1.]])
    >>> fnn.ops.pad([1.0, 2.0], (0, 1), value=9)
    Tensor([1., 2., 9.])
    """
    x = tensor_of(input)
    many = isinstance(pad, (Sequence, np.ndarray)) and not isinstance(pad, str) and getattr(pad, "ndim", 1) != 0
    if not many or len(pad) % 2:
        raise ArgumentError(f"pad: expected pairs of numbers, (left, right, top, bottom), got {pad!r}")
    counts = sizes("pad", pad, len(pad)) if len(pad) else ()
    if len(counts) > 2 * x.ndim:
        raise ShapeError(f"pad: expected at most {2 * x.ndim} numbers for input of shape {x.shape}, got {pad!r}")
    pairs = [(0, 0)] * (x.ndim - len(counts) // 2) + list(zip(counts[-2::-2], counts[::-2], strict=True))
    if any(size + before + after < 0 for size, (before, after) in zip(x.shape, pairs, strict=True)):
        raise ShapeError(f"pad: expected to take away fewer entries than there are, got {pad!r} for shape {x.shape}")
    if any(count < 0 for count in counts):
        x = x[tuple(slice(max(0, -b), size - max(0, -a)) for size, (b, a) in zip(x.shape, pairs, strict=True))]
        pairs = [(max(0, before), max(0, after)) for before, after in pairs]
    choice("pad", "mode", mode, ("constant", "reflect", "replicate", "circular"))
    if mode == "constant":
        if not (isinstance(value, (bool, np.bool_)) and x.dtype == np.bool_):
            value = number_as("pad", 0.0 if value is None else number("pad", "value", value, finite=False), x.dtype)
        if not any(map(any, pairs)):
            return apart(x, input)
        before, after = zip(*pairs, strict=True)
        return Pad.apply(x, before=before, after=after, value=value)
    if value not in (None, 0):
        raise ArgumentError(f"pad: expected a value with mode='constant' alone, got {value!r} with {mode!r}")
    for dim, pair in enumerate(pairs):
        if any(pair):
            x = _extended(x, dim, *pair, mode)
    return apart(x, input)


_BESIDE = {"reflect": 1, "replicate": None, "circular": 0}  # how many entries at the edge are not repeated


def _extended(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    size, left_out = x.shape[dim], _BESIDE[mode]
    if not size or (left_out is not None and max(before, after) > size - left_out):
        raise ShapeError(
            f"pad: expected padding by at most {size - (left_out or 0)} with {mode!r}, got {before, after}"
        )

    def part(start: int, stop: int, step: int = 1) -> Tensor:
        return x[(slice(None),) * dim + (slice(start, stop if stop >= 0 else None, step),)]

    if mode == "replicate":
        parts = [*[part(0, 1)] * before, x, *[part(size - 1, size)] * after]
    elif mode == "reflect":
        parts = [part(before, 0, -1), x, part(size - 2, size - 2 - after, -1)]
    else:
        parts = [part(size - before, size), x, part(0, after)]
    return Cat.apply(*(one for one in parts if one.shape[dim]), dim=dim)
