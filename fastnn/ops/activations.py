"""Activations, element by element; softmax and its logarithm along one dimension; dropout.

With `inplace` the input itself goes on as the result. An activation's `kind` is its number in kernels/parts/kinds.h, by
which fused kernels know it; its parameter is its only attribute.
"""

from __future__ import annotations

import math
from typing import Any

from fastnn import random
from fastnn.checks import choice, flag, number
from fastnn.ops.common import axis, floating
from fastnn.ops.in_place import overwriting
from fastnn.ops.joining import where
from fastnn.tensors import Array, Context, Function, Tensor


class ReLU(Function):
    """Saves the output, which has the same mask and which the next layer keeps anyway; kernels relu_*."""

    kind = 1

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = ctx.kernels.relu_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.relu_backward_input(grad, *ctx.saved_tensors)


class LeakyReLU(Function):
    """Saves x; kernels leaky_relu_*. Attribute: negative_slope."""

    kind = 2

    @staticmethod
    def forward(ctx: Context, x: Array, *, negative_slope: float) -> Array:
        ctx.save_for_backward(x)
        return ctx.kernels.leaky_relu_forward(x, negative_slope)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.leaky_relu_backward_input(grad, *ctx.saved_tensors, ctx.attributes["negative_slope"])


class ELU(Function):
    """Saves x; kernels elu_*. Attribute: alpha."""

    kind = 5

    @staticmethod
    def forward(ctx: Context, x: Array, *, alpha: float) -> Array:
        ctx.save_for_backward(x)
        return ctx.kernels.elu_forward(x, alpha)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.elu_backward_input(grad, *ctx.saved_tensors, ctx.attributes["alpha"])


class Sigmoid(Function):
    """Saves the output; kernels sigmoid_*."""

    kind = 4

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = ctx.kernels.sigmoid_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.sigmoid_backward_input(grad, *ctx.saved_tensors)


class Tanh(Function):
    """Saves the output; kernels tanh_*."""

    kind = 3

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = ctx.kernels.tanh_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.tanh_backward_input(grad, *ctx.saved_tensors)


