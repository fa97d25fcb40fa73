"""The logarithm of the gamma function and its derivatives, which densities of the Gamma, Beta and Poisson kind need;
draws of the gamma and Dirichlet distributions, through which gradients flow to the parameters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import random
from fastnn.backends.reference import gamma as _gamma
from fastnn.backends.reference.gamma_draws import log_gamma_draw, log_slope
from fastnn.checks import whole
from fastnn.ops.common import floating
from fastnn.ops.names import of
from fastnn.tensors import Array, Context, Function, Tensor

if not TYPE_CHECKING:
    __all__ = of("gamma")


def _polygamma(n: int, x: Any) -> Any:
    """Of an array, or of a tensor where backward is differentiated."""
    return PolyGamma.apply(x, n=n) if isinstance(x, Tensor) else _gamma.polygamma(n, x)


class LGamma(Function):
    """log |Γ(x)|. Saves x."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return _gamma.lgamma(x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad * _polygamma(0, *ctx.saved_tensors)


class PolyGamma(Function):
    """The derivative of order n + 1 of log Γ. Saves x. Attribute: n."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, n: int) -> Array:
        ctx.save_for_backward(x)
        return _gamma.polygamma(n, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad * _polygamma(ctx.attributes["n"] + 1, *ctx.saved_tensors)


class StandardGamma(Function):
    """A draw of the gamma distribution with shape parameter x and rate 1 for each entry, never 0. Saves x, the draws
    and their logarithms; backward by implicit reparametrisation."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        logs = log_gamma_draw(random.next_generator(), x)
        draws = np.exp(logs)
        ctx.save_for_backward(x, draws, logs)
        return np.maximum(draws.astype(x.dtype), np.finfo(x.dtype).tiny)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        x, draws, logs = ctx.saved_tensors
        return (grad * (draws * log_slope(x, logs))).astype(grad.dtype)


class StandardDirichlet(Function):
    """Draws of the Dirichlet distribution with parameters x (..., K): gamma draws divided by their sum. Saves x, the
    draws and the gamma draws' logarithms; backward by implicit reparametrisation of these."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        logs = log_gamma_draw(random.next_generator(), x)
        shares = np.exp(logs - logs.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        ctx.save_for_backward(x, shares, logs)
        return np.maximum(shares.astype(x.dtype), np.finfo(x.dtype).tiny)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        x, shares, logs = ctx.saved_tensors
        centred = grad - (grad * shares).sum(-1, keepdims=True)
        return (centred * (shares * log_slope(x, logs))).astype(grad.dtype)


def lgamma(input: Any) -> Tensor:
    """log |Γ(x)|, to 1e-15 in float64 (Abramowitz and Stegun, chapter 6); infinite at 0, -1, -2, ...

    >>> import fastnn as fnn
    >>> fnn.lgamma(fnn.tensor([1.0, 2.0, 5.0])).exp()  # 0!, 1!, 4!
    Tensor([ 1.,  1., 24.])
    """
    return LGamma.apply(floating(input))


def polygamma(n: int, input: Any) -> Tensor:
    """The derivative of order n of `digamma`; as a method ``x.polygamma(n)``. NaN below 0 for n above 1.

    >>> import fastnn as fnn
    >>> fnn.polygamma(1, fnn.tensor(1.0)).item()  # π²/6
    1.644934...
    """
    n, input = (input, n) if isinstance(n, Tensor) else (n, input)
    return PolyGamma.apply(floating(input), n=whole("polygamma", "n", n, 0))


def mvlgamma(input: Any, p: int) -> Tensor:
    """The logarithm of the gamma function of p dimensions: p(p-1)/4·log π + the sum of lgamma(x - i/2), i < p.

    >>> import fastnn as fnn
    >>> fnn.mvlgamma(fnn.tensor([2.0]), 2)
    Tensor([0.45158267])
    """
    x, p = floating(input), whole("mvlgamma", "p", p, 1)
    y = p * (p - 1) / 4 * math.log(math.pi) + lgamma(x)
    for i in range(1, p):
        y = y + lgamma(x - i / 2)
    return y


def digamma(input: Any) -> Tensor:
    """The derivative of log |Γ(x)|; NaN at negative integers, infinite at 0.

    >>> import fastnn as fnn
    >>> fnn.digamma(fnn.tensor(1.0)).item()  # minus Euler's constant
    -0.577215...
    """
    return PolyGamma.apply(floating(input), n=0)
