"""The logarithm of the gamma function and its derivatives for arrays, which NumPy lacks.

Abramowitz and Stegun, chapter 6: large arguments by the asymptotic series, smaller ones brought there by recurrence,
negative ones by reflection. Between 0 and 2.5, where lgamma has its zeros, it is the Taylor series around 2, whose
coefficients are the derivatives themselves. All in float64, to about 1e-15; the result has the type of x.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from fastnn.backends.shapes import Array

__all__ = ["lgamma", "polygamma"]

# B_2, B_4, ... (A&S 23.1.3).
_BERNOULLI = (
    1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330,
)  # fmt: skip
_LARGE = 10.0  # from here on ten terms of the asymptotic series of lgamma and digamma are exact
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def lgamma(x: Array) -> Array:
    """log |Γ(x)|, entry by entry; infinite at 0 and at negative integers.

    >>> round(float(np.exp(lgamma(np.array(5.0)))), 12)  # 4!
    24.0
    """
    given = np.asarray(x)
    x = np.asarray(given, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        positive = np.where(x > 0, x, 1 - x)
        y, near = np.empty(x.shape), positive < 2.5
        y[near], y[~near] = _lgamma_near(positive[near]), _lgamma_far(positive[~near])
        y = np.where(x > 0, y, np.log(math.pi / np.abs(np.sin(math.pi * (x - np.rint(x))))) - y)  # A&S 6.1.17
        y = np.where(np.isinf(x), np.inf, y)
    return y.astype(given.dtype if given.dtype.kind == "f" else np.float64)


def polygamma(n: int, x: Array) -> Array:
    """The derivative of order n + 1 of log Γ, entry by entry; 0 is digamma, 1 trigamma. NaN at negative integers, and,
    for n above 1, at all negative numbers.

    >>> float(polygamma(0, np.array(1.0)))  # minus Euler's constant
    -0.5772156649015...
    """
    given = np.asarray(x)
    x = np.asarray(given, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        positive = np.where(x > 0, x, 1 - x if n < 2 else np.nan)
        y = _digamma(positive) if n == 0 else _polygamma(n, positive)
        if n < 2 and not (x > 0).all():
            angle = math.pi * (x - np.rint(x))
            mirrored = y - math.pi / np.tan(angle) if n == 0 else (math.pi / np.sin(angle)) ** 2 - y  # A&S 6.4.7
            mirrored = np.where(angle == 0, np.where(x == 0, -np.copysign(np.inf, x), np.nan), mirrored)
            y = np.where(x > 0, y, mirrored if n == 0 else np.abs(mirrored))
    return y.astype(given.dtype if given.dtype.kind == "f" else np.float64)


@functools.cache
def _taylor() -> tuple[float, ...]:
    """Of lgamma around 2: 0 and ψ⁽ᵏ⁻¹⁾(2)/k!, as far as it matters at a distance of 1/2."""
    two = np.array(2.0)
    return (0.0, *(float(polygamma(k - 1, two)) / math.factorial(k) for k in range(1, 28)))


def _lgamma_near(x: Array) -> Array:
    """For x up to 2.5; Γ(x) = Γ(x + 1)/x brings smaller ones to within 1/2 of 2."""
    away = x - np.add(x >= 0.5, x >= 1.5, dtype=np.float64)  # exact
    y = np.polynomial.polynomial.polyval(away, _taylor())
    y = np.where(x < 1.5, y - np.log1p(np.where(x < 0.5, x, x - 1)), y)
    return np.where(x < 0.5, y - np.log(x), y)


def _lgamma_far(x: Array) -> Array:
    product = np.ones(x.shape)
    for _ in range(int(_LARGE) - 2):
        rises = x < _LARGE
        product, x = np.where(rises, product * x, product), np.where(rises, x + 1, x)
    inverse = 1 / (x * x)
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, 1)]  # A&S 6.1.40
    series = np.polynomial.polynomial.polyval(inverse, terms) / x
    return (x - 0.5) * (np.log(x) - 1) + (_HALF_LOG_2PI - 0.5) + series - np.log(product)


def _digamma(x: Array) -> Array:
    y = np.zeros(x.shape)
    for _ in range(int(_LARGE)):
        rises = x < _LARGE
        y, x = np.where(rises, y - 1 / x, y), np.where(rises, x + 1, x)
    inverse = 1 / (x * x)
    terms = [b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)]  # A&S 6.3.18
    return y + np.log(x) - 0.5 / x - inverse * np.polynomial.polynomial.polyval(inverse, terms)


def _polygamma(n: int, x: Array) -> Array:
    """(-1)ⁿ⁺¹ n! Σ (x + i)⁻ⁿ⁻¹ (A&S 6.4.10), the tail by 6.4.11."""
    enough, sums = _LARGE + n, np.zeros(x.shape)
    for _ in range(int(enough)):
        rises = x < enough
        sums, x = np.where(rises, sums + x ** (-n - 1.0), sums), np.where(rises, x + 1, x)
    tail = x**-n / n + 0.5 * x ** (-n - 1.0)
    for k, b in enumerate(_BERNOULLI, 1):
        rise = math.prod(range(2 * k + 1, 2 * k + n)) if n > 1 else 1  # (2k + n - 1)!/(2k)!
        tail = tail + b * rise / math.factorial(n) * x ** -(2.0 * k + n)
    # As a float: a whole number above 64 bits makes objects of NumPy 1's arrays.
    return (-1) ** (n + 1) * float(math.factorial(n)) * (sums + tail)
