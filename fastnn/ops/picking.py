"""What picks entries at places, writes them there, or adds them up: the operators behind fastnn/ops/places.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backends.checks import alike, first_of, is_alike
from fastnn.ops.common import sum_to
from fastnn.ops.keys import Key, added, filled, flat, spread
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["Pick", "PickRows", "Put", "Spread"]


class Pick(Function):
    """x[key] with the arrays of indices `places` in the key's slots. Saves the places, as they are and in the flattened
    array, and x's shape. Attribute: key."""

    @staticmethod
    def forward(ctx: Context, x: Array, *places: Array, key: Key) -> Array:
        found = flat(x.shape, key, places) if x.flags.c_contiguous else None
        ctx.save_for_backward(x.shape, found, *places)
        return x[filled(key, places)] if found is None else x.reshape(-1).take(found)

    @staticmethod
    def backward(ctx: Context, grad: Any) -> tuple[Any, ...]:
        shape, found, *places = ctx.saved_tensors
        none = [None] * len(places)
        if isinstance(grad, Tensor):
            return Spread.apply(grad, *places, key=ctx.attributes["key"], shape=shape), *none
        if found is None:
            return spread(grad, *places, key=ctx.attributes["key"], shape=shape), *none
        return added(grad, found, shape), *none


class PickRows(Function):
    """x (..., size) and places (..., count) -> (..., count): each row's entries at its places; kernels pick_rows and
    spread_rows. Saves the places and x's shape. In plans it is a Pick."""

    @staticmethod
    def forward(ctx: Context, x: Array, places: Array) -> Array:
        rows = places.reshape(-1, places.shape[-1]).astype(np.int64, copy=False)
        ctx.save_for_backward(x.shape, rows)
        y: Array = ctx.kernels.pick_rows(x.reshape(-1, x.shape[-1]), rows)
        return y.reshape(places.shape)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        shape, rows = ctx.saved_tensors
        grad = alike(first_of(grad), rows.shape) if is_alike(grad) else grad.reshape(rows.shape)
        return ctx.kernels.spread_rows(grad, rows, shape[-1]).reshape(shape), None


class Spread(Function):
    """The transpose of Pick: zeros of that shape, to which values are added at key; a place that comes twice gets both.
    Saves the places. Attributes: key, shape."""

    @staticmethod
    def forward(ctx: Context, values: Array, *places: Array, key: Key, shape: tuple[int, ...]) -> Array:
        ctx.save_for_backward(*places)
        return spread(values, *places, key=key, shape=shape)

    @staticmethod
    def backward(ctx: Context, grad: Any) -> tuple[Any, ...]:
        places, key = ctx.saved_tensors, ctx.attributes["key"]
        picked = Pick.apply(grad, *places, key=key) if isinstance(grad, Tensor) else grad[filled(key, places)]
        return picked, *[None] * len(places)


class Put(Function):
    """A copy of x in which x[key] = values, with the arrays of indices `places` in the key's slots; values broadcast.
    Saves the places and the values' shape. Attribute: key."""

    @staticmethod
    def forward(ctx: Context, x: Array, values: Array, *places: Array, key: Key) -> Array:
        ctx.save_for_backward(values.shape, *places)
        y = x.copy()
        y[filled(key, places)] = values
        return y

    @staticmethod
    def backward(ctx: Context, grad: Any) -> tuple[Any, ...]:
        shape, *places = ctx.saved_tensors
        key, none = ctx.attributes["key"], [None] * len(places)
        if isinstance(grad, Tensor):
            zero = Tensor(np.zeros((), grad.dtype))
            return Put.apply(grad, zero, *places, key=key), sum_to(Pick.apply(grad, *places, key=key), shape), *none
        full, kept = filled(key, places), grad.copy()
        kept[full] = 0
        # The values may have leading dimensions of size 1 that what they were written to has not.
        return kept, sum_to(grad[full], shape[len(shape) - grad[full].ndim :] if shape else ()).reshape(shape), *none