class GELU(Function):
    """Saves x; kernels gelu_*."""

    kind = 6

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return ctx.kernels.gelu_forward(x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.gelu_backward_input(grad, *ctx.saved_tensors)


class SiLU(Function):
    """Saves x; kernels silu_*."""

    kind = 7

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return ctx.kernels.silu_forward(x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.silu_backward_input(grad, *ctx.saved_tensors)


class _ByKind:
    """Saves x; kernels activation_*, by the kind."""

    kind: int

    @classmethod
    def forward(cls, ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return ctx.kernels.activation_forward(x, cls.kind)

    @classmethod
    def backward(cls, ctx: Context, grad: Array) -> Array:
        return ctx.kernels.activation_backward_input(grad, *ctx.saved_tensors, cls.kind)


class ReLU6(_ByKind, Function):
    kind = 8


class Hardswish(_ByKind, Function):
    kind = 9


class Softplus(_ByKind, Function):
    kind = 10


class Mish(_ByKind, Function):
    kind = 11


class Softmax(Function):
    """x (N, C) -> (N, C), along C. Saves the output; kernels softmax_*."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = ctx.kernels.softmax_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.softmax_backward_input(grad, *ctx.saved_tensors)


class LogSoftmax(Function):
    """x (N, C) -> (N, C), along C. Saves the output; kernels log_softmax_*."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        y = ctx.kernels.log_softmax_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.log_softmax_backward_input(grad, *ctx.saved_tensors)


class Dropout(Function):
    """Each call of forward takes new random numbers. Saves (seed, stream), which say what was dropped; kernel
    dropout_forward, both ways.

    Attribute: p.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, *, p: float) -> Array:
        ctx.save_for_backward(*random.next_stream())
        return ctx.kernels.dropout_forward(x, p, *ctx.saved_tensors)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.dropout_forward(grad, ctx.attributes["p"], *ctx.saved_tensors)


KINDS: dict[type[Function], int] = {each: each.kind for each in list(vars().values()) if hasattr(each, "kind")}


def relu(input: Any, inplace: bool = False) -> Tensor:
    """max(x, 0).

    >>> import fastnn as fnn
    >>> fnn.ops.relu([-1.0, 2.0])
    Tensor([0., 2.])
    """
    if inplace is not False:
        return overwriting("relu", input, inplace, relu)
    return ReLU.apply(floating(input))


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, negative_slope·x elsewhere."""
    if inplace is not False:
        return overwriting("leaky_relu", input, inplace, lambda x: leaky_relu(x, negative_slope))
    return LeakyReLU.apply(floating(input), negative_slope=number("leaky_relu", "negative_slope", negative_slope))


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, alpha·(exp(x) - 1) elsewhere."""
    if inplace is not False:
        return overwriting("elu", input, inplace, lambda x: elu(x, alpha))
    return ELU.apply(floating(input), alpha=number("elu", "alpha", alpha))


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return Sigmoid.apply(floating(input))


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh.apply(floating(input))


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """x·Φ(x), with the normal distribution's exact Φ (by erf), or with `approximate` "tanh" near it:
    x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 (Hendrycks and Gimpel 2016).
    """
    x = floating(input)
    if isinstance(approximate, str) and approximate == "none":
        return GELU.apply(x)
    choice("gelu", "approximate", approximate, ("none", "tanh"))
    return x * sigmoid(x * (x * x * 0.044715 + 1) * math.sqrt(8 / math.pi))  # (1 + tanh(u))/2 = sigmoid(2u)


def silu(input: Any, inplace: bool = False) -> Tensor:
    """x·sigmoid(x)."""
    if inplace is not False:
        return overwriting("silu", input, inplace, silu)
    return SiLU.apply(floating(input))


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    if inplace is not False:
        return overwriting("relu6", input, inplace, relu6)
    return ReLU6.apply(floating(input))


def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """x·min(max(x + 3, 0), 6)/6."""
    if inplace is not False:
        return overwriting("hardswish", input, inplace, hardswish)
    return Hardswish.apply(floating(input))


def mish(input: Any, inplace: bool = False) -> Tensor:
    """x·tanh(softplus(x))."""
    if inplace is not False:
        return overwriting("mish", input, inplace, mish)
    return Mish.apply(floating(input))


def softplus(input: Any, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta·x))/beta, and x itself where beta·x > threshold.

    >>> import fastnn as fnn
    >>> fnn.ops.softplus([-1000.0, 100.0])
    Tensor([  0., 100.])
    """
    x, beta = floating(input), number("softplus", "beta", beta)
    threshold = number("softplus", "threshold", threshold)
    scaled = x if beta == 1 else x * beta
    y = Softplus.apply(scaled)
    y = y if beta == 1 else y / beta
    return y if threshold == 20 else where(scaled > threshold, x, y)


def softmax(input: Any, dim: int = -1, *, axis: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along dim, of any shape; stable for large entries. `axis` is NumPy's name for dim.

    >>> import fastnn as fnn
    >>> fnn.ops.softmax([[0.0, 0.0], [1e4, -1e4]])
    Tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    return _along(Softmax, "softmax", input, dim if axis is None else axis, dtype)


def log_softmax(input: Any, dim: int = -1, *, axis: int | None = None, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along dim, of any shape; stable for large entries. `axis` is NumPy's name for dim."""
    return _along(LogSoftmax, "log_softmax", input, dim if axis is None else axis, dtype)


def _along(function: type[Function], op: str, x: Any, dim: int, dtype: Any) -> Tensor:
    """The kernels take matrices and go along the rows: bring any other shape into that form and back."""
    x = floating(x) if dtype is None else floating(x).to(dtype)
    dim = axis(op, dim, x.ndim)
    if x.numel() == 0:
        return x
    if x.ndim == 2 and dim == 1:
        return function.apply(x)
    if dim == x.ndim - 1:
        return function.apply(x.reshape(-1, x.shape[dim])).reshape(x.shape)
    moved = x.transpose(dim, x.ndim - 1)
    return function.apply(moved.reshape(-1, moved.shape[-1])).reshape(moved.shape).transpose(dim, x.ndim - 1)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each entry zero with probability p, the others divided by 1 - p; `input` itself unless training.

    Every call takes new random numbers (`fnn.manual_seed` starts them afresh). Raises ArgumentError unless 0 ≤ p ≤ 1.
    """
    p = number("dropout", "p", p, 0, 1)
    x = floating(input)
    if not (training is True or flag("dropout", "training", training)) or p == 0:
        return x
    if inplace is not False:
        return overwriting("dropout", input, inplace, lambda x: dropout(x, p))
    return Dropout.apply(x, p=p)
