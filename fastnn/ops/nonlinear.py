"""Activations that are made of other operators, and what drops whole channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.checks import flag, number
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.activations import dropout as drop_entries
from fastnn.ops.activations import elu, sigmoid, softmax, softplus, tanh
from fastnn.ops.arithmetic import abs as absolute
from fastnn.ops.common import axis, floating, weight_of
from fastnn.ops.draws import rand_like
from fastnn.ops.elementwise import clamp
from fastnn.ops.in_place import overwriting
from fastnn.ops.joining import where
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = [
    "alpha_dropout", "celu", "dropout1d", "dropout2d", "dropout3d", "glu", "gumbel_softmax", "hardshrink",
    "hardsigmoid", "hardtanh", "logsigmoid", "prelu", "rrelu", "selu", "softmin", "softshrink", "softsign",
    "tanhshrink", "threshold",
]  # fmt: skip

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv:1706.02515


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x between min_val and max_val; no gradient from there on.

    >>> import fastnn as fnn
    >>> fnn.ops.hardtanh([-3.0, 0.5, 3.0])
    Tensor([-1. ,  0.5,  1. ])
    """
    if inplace is not False:
        return overwriting("hardtanh", input, inplace, lambda x: hardtanh(x, min_val, max_val))
    x, low = floating(input), number("hardtanh", "min_val", min_val)
    high = number("hardtanh", "max_val", max_val, low)
    return where(x <= low, low, where(x >= high, high, x))


def hardsigmoid(input: Any, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6)/6."""
    if inplace is not False:
        return overwriting("hardsigmoid", input, inplace, hardsigmoid)
    return hardtanh(floating(input) + 3, 0, 6) / 6


def softsign(input: Any) -> Tensor:
    """x/(1 + |x|)."""
    x = floating(input)
    return x / (absolute(x) + 1)


def logsigmoid(input: Any) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return -softplus(-floating(input))


def tanhshrink(input: Any) -> Tensor:
    """x - tanh(x)."""
    x = floating(input)
    return x - tanh(x)


def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """x drawn towards 0 by lambd, and 0 where it would pass it."""
    x, lambd = floating(input), number("softshrink", "lambd", lambd, 0)
    return x - clamp(x, -lambd, lambd)


def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """x, and 0 where |x| ≤ lambd."""
    x = floating(input)
    return where(absolute(x) <= number("hardshrink", "lambd", lambd), 0.0, x)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is above threshold, value elsewhere."""
    if inplace is not False:
        return overwriting("threshold", input, inplace, lambda x: _above(x, threshold, value))
    return _above(input, threshold, value)


def _above(input: Any, threshold: float, value: float) -> Tensor:
    x = floating(input)
    return where(x <= number("threshold", "threshold", threshold), number("threshold", "value", value), x)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """max(x, 0) + min(alpha·(exp(x/alpha) - 1), 0) (Barron 2017)."""
    if inplace is not False:
        return overwriting("celu", input, inplace, lambda x: celu(x, alpha))
    alpha = number("celu", "alpha", alpha)
    return elu(floating(input) / alpha) * alpha if alpha != 1 else elu(floating(input))


