"""Modified Bessel functions for arrays, which NumPy lacks.

All is computed in float64; the result has the type of x.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.backends.shapes import Array

__all__ = ["i0", "i1"]

_LARGE = 30.0  # from here on the asymptotic series of the Bessel functions is exact


def i0(x: Array) -> Array:
    """The modified Bessel function of the first kind and of order 0.

    >>> float(i0(np.array(0.0)))
    1.0
    """
    return _bessel(0, x)


def i1(x: Array) -> Array:
    """The modified Bessel function of the first kind and of order 1, the derivative of i0."""
    return _bessel(1, x)


def _bessel(order: int, x: Array) -> Array:
    """Abramowitz and Stegun, 9.6.10, and 9.7.1 for large arguments."""
    given = np.asarray(x)
    x = np.asarray(given, np.float64)
    a = np.abs(x)
    low, high = np.minimum(a, _LARGE), np.maximum(a, _LARGE)
    term = (low / 2) ** order
    near = term.copy()
    for k in range(1, 80):
        term = term * (low / 2) ** 2 / (k * (k + order))
        near += term
    term = np.ones_like(high)
    far = term.copy()
    for k in range(1, 25):
        term = term * ((2 * k - 1) ** 2 - 4 * order**2) / (8 * k * high)
        far += term
    with np.errstate(over="ignore", invalid="ignore"):
        half = np.exp(high / 2)
        large = np.where(np.isinf(high), np.inf, half * (far / np.sqrt(2 * math.pi * high)) * half)
    y = np.where(a <= _LARGE, near, np.where(np.isnan(a), np.nan, large))
    y = np.copysign(y, x) if order else y
    return y.astype(given.dtype if given.dtype.kind == "f" else np.float64)
