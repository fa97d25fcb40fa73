"""The inverse error function and modified Bessel functions for arrays, which NumPy lacks.

All is computed in float64; the result has the type of x.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.backends.reference.erf import erf
from fastnn.backends.shapes import Array

__all__ = ["erfinv", "i0", "i1"]

# By w = -log(1 - x²), highest power first: below 5 in w - 2.5, else in sqrt(w) - 3; to 4e-7 (Giles 2012, table 5).
_NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip
_LARGE = 30.0  # from here on the asymptotic series of the Bessel functions is exact


def erfinv(x: Array) -> Array:
    """The number of which x is the error function, entry by entry; infinite at 1 and -1, NaN beyond.

    >>> float(erf(erfinv(np.array(0.5))))
    0.5
    """
    given = np.asarray(x)
    x = np.asarray(given, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = -np.log1p(-x * x)
        y = np.asarray(np.where(w < 5, np.polyval(_NEAR, w - 2.5), np.polyval(_FAR, np.sqrt(w) - 3)) * x)
        inside = np.abs(x) < 1
        for _ in range(5):  # Newton's steps, two where the start is good; by erfc where erf has no more digits
            z = y[inside]
            away = np.where(np.abs(x[inside]) < 0.5, erf(z) - x[inside], _away(z, x[inside]))
            y[inside] = z - away * (math.sqrt(math.pi) / 2) * np.exp(z * z)
    y = np.where(inside, y, np.where(np.abs(x) == 1, np.copysign(np.inf, x), np.nan))
    return y.astype(given.dtype if given.dtype.kind == "f" else np.float64)


def _away(z: Array, x: Array) -> Array:
    """erf(z) - x, by what both are short of 1."""
    short = np.fromiter(map(math.erfc, np.abs(z)), np.float64, z.size)
    return np.sign(x) * ((1 - np.abs(x)) - short)


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
