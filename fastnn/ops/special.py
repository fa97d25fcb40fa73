"""Functions of single entries that are made of other operators: special functions, angles, signs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.ops.arithmetic import abs as absolute
from fastnn.ops.arithmetic import common_type, mul, pow
from fastnn.ops.common import floating, tensor_of
from fastnn.ops.elementwise import atan2, logaddexp, maximum, sin, true_divide
from fastnn.ops.joining import where
from fastnn.ops.logic import eq, ge, gt, isinf, isnan, lt
from fastnn.tensors import Tensor

__all__ = [
    "copysign", "deg2rad", "float_power", "fmax", "fmin", "heaviside", "hypot", "logaddexp2", "rad2deg", "signbit",
    "sinc", "xlogy",
]  # fmt: skip


def _both(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    a, b = common_type((a, b))
    return floating(a), floating(b)


def xlogy(input: Any, other: Any) -> Tensor:
    """input · log(other), and 0 where the input is 0, unless other is NaN.

    >>> import fastnn as fnn
    >>> fnn.xlogy(fnn.tensor([0.0, 2.0]), fnn.tensor([0.0, 1.0]))
    Tensor([0., 0.])
    """
    a, b = _both(input, other)
    nothing = eq(a, 0) & (lt(b, 0) | eq(b, 0) | eq(b, math.inf))
    return where(nothing, 0.0, a * where(nothing, 1.0, b).log())


def sinc(input: Any) -> Tensor:
    """sin(πx)/(πx), and 1 at 0.

    >>> import fastnn as fnn
    >>> fnn.sinc(fnn.tensor([0.0, 0.5]))
    Tensor([1.        , 0.63661975])
    """
    angle = floating(input) * math.pi
    near = lt(absolute(angle), 0.25)  # where the quotient's derivative is a small difference of large numbers
    far, s = where(near, 1.0, angle), where(near, angle * angle, 0.0)
    series = 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110 * (1 - s / 156)))))
    return where(near, series, sin(far) / far)


def hypot(input: Any, other: Any) -> Tensor:
    """√(a² + b²), without overflow."""
    a, b = _both(input, other)
    most = maximum(absolute(a), absolute(b)).detach()
    beyond = isinf(a) | isinf(b)
    most = where(eq(most, 0) | beyond, 1.0, most)
    a, b = a / most, b / most
    return where(beyond, math.inf, (a * a + b * b).sqrt() * most)


def signbit(input: Any) -> Tensor:
    """Whether it is negative, or -0; booleans, off the tape."""
    x = tensor_of(input).detach()
    return lt(atan2(x, -1.0), 0) if x.dtype.kind == "f" else lt(x, 0)


def copysign(input: Any, other: Any) -> Tensor:
    """The magnitude of input with the sign of other; the gradient at 0 is 0."""
    a, b = _both(input, other)
    return absolute(a) * where(signbit(b), -1.0, 1.0)


def heaviside(input: Any, values: Any) -> Tensor:
    """0 below 0, 1 above it, `values` at 0; off the tape."""
    x, at = (each.detach() for each in common_type((input, values)))
    return where(eq(x, 0), at, gt(x, 0).astype(x.dtype))


def fmax(input: Any, other: Any) -> Tensor:
    """The larger of two entries, of a number and NaN the number; of equal ones the first takes the gradient."""
    a, b = common_type((input, other))
    return where(ge(a, b) | isnan(b), a, b)


def fmin(input: Any, other: Any) -> Tensor:
    """The smaller of two entries, of a number and NaN the number; of equal ones the first takes the gradient."""
    a, b = common_type((input, other))
    return where(ge(b, a) | isnan(b), a, b)


def float_power(input: Any, exponent: Any) -> Tensor:
    """input ** exponent in float64."""
    a, b = (tensor_of(each).astype(np.float64) for each in (input, exponent))
    return pow(a, b)


def deg2rad(input: Any) -> Tensor:
    """Degrees as radians."""
    return mul(floating(input), math.pi / 180)


def rad2deg(input: Any) -> Tensor:
    """Radians as degrees."""
    return mul(floating(input), 180 / math.pi)


def logaddexp2(input: Any, other: Any) -> Tensor:
    """log2(2^input + 2^other), without overflow."""
    a, b = _both(input, other)
    return true_divide(logaddexp(mul(a, math.log(2)), mul(b, math.log(2))), math.log(2))
