"""Activations by their numbers in kernels/parts/kinds.h: those that have no kernel of their own name.

A new one is a number there, its formulas on vectors in kernels/parts/activation.h, and those here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.reference.activations import sigmoid_forward
from fastnn.backends.shapes import FLOATING, Array
from fastnn.errors import ArgumentError


def _softplus(x: Array) -> Array:
    """log(1 + exp(x)), and x itself above 20, as in PyTorch."""
    return np.where(x > 20, x, np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _mish_share(x: Array) -> tuple[Array, Array]:
    """tanh(softplus(x)) = n / (n + 2) with n = e·(e + 2), e = exp(x), and e; from 20 on it is 1."""
    e = np.exp(np.minimum(x, 20))
    n = e * (e + 2)
    return n / (n + 2), e


def _mish_slope(x: Array) -> Array:
    share, e = _mish_share(x)
    return share + np.minimum(x, 20) * (4 * e * (e + 1) / (e * (e + 2) + 2) ** 2)


FORMULAS: dict[int, tuple[str, Callable[[Array], Array], Callable[[Array], Array]]] = {  # name, f and its slope
    8: ("relu6", lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1, 0)),
    9: (
        "hardswish",  # Howard et al. 2019, https://arxiv.org/abs/1905.02244
        lambda x: x * (np.clip(x + 3, 0, 6) / 6),
        lambda x: np.where(x <= -3, 0, np.where(x < 3, x / 3 + 0.5, 1)),
    ),
    10: ("softplus", _softplus, lambda x: np.where(x > 20, 1, sigmoid_forward(x))),
    11: ("mish", lambda x: x * _mish_share(x)[0], _mish_slope),  # Misra 2019, https://arxiv.org/abs/1908.08681
}


def name_of(kind: int) -> str:
    """The activation's name; ArgumentError for a number that has none."""
    if kind not in FORMULAS:
        raise ArgumentError(f"activation: expected one of the kinds {sorted(FORMULAS)}, got {kind!r}")
    return FORMULAS[kind][0]


def activation_forward(x: Array, kind: int, *, out: Array | None = None) -> Array:
    """f(x) of the activation of that number.

    >>> activation_forward(np.array([-1.0, 2.0, 7.0]), 8)
    array([0., 2., 6.])
    """
    y = shapes.elementwise(name_of(kind), x, None, out, FLOATING)
    y[...] = FORMULAS[kind][1](x)
    return y


def activation_backward_input(grad: Array, x: Array, kind: int, *, out: Array | None = None) -> Array:
    """grad * f'(x). x is the input."""
    grad_x = shapes.elementwise(f"{name_of(kind)}_backward_input", grad, x, out, FLOATING)
    grad_x[...] = grad * FORMULAS[kind][2](x)
    return grad_x
