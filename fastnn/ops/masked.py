"""x[mask] while a plan is made: before there are values, nobody knows how many entries the mask picks.

All entries are computed with, and those that are not picked stand aside: they are not written and not summed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.errors import GraphError, ShapeError
from fastnn.ops.arithmetic import abs as absolute
from fastnn.ops.arithmetic import operand
from fastnn.ops.common import tensor_of
from fastnn.ops.elementwise import square
from fastnn.ops.joining import where
from fastnn.ops.reductions import sum as total
from fastnn.tape import tracer
from fastnn.tensors import Tensor

__all__ = ["Masked", "mask_in", "refuse", "written"]


def mask_in(key: Any) -> Tensor | None:
    """The mask that a key consists of, where a plan is to compute it."""
    if tracer() is None or not isinstance(key, Tensor) or not key.ndim:
        return None
    if key.dtype == np.bool_:
        return key
    return key.astype(np.bool_) if key.dtype == np.uint8 else None


def refuse(*_: Any, **__: Any) -> Any:
    """Raises GraphError: more is asked of the entries than can be said before there are values."""
    raise GraphError(
        "x[mask]: a plan is made before there are values, so it cannot know how many entries a mask picks: it adds, "
        "multiplies, sums, averages and writes them; else use fnn.where(mask, a, b) or x.masked_fill(mask, value), or "
        "leave the model uncompiled"
    )


class Masked:
    """The entries of `values` that `mask` picks: arithmetic with numbers and with what the same mask picks, sum, mean.

    Its operations have finite derivatives everywhere, so that entries aside bring none into the gradient.
    """

    def __init__(self, values: Tensor, mask: Tensor) -> None:
        if mask.shape != values.shape[: mask.ndim]:
            expected = values.shape[: mask.ndim]
            raise ShapeError(f"index: expected a mask of shape {expected}, got {mask.shape} (input is {values.shape})")
        self.values, self.mask, self.dtype = values, mask, values.dtype

    def _with(self, other: Any) -> Any:
        """The other operand, for all entries."""
        if isinstance(other, Masked) and other.mask is self.mask:
            return other.values
        return other if not isinstance(other, Masked) and tensor_of(other).ndim == 0 else refuse()

    def _like(self, values: Tensor) -> Masked:
        return Masked(values, self.mask)

    def __add__(self, other: Any) -> Masked:
        return self._like(self.values + self._with(other))

    def __sub__(self, other: Any) -> Masked:
        return self._like(self.values - self._with(other))

    def __mul__(self, other: Any) -> Masked:
        return self._like(self.values * self._with(other))

    def __truediv__(self, other: Any) -> Masked:
        return refuse() if isinstance(other, Masked) else self._like(self.values / self._with(other))

    def __rsub__(self, other: Any) -> Masked:
        return self._like(self._with(other) - self.values)

    def __neg__(self) -> Masked:
        return self._like(-self.values)

    def __pow__(self, exponent: Any) -> Masked:
        return self._like(self.values**exponent) if exponent in (1, 2, 3, 4) else refuse()

    __radd__, __rmul__, pow = __add__, __mul__, __pow__

    def abs(self) -> Masked:
        return self._like(absolute(self.values))

    __abs__ = abs

    def square(self) -> Masked:
        return self._like(square(self.values))

    def sum(self) -> Tensor:
        return total(where(self._spread(), self.values, 0))

    def mean(self) -> Tensor:
        """NaN where none is picked."""
        count = total(self.mask) * math.prod(self.values.shape[self.mask.ndim :])
        return self.sum() / count.astype(self.dtype)

    def _spread(self) -> Tensor:
        """The mask with dimensions of size 1 for those of the values that it says nothing about."""
        return self.mask.reshape(*self.mask.shape, *(1,) * (self.values.ndim - self.mask.ndim))

    __array__ = __len__ = __iter__ = __getitem__ = __bool__ = refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return refuse()


def written(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """x with `value` in the entries that the mask picks: a number, a row, or what the same mask has picked."""
    picked = Masked(x, mask)
    if isinstance(value, Masked):
        values = picked._with(value)
    else:
        values = tensor_of(operand(value, x))
        if values.ndim > x.ndim - mask.ndim:  # one for each entry that is picked
            refuse()
    return where(picked._spread(), values.astype(x.dtype), x)