def rrelu(
    input: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x where x > 0, elsewhere x times a number drawn from [lower, upper) for each entry in training, times their mean
    otherwise (Xu et al. 2015).
    """
    if inplace is not False:
        return overwriting("rrelu", input, inplace, lambda x: rrelu(x, lower, upper, training))
    x, lower, upper = floating(input), number("rrelu", "lower", lower), number("rrelu", "upper", upper)
    if lower > upper:
        raise ArgumentError(f"rrelu: expected lower of at most upper, got {lower} and {upper}")
    drawn = flag("rrelu", "training", training)
    return where(x > 0, x, x * (rand_like(x) * (upper - lower) + lower if drawn else (lower + upper) / 2))


def selu(input: Any, inplace: bool = False) -> Tensor:
    """1.0507·elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    if inplace is not False:
        return overwriting("selu", input, inplace, selu)
    return SELU.apply(floating(input)) if tracer() is None else composed_selu(input)


class SELU(Function):
    """Saves x; kernels elu_*. In plans it is composed of others."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        y: Array = ctx.kernels.elu_forward(x, _SELU_ALPHA)
        y *= _SELU_SCALE
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        grad_x: Array = ctx.kernels.elu_backward_input(grad, *ctx.saved_tensors, _SELU_ALPHA)
        grad_x *= _SELU_SCALE
        return grad_x


def composed_selu(input: Any) -> Tensor:
    """The same by operators that have derivatives of any order, and kernels in plans."""
    return elu(input, _SELU_ALPHA) * _SELU_SCALE


def prelu(input: Any, weight: Tensor) -> Tensor:
    """x where x > 0, weight·x elsewhere; weight (1,), or (C,) for the channels of (N, C, ...).

    Raises ShapeError for weights of another number.
    """
    weight = weight_of("prelu", "weight", weight)
    x = floating(input, weight.dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.numel() not in (1, channels):
        raise ShapeError(f"prelu: expected weight of shape (1,) or ({channels},), got {weight.shape}")
    slopes = weight.reshape(-1, *(1,) * max(0, x.ndim - 2)) if weight.numel() > 1 else weight
    return where(x > 0, x, slopes * x)


def glu(input: Any, dim: int = -1) -> Tensor:
    """a·sigmoid(b), where a and b are the halves along dim (Dauphin et al. 2017)."""
    x = floating(input)
    dim = axis("glu", dim, x.ndim)
    if x.shape[dim] % 2:
        raise ShapeError(f"glu: expected an even size along dimension {dim}, got {x.shape}")
    half, before = x.shape[dim] // 2, (slice(None),) * dim
    first, second = (*before, slice(half)), (*before, slice(half, None))
    return x[first] * sigmoid(x[second])


def softmin(input: Any, dim: int = -1) -> Tensor:
    """softmax(-x) along dim."""
    return softmax(-floating(input), dim)


# ---- dropout ---------------------------------------------------------------------------------------------------------


def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A draw from the classes of `logits` along dim, soft by the temperature `tau`: softmax((x + g)/tau), g being
    Gumbel's noise (Jang et al. 2017, arXiv:1611.01144). With `hard`, 1 at the largest entry and 0 elsewhere, with the
    gradient of the soft draw. `eps` is taken and ignored, as in PyTorch."""
    x = floating(logits)
    noise = -(-rand_like(x).clamp(min=float(np.finfo(x.dtype).tiny)).log()).log()
    soft = softmax((x + noise) / number("gumbel_softmax", "tau", tau, above=0), dim)
    if not flag("gumbel_softmax", "hard", hard):
        return soft
    largest = soft.argmax(dim, keepdim=True)
    return (soft * 0).detach().scatter(dim, largest, 1.0) - soft.detach() + soft


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of (N, C, L), or (C, L), zero with probability p, the others divided by 1 - p, in training."""
    return _drop_channels("dropout1d", 2, input, p, training, inplace)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of (N, C, H, W) zero with probability p, the others divided by 1 - p, in training; of (N, C, L),
    too, as in PyTorch (Tompson et al. 2015).
    """
    return _drop_channels("dropout2d", 0, input, p, training, inplace)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of (N, C, D, H, W), or (C, D, H, W), zero with probability p, the others divided by 1 - p."""
    return _drop_channels("dropout3d", 4, input, p, training, inplace)


def _drop_channels(op: str, single: int, input: Any, p: float, training: bool, inplace: bool = False) -> Tensor:
    """`single`: the number of dimensions that says that there is no batch."""
    x, p = floating(input), number(op, "p", p, 0, 1)
    if x.ndim < 2:
        raise ShapeError(f"{op}: expected input of shape (N, C, ...), got {x.shape}")
    if not flag(op, "training", training) or p == 0:
        return x
    if inplace is not False:
        return overwriting(op, input, inplace, lambda x: _drop_channels(op, single, x, p, True))
    first = 1 if x.ndim == single else 2
    return x * drop_entries(Tensor(np.ones((*x.shape[:first], *(1,) * (x.ndim - first)), x.dtype)), p)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Entries at SELU's lower bound with probability p, all then scaled and moved to keep mean 0 and variance 1
    (Klambauer et al. 2017); `input` itself unless training.
    """
    x, p = floating(input), number("alpha_dropout", "p", p, 0, 1)
    if not flag("alpha_dropout", "training", training) or p == 0:
        return x
    if inplace is not False:
        return overwriting("alpha_dropout", input, inplace, lambda x: alpha_dropout(x, p, True))
    if p == 1:
        return x * 0
    low = -_SELU_ALPHA * _SELU_SCALE
    a = ((1 - p) * (1 + p * low**2)) ** -0.5
    return where(rand_like(x) < p, low, x) * a - a * low * p
