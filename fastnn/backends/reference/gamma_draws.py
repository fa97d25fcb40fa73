"""How draws of the gamma distribution change with its shape parameter, at a fixed cumulative probability.

With P(α, z) for that probability and p(z) for the density, dz/dα = -(∂P/∂α)/p(z): implicit reparametrisation
(Figurnov, Mohamed and Mnih 2018, arXiv:1805.08498). What is returned is d(log z)/dα, of log z, so that draws that are
too small for a float have it, too. With S = Γ(α)·eᶻ/zᵃ (a = α), which cancels:

- below the mean, P·S = Σ cₖ, cₖ = zᵏ/(α(α + 1)...(α + k)) (Abramowitz and Stegun 6.5.29), differentiated by terms;
- above it, (1 - P)·S is Legendre's continued fraction (A&S 6.5.31), differentiated from its tail on;
- for large α, the quantile's expansion in powers of α^(-1/2) (Cornish and Fisher; A&S 26.2.49).
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.backends.reference.gamma import polygamma
from fastnn.backends.shapes import Array

__all__ = ["log_gamma_draw", "log_slope"]

_LARGE = 1e4


def log_gamma_draw(source: np.random.Generator, alpha: Array) -> Array:
    """log z of draws z; float64, NaN where alpha is not above 0. Below 1 by z = z'·u^(1/α), z' of α + 1."""
    alpha = np.asarray(alpha, np.float64)
    small = alpha < 1
    raised = np.where(small, alpha + 1, alpha)
    valid = alpha > 0
    logs = np.log(source.standard_gamma(np.where(valid, raised, 1.0)))
    if small.any():
        logs = logs - np.where(small, source.standard_exponential(alpha.shape) / np.where(valid, alpha, 1.0), 0.0)
    return np.where(valid, logs, np.nan)


def log_slope(alpha: Array, log_z: Array) -> Array:
    """d(log z)/dα, in float64; relative error at most 1e-9.

    >>> round(float(log_slope(np.array(1.0), np.log(0.7))), 6)
    1.390312
    """
    alpha, log_z = np.broadcast_arrays(np.asarray(alpha, np.float64), np.asarray(log_z, np.float64))
    slopes, z = np.empty(alpha.shape), np.exp(log_z)
    large = alpha > _LARGE
    below = ~large & (z < np.maximum(alpha + 1, 3))
    above = ~(large | below)
    for where, rule in ((large, _by_quantile), (below, _by_series), (above, _by_fraction)):
        if where.any():
            slopes[where] = rule(alpha[where], z[where], log_z[where])
    return slopes


def _terms(alpha: Array) -> int:
    return 60 + int(9 * math.sqrt(alpha.max()))


def _by_series(alpha: Array, z: Array, log_z: Array) -> Array:
    psi, term = polygamma(0, alpha + 1), 1 / alpha
    total = term * (psi - log_z)
    for k in range(1, _terms(alpha)):
        psi, term = psi + 1 / (alpha + k), term * z / (alpha + k)
        total += term * (psi - log_z)
    return total


def _by_fraction(alpha: Array, z: Array, log_z: Array) -> Array:
    tail, slope = z + 1 - alpha, np.full(alpha.shape, -1.0)
    last = _terms(alpha)
    tail = tail + 2 * last
    for i in range(last, 0, -1):
        part = -i * (i - alpha) / tail
        slope = -1 + (i - part * slope) / tail
        tail = z + (2 * i - 1) - alpha + part
    return (log_z - polygamma(0, alpha) - slope / tail) / tail


def _by_quantile(alpha: Array, z: Array, log_z: Array) -> Array:
    """z as a function of α and of the standard normal u of the same probability, which is found first."""
    root = np.sqrt(alpha)
    u = 3 * root * (np.cbrt(z / alpha) - 1 + 1 / (9 * alpha))  # Wilson and Hilferty 1931
    for _ in range(2):
        value = alpha + root * u + (u**2 - 1) / 3 + (u**3 - 7 * u) / (36 * root)
        value -= (3 * u**4 + 7 * u**2 - 16) / (810 * alpha)
        u = u - (value - z) / (root + 2 * u / 3 + (3 * u**2 - 7) / (36 * root))
    slope = 1 + u / (2 * root) - (u**3 - 7 * u) / (72 * alpha * root) + (3 * u**4 + 7 * u**2 - 16) / (810 * alpha**2)
    return slope / z
