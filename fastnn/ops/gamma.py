"""The logarithm of the gamma function and its derivatives, which densities of the Gamma, Beta and Poisson kind need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.backends.reference import gamma
from fastnn.ops.common import floating
from fastnn.ops.names import of
from fastnn.tensors import Array, Context, Function, Tensor

if not TYPE_CHECKING:
    __all__ = of("gamma")


def _polygamma(n: int, x: Any) -> Any:
    """Of an array, or of a tensor where backward is differentiated."""
    return PolyGamma.apply(x, n=n) if isinstance(x, Tensor) else gamma.polygamma(n, x)


class LGamma(Function):
    """log |Γ(x)|. Saves x."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return gamma.lgamma(x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad * _polygamma(0, *ctx.saved_tensors)


class PolyGamma(Function):
    """The derivative of order n + 1 of log Γ. Saves x. Attribute: n."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, n: int) -> Array:
        ctx.save_for_backward(x)
        return gamma.polygamma(n, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad * _polygamma(ctx.attributes["n"] + 1, *ctx.saved_tensors)


def lgamma(input: Any) -> Tensor:
    """log |Γ(x)|, to 1e-15 in float64 (Abramowitz and Stegun, chapter 6); infinite at 0, -1, -2, ...

    >>> import fastnn as fnn
    >>> fnn.lgamma(fnn.tensor([1.0, 2.0, 5.0])).exp()  # 0!, 1!, 4!
    Tensor([ 1.,  1., 24.])
    """
    return LGamma.apply(floating(input))


def digamma(input: Any) -> Tensor:
    """The derivative of log |Γ(x)|; NaN at negative integers, infinite at 0.

    >>> import fastnn as fnn
    >>> fnn.digamma(fnn.tensor(1.0)).item()  # minus Euler's constant
    -0.577215...
    """
    return PolyGamma.apply(floating(input), n=0)
