"""The inverse of the error function, by which quantiles of normal distributions are found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.backends.reference.erf import erf as _erf
from fastnn.backends.reference.erf import erfc_tail
from fastnn.ops.common import floating
from fastnn.ops.names import of
from fastnn.tensors import Array, Context, Function, Tensor

if not TYPE_CHECKING:
    __all__ = of("inverse_erf")


class ErfInv(Function):
    """Saves the output."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = _inverse(x).astype(x.dtype)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (y,) = ctx.saved_tensors
        return grad * np.exp(y * y) * (math.sqrt(math.pi) / 2)


def _inverse(x: Array) -> Array:
    """Winitzki's approximation of 2008, with 0.002 relative error, and three steps of Halley's method; near ±1 on what
    is missing to 1, which keeps the digits that erf loses there."""
    x = np.asarray(x, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.log1p(-x * x)
        middle = 2 / (math.pi * 0.147) + rest / 2
        y = np.sqrt(np.sqrt(middle**2 - rest / 0.147) - middle)
        for _ in range(3):
            large = y > 1.25
            missing = 1 - np.abs(x) - erfc_tail(np.where(large, y, 2.0))
            away = np.where(large, missing, _erf(y) - np.abs(x)) * np.exp(y * y) * (math.sqrt(math.pi) / 2)
            y = y - np.nan_to_num(away / (1 + y * away))
        return np.copysign(np.where(np.abs(x) == 1, np.inf, y), x)


def erfinv(input: Any) -> Tensor:
    """The number whose error function is x, from -1 to 1; NaN for others.

    >>> import fastnn as fnn
    >>> fnn.erfinv(fnn.erf(fnn.tensor([0.0, 0.5], dtype=fnn.float64)))
    Tensor([0. , 0.5], dtype=float64)
    """
    return ErfInv.apply(floating(input))
